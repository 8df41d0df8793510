import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { createProgram } from "../../../src/cli/main.ts";
import { choiceOption, integerOption, numberOption } from "../../../src/cli/options.ts";
import { errorLine } from "../../../src/cli/output.ts";
import { NetPopcornError } from "../../../src/errors.ts";

/** Parses a command line with the command's action replaced. @returns the options that the action would get. */
function parse(...args: string[]): Record<string, unknown> {
  const program = createProgram();
  let options: Record<string, unknown> = {};
  for (const command of program.commands) {
    command.action((_options: unknown, parsed: Command) => {
      options = parsed.opts();
    });
  }
  program.parse(args, { from: "user" });
  return options;
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return "no error";
}

describe("options", () => {
  test("have defaults that run", () => {
    expect(parse("demo")).toMatchObject({ seconds: 10, concurrency: 256, seed: 1, out: "netpopcorn-report.html" });
    const serve = parse("serve", "--tap", "pop0", "--address", "10.7.0.2/24");
    expect(serve).toMatchObject({ tap: "pop0", address: "10.7.0.2/24", kernels: 1, app: "http" });
    expect(serve).not.toHaveProperty("seed", 1);
  });

  test.each([
    ["demo", "--kernels", "0"],
    ["demo", "--kernels", "two"],
    ["demo", "--kernels", "1.5"],
    ["demo", "--kernels", "-1"],
    ["demo", "--seconds", "0"],
    ["demo", "--seconds", "1e9"],
    ["demo", "--seed", "4294967296"],
    ["demo", "--concurrency", ""],
    ["serve", "--tap", "pop0", "--address", "10.7.0.2/24", "--port", "65536"],
  ])("out of range: %s %s %s", (...args) => {
    expect(codeOf(() => parse(...args))).toBe("ERR_ARGUMENT");
  });

  test("unknown commands and options, and missing ones, are refused by the parser", () => {
    expect(codeOf(() => parse("simulate"))).toBe("commander.unknownCommand");
    expect(codeOf(() => parse("demo", "--speed", "9"))).toBe("commander.unknownOption");
    expect(codeOf(() => parse("serve", "--tap", "pop0"))).toBe("commander.missingMandatoryOptionValue");
    expect(codeOf(() => parse("demo", "--seconds"))).toBe("commander.optionMissingArgument");
  });

  test("readers name the option and the range", () => {
    expect(() => integerOption("--port", 1, 65535)("x")).toThrow('--port must be an integer 1..65535, not "x"');
    expect(() => numberOption("--seconds", 0.5, 60)("61")).toThrow('--seconds must be a number 0.5..60, not "61"');
    expect(numberOption("--seconds", 0.5, 60)("2.5")).toBe(2.5);
    expect(() => choiceOption("--level", ["handle", "net"])("web")).toThrow('--level must be handle, net, not "web"');
    expect(choiceOption("--level", ["handle", "net"])("net")).toBe("net");
  });
});

describe("errorLine", () => {
  test("is one line with the code", () => {
    expect(errorLine(new NetPopcornError("EPERM", "needs\n  root"))).toBe("netpopcorn: EPERM: needs root");
    expect(errorLine(Object.assign(new Error("no such file"), { code: "ENOENT" }))).toBe(
      "netpopcorn: ENOENT: no such file",
    );
    expect(errorLine(new TypeError("x is undefined"))).toBe("netpopcorn: ERR_INTERNAL: x is undefined");
    expect(errorLine("odd")).toBe("netpopcorn: ERR_INTERNAL: odd");
  });
});
