import { expect, test } from "vitest";
import { parsePoint } from "../../../src/sim/point.ts";
import { runPoint } from "../../../src/sim/run.ts";

const THREADS = { design: "linux", cores: 8, workload: "rpc", machine: "e5-2690", timeWaitS: 0 } as const;

// All SYNs come within a millisecond. Who owns the listener then went on for as long as there were any.
test("who owns a listener takes so much of its backlog at most, from 2.6.34 on", async () => {
  const burst = { design: "linux", cores: 8, protocol: "ab", abConnections: 2000, concurrency: 2000 } as const;
  const lost = async (os: "2.6.24" | "3.2") => {
    const { failedConnections, losses } = await runPoint(parsePoint({ ...burst, procsPerCore: 4, os }));
    expect(failedConnections).toBe(0);
    return losses.backlogFull;
  };
  expect(await lost("2.6.24")).toBe(0);
  expect(await lost("3.2")).toBeGreaterThan(100);
});

test("release_sock has softirqs off: no packet between those of the backlog", async () => {
  const { trace } = await runPoint(parsePoint({ ...THREADS, concurrency: 400, durationS: 0.02, traceMs: 10 }));
  const before = new Map<number, string[]>();
  let backlogs = 0;
  for (const { name, tid } of trace) {
    const [second, first] = before.get(tid) ?? [];
    if (name === "release_sock" && first === "release_sock") backlogs++;
    expect([second, first, name]).not.toEqual(["release_sock", "packet", "release_sock"]);
    before.set(tid, [first ?? "", name]);
  }
  expect(backlogs).toBeGreaterThan(100);
});
