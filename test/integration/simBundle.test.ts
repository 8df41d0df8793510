import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parsePoint } from "../../src/sim/point.ts";
import { runPoint } from "../../src/sim/run.ts";

const bundle = new URL("../../dist/sim/run.js", import.meta.url);
const errors = new URL("../../dist/errors.js", import.meta.url);

/** The engine is shipped as one module in which constants are numbers (scripts/bundleSim.mjs). */
describe("the bundled simulator", () => {
  test("gives the results of the sources", async () => {
    const built = (await import(bundle.href)) as { runPoint: typeof runPoint };
    for (const [design, workload] of [
      ["netpopcorn", "web-epoll"],
      ["linux", "web-accept"],
      ["mtcp", "proxy"],
    ]) {
      const point = parsePoint({ design, workload, cores: 2, concurrency: 60, durationS: 0.01, traceMs: 0.2 });
      expect(await built.runPoint(point), `${design} ${workload}`).toEqual(await runPoint(point));
    }
  });

  test("throws the package's own errors", async () => {
    const built = (await import(bundle.href)) as { runPoint: typeof runPoint };
    const { NetPopcornError } = (await import(errors.href)) as { NetPopcornError: new () => Error };
    const point = parsePoint({ design: "netpopcorn", workload: "web-epoll", cores: 1 });
    await expect(built.runPoint(point, { signal: AbortSignal.abort() })).rejects.toBeInstanceOf(NetPopcornError);
  });

  test("has numbers for the constants that packets are handled with", () => {
    const text = readFileSync(bundle, "utf8");
    expect(text).toMatch(/ServerKernel = class/);
    for (const name of ["KIND_SHIFT", "SLOT_MASK", "HALF_OPEN", "EVENT_WORDS", "HEADER_WORDS", "FRAME_OFFSET"]) {
      expect(text).not.toMatch(new RegExp(`\\b${name}\\b`));
    }
  });
});
