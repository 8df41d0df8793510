import { describe, expect, test } from "vitest";
import { runCode, type Value } from "../../../src/packetdrill/assertions.ts";

function run(text: string, variables = new Map<string, Value>()) {
  const printed: string[] = [];
  const constants = new Map<string, Value>([
    ["tcpi_snd_cwnd", 10],
    ["tcpi_options", 7],
    ["TCPI_OPT_SACK", 2],
  ]);
  runCode(text, { constants, variables, print: (row) => printed.push(row), line: 10 });
  return { printed, variables };
}

describe("assert", () => {
  test.each([
    "tcpi_snd_cwnd == 10",
    "tcpi_snd_cwnd == 10, tcpi_snd_cwnd",
    "9 <= tcpi_snd_cwnd <= 11",
    "(tcpi_options & TCPI_OPT_SACK) != 0",
    "tcpi_options == (1 | 2 | 4)",
    "not tcpi_snd_cwnd > 10",
    "tcpi_snd_cwnd > 10 or tcpi_options == 7 and 1",
    "7 // 2 == 3 and -7 // 2 == -4 and 7 / 2 == 3.5 and -7 % 3 == 2",
    "0x7fffffff & 0xffffffff == 2147483647",
    "1 << 4 == 16 and 5 ^ 1 == 4 and ~0 == -1",
    "abs(-3) + min(1, 2) + max(1, 2) + int(2.9) + round(0.6) + len('ab') == 11",
    "(5 if tcpi_snd_cwnd == 10 else 6) == 5",
    "'cwnd=%d %s %.1f %x%%' % (10, 'a', 1.25, 255) == 'cwnd=10 a 1.3 ff%'",
    "True and not False",
  ])("%s", (condition) => {
    expect(() => run(`assert ${condition}`)).not.toThrow();
  });

  test.each([
    ["tcpi_snd_cwnd == 11, 'cwnd=%d' % tcpi_snd_cwnd", /tcpi_snd_cwnd == 11; tcpi_snd_cwnd is 10 \(cwnd=10\)/],
    ["1 < 2 < 2", /assertion failed/],
    ["not 1", /assertion failed/],
    ["0 or False or ''", /assertion failed/],
    ["unknown == 1", /the code knows no unknown/],
    ["1 / 0 == 1", /division by zero/],
    ["'a' < 1", /a is no number/],
  ])("%s fails", (condition, message) => {
    expect(() => run(`assert ${condition}`)).toThrow(message);
  });

  test.each(["tcpi_foo == 1", "x.y == 1", "[i for i in (1,)]", "lambda: 1", "f(1)", "1 == 1 1"])(
    "%s is unsupported",
    (condition) => {
      expect(() => run(`assert ${condition}`)).toThrow("unsupported: ");
    },
  );
});

test("statements, comments, continued lines, and variables that last", () => {
  const { printed, variables } = run("\n# a comment; assert 0\ncwnd = 10; cwnd += 1  # and one\nprint(cwnd, 'x;#')\n");
  expect(printed).toEqual(["11 x;#"]);
  run("assert cwnd == \\\n  11; pass", variables);
  expect(() => run("tcpi_snd_cwnd = 1")).toThrow("unsupported");
  expect(() => run("import os")).toThrow("unsupported");
});

test("a failure has its own line", () => {
  expect(() => run("\n\nassert 0")).toThrow(expect.objectContaining({ line: 12 }));
});
