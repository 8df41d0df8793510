import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { createProgram } from "../../../../src/cli/main.ts";
import { integerListOption, listOption } from "../../../../src/cli/sim/definition.ts";
import { planPoints, type SimCommandOptions } from "../../../../src/cli/sim/plan.ts";
import { headerLine, recordOf, rowLine } from "../../../../src/cli/sim/rows.ts";
import { parsePoint } from "../../../../src/sim/point.ts";
import { traceDocument } from "../../../../src/sim/sweep/trace.ts";
import { sampleResult } from "../../../helpers/sampleResult.ts";

/** Options of a `sim` command line as its action gets them. */
function parse(...args: string[]): SimCommandOptions {
  const program = createProgram();
  let options: unknown;
  for (const command of program.commands) {
    command.action((_options: unknown, parsed: Command) => {
      options = parsed.opts();
    });
  }
  program.parse(["sim", ...args], { from: "user" });
  return options as SimCommandOptions;
}

describe("points", () => {
  test("by default are five designs on as many cores as the machine has", async () => {
    const points = await planPoints(parse());
    expect(points).toHaveLength(5 * 8);
    expect(points.map(({ cores }) => cores).slice(0, 8)).toEqual([1, 2, 4, 8, 12, 16, 20, 24]);
    expect(new Set((await planPoints(parse("--machine", "e5-2690"))).map(({ cores }) => cores))).toEqual(
      new Set([1, 2, 4, 8]),
    );
  });

  test("have the constants of every --set, the later of two with one name", () => {
    const { set } = parse("--set", "linkGbps=40,wireUs=1", "--set", "clockGhz=3", "--set", "wireUs=2");
    expect([...(set ?? [])]).toEqual([
      ["linkGbps", 40],
      ["wireUs", 2],
      ["clockGhz", 3],
    ]);
  });

  test("have constants that are written with an exponent", () => {
    const { set } = parse("--set", "nicPacketsPerSec=1e9,wireUs=2.5E-1,clockGhz=0.3e+1");
    expect(Object.fromEntries(set ?? [])).toEqual({ nicPacketsPerSec: 1e9, wireUs: 0.25, clockGhz: 3 });
    for (const value of ["e9", "1e", "1e9.5", "1e999", "-1e3", "0x10"]) {
      expect(() => parse("--set", `wireUs=${value}`), value).toThrow("wireUs must be a number");
    }
  });

  test("are as asked for: every option reaches the point", async () => {
    const [point] = await planPoints(
      parse(
        ...["--design", "fastsocket", "--cores", "12", "--workload", "proxy", "--machine", "e5-2697v2"],
        ...["--app-cycles", "1000", "--procs-per-core", "2", "--requests-per-conn", "3", "--file-opens", "4"],
        ...["--message-bytes", "100", "--response-bytes", "200", "--think-ms", "5,0", "--protocol", "ab"],
        ...["--ab-connections", "5000", "--duration", "1.5", "--concurrency", "77", "--arrivals", "900"],
        ...["--backlog", "64", "--policy", "angel", "--os", "3.13", "--time-wait", "1", "--skew", "205:0.8"],
        ...["--background", "2:0.5", "--no-vfs-bypass", "--seed", "9", "--explain", "--client-timeout", "7"],
        ...[
          "--accepts-per-event",
          "5",
          "--listen-addresses",
          "3",
          "--threads",
          "--defer-accept",
          "--set",
          "linkGbps=40,syscallCycles=99",
        ],
      ),
    );
    expect(point).toMatchObject({
      ...{ design: "fastsocket", cores: 12, workload: "proxy", appCycles: 1000, procsPerCore: 2 },
      ...{ requestsPerConn: 3, fileOpensPerRequest: 4, messageBytes: 100, responseBytes: 200, thinkMs: [5, 0] },
      ...{ protocol: "ab", abConnections: 5000, durationS: 1.5, concurrency: 77, arrivalsPerSec: 900, backlog: 64 },
      ...{ policy: "angel", os: "3.13", timeWaitS: 1, skew: { hotGroups: 205, hotShare: 0.8 } },
      ...{ background: { cores: 2, share: 0.5 }, vfsBypass: false, seed: 9, clientTimeoutS: 7, acceptsPerEvent: 5 },
      ...{ listenAddresses: 3, sharedFdTable: true, deferAccept: true },
    });
    expect(point?.traceMs).toBeGreaterThan(0);
    expect(point?.machine).toMatchObject({
      name: "e5-2697v2",
      constants: { linkGbps: { value: 40, unit: "Gbit/s" }, syscallCycles: { value: 99 }, clockGhz: { value: 2.7 } },
    });
  });

  test("other work on more cores than a point has is on all of its", async () => {
    const points = await planPoints(parse("--design", "linux", "--cores", "1,4", "--background", "2:0.5"));
    expect(points.map(({ background }) => background.cores)).toEqual([1, 2]);
  });

  test("cores rise, each once; designs stay in order", async () => {
    const points = await planPoints(parse("--design", "netpopcorn,linux,netpopcorn", "--cores", "8,2,8"));
    expect(points.map(({ design, cores }) => `${design} ${cores}`)).toEqual([
      "netpopcorn 2",
      "netpopcorn 8",
      "linux 2",
      "linux 8",
    ]);
  });
});

test("lists are read word by word", () => {
  expect(listOption("--design", ["a", "b"])("b, a")).toEqual(["b", "a"]);
  expect(listOption("--design", ["a", "b"])("all")).toEqual(["a", "b"]);
  expect(() => listOption("--design", ["a", "b"])("a,,b")).toThrow('--design must be a, b, not ""');
  expect(() => integerListOption("--cores", 1, 8)("1,9")).toThrow('--cores must be an integer 1..8, not "9"');
});

describe("a result", () => {
  const point = parsePoint({ design: "affinity-accept", cores: 24, workload: "web-epoll" });
  const cell = { point, result: sampleResult(point), repeats: 1 };

  test("as JSON has the contract's fields, and nothing that differs from run to run", () => {
    const record = recordOf(cell, false);
    for (const field of [
      "design",
      "cores",
      "workload",
      "connsPerSec",
      "requestsPerSec",
      "latencyUs",
      "failedConnections",
    ]) {
      expect(record).toHaveProperty(field);
    }
    expect(record).toMatchObject({ utilization: { length: 24 }, shares: { app: expect.any(Number) } });
    for (const field of ["wallMs", "trace", "latencyCdf", "coreShares", "locks"])
      expect(record).not.toHaveProperty(field);
    expect(recordOf(cell, true)).toMatchObject({ coreShares: { length: 24 }, locks: { length: 1 } });
  });

  test("as a row lines up with the header", () => {
    expect(rowLine(cell)).toHaveLength(headerLine().length);
    expect(headerLine().length).toBeLessThanOrEqual(140);
  });

  test("as a timeline names its tracks", () => {
    const event = { name: "accept", cat: "stack", ph: "X", ts: 1, dur: 2, pid: 0, tid: 3 } as const;
    const trace = traceDocument({ ...cell, result: sampleResult(point, { trace: [event] }) });
    expect(trace.traceEvents).toHaveLength(1 + 2 * 24 + 1);
    expect(trace.traceEvents).toContainEqual(event);
    expect(trace.traceEvents).toContainEqual({
      name: "thread_name",
      ph: "M",
      pid: 0,
      tid: 23,
      args: { name: "core 23" },
    });
  });
});
