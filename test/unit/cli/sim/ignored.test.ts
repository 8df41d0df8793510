/** Which options `netpopcorn sim` refuses because they would not count, and that the engine agrees. */
import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { createProgram } from "../../../../src/cli/main.ts";
import { refuseIgnored } from "../../../../src/cli/sim/ignored.ts";
import { planPoints, type SimCommandOptions } from "../../../../src/cli/sim/plan.ts";
import { runPoint } from "../../../../src/sim/run.ts";

function parse(args: readonly string[]): { options: SimCommandOptions; command: Command } {
  let command: Command | undefined;
  const program = createProgram();
  for (const one of program.commands) {
    one.action((_options: unknown, parsed: Command) => {
      command = parsed;
    });
  }
  program.parse(["sim", ...args], { from: "user" });
  if (command === undefined) throw new Error("no command");
  return { options: command.opts(), command };
}

function check(args: readonly string[]): void {
  const { options, command } = parse(args);
  refuseIgnored(options, command);
}

/** All that a short simulation says of its first point, but how long it took. */
async function resultOf(args: readonly string[]): Promise<unknown> {
  const { options } = parse(["--cores", "2", "--duration", "0.02", "--concurrency", "200", ...args]);
  const [point] = await planPoints(options);
  if (point === undefined) throw new Error("no point");
  return { ...(await runPoint(point)), wallMs: 0 };
}

describe("an option that counts", () => {
  test.each([
    [
      ["--design", "linux", "--workload", "proxy", "--requests-per-conn", "2"],
      ["--think-ms", "5"],
    ],
    [
      ["--design", "netpopcorn", "--workload", "proxy"],
      ["--requests-per-conn", "2"],
    ],
    [
      ["--design", "mtcp", "--workload", "proxy"],
      ["--requests-per-conn", "2"],
    ],
    [
      ["--design", "mtcp"],
      ["--file-opens", "5"],
    ],
    [
      ["--design", "mtcp"],
      ["--time-wait", "0.01"],
    ],
    [
      ["--design", "linux", "--workload", "rpc"],
      ["--os", "2.6.32"],
    ],
  ])("of %j is taken: %j", async (rest, option) => {
    expect(() => check([...rest, ...option])).not.toThrow();
    expect(await resultOf([...rest, ...option])).not.toEqual(await resultOf(rest));
  });

  test.each([
    [["--design", "mtcp,linux", "--os", "3.13"]],
    [["--design", "mtcp,netpopcorn", "--procs-per-core", "2", "--threads", "--accepts-per-event", "1"]],
    [["--sensitivity", "--cores", "4"]],
    // Ratios are to netpopcorn, which need not be named.
    [["--sensitivity", "--design", "linux", "--policy", "angel"]],
    [["--sensitivity", "--design", "mtcp", "--os", "3.13"]],
  ])("for one of the designs is taken: %j", (args) => {
    expect(() => check(args)).not.toThrow();
  });
});

test.each([
  [
    ["--design", "mtcp"],
    ["--os", "2.6.32"],
  ],
  [
    ["--design", "mtcp"],
    ["--procs-per-core", "8"],
  ],
  [
    ["--design", "mtcp"],
    ["--accepts-per-event", "1"],
  ],
  [["--design", "mtcp"], ["--threads"]],
  [
    ["--design", "mtcp", "--workload", "proxy"],
    ["--file-opens", "5"],
  ],
  [
    ["--design", "linux", "--workload", "proxy"],
    ["--file-opens", "5"],
  ],
  [
    ["--design", "netpopcorn", "--workload", "rpc"],
    ["--time-wait", "9"],
  ],
])("an option that makes no difference to %j is refused: %j", async (rest, option) => {
  expect(() => check([...rest, ...option])).toThrow(option[0]);
  expect(await resultOf([...rest, ...option])).toEqual(await resultOf(rest));
});
