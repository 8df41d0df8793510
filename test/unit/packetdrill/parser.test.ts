import { describe, expect, test } from "vitest";
import { expressionText } from "../../../src/packetdrill/ast.ts";
import { tokenize } from "../../../src/packetdrill/lexer.ts";
import { packetText } from "../../../src/packetdrill/notation.ts";
import { parseScript } from "../../../src/packetdrill/parser.ts";

/** The packet of a script's only event, written again. */
function again(packet: string): string {
  const [event] = parseScript(`0 ${packet}`).events;
  if (event?.action.kind !== "packet") throw new Error("no packet");
  return packetText(event.action.packet, event.action.direction);
}

describe("tokenize", () => {
  const kinds = (text: string) => tokenize(text).map(({ kind, text: token }) => `${kind} ${token}`);

  test("numbers, dots and ranges of times are told apart", () => {
    expect(kinds("+0...0.010 +.5~+1.5 1.").slice(0, -1)).toEqual([
      "symbol +",
      "integer 0",
      "... ...",
      "float 0.010",
      "symbol +",
      "float .5",
      "symbol ~",
      "symbol +",
      "float 1.5",
      "integer 1",
      "symbol .",
    ]);
  });

  test("sequence numbers are not taken for IPv6 addresses, and addresses are not cut", () => {
    expect(kinds("1:1001(1000)")[0]).toBe("integer 1");
    expect(kinds("2001:db8::1 ::1 fd3d:fa7b:d17d:8888:: 10.0.0.1").slice(0, -1)).toEqual([
      "ipv6 2001:db8::1",
      "ipv6 ::1",
      "ipv6 fd3d:fa7b:d17d:8888::",
      "ipv4 10.0.0.1",
    ]);
  });

  test("comments count as space, and lines are counted through them", () => {
    const tokens = tokenize("// one\n/* two\nthree */ word # symbol");
    expect(tokens[0]).toMatchObject({ kind: "word", text: "word", line: 3 });
  });

  test("definitions are substituted, in calls and in packets, those of the script first", () => {
    const given = new Map([
      ["SIZE", "100"],
      ["COOKIE", "a1b2"],
    ]);
    const words = tokenize("--define=SIZE=200\nSIZE COOKIE", given).map(({ text }) => text);
    expect(words).toEqual(["200", "a1b2", "end of script"]);
  });

  test("#ifdef takes the branch of what is defined; STANDARD always is", () => {
    const text = "#ifdef FreeBSD\nfreebsd\n#else\nother\n#endif\n#ifndef STANDARD\nodd\n#endif\nend";
    expect(tokenize(text).map(({ text: word, line }) => `${word} ${line}`)).toEqual([
      "other 4",
      "end 9",
      "end of script 9",
    ]);
    const words = tokenize(text, new Map([["FreeBSD", "1"]])).map((token) => token.text);
    expect(words).toEqual(["freebsd", "end", "end of script"]);
    expect(() => tokenize("#ifdef X\n")).toThrow("without #endif");
    expect(() => tokenize("#endif\n")).toThrow("without #ifdef");
  });

  test.each(['"abc', "`abc", "%{ abc", "/* abc"])("%s is not finished", (text) => {
    expect(() => tokenize(text)).toThrow("is not finished");
  });
});

describe("packets", () => {
  test.each([
    "< S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>",
    "> S. 0:0(0) ack 1 <...>",
    "> SEW 0:0(0) <mss 1460>",
    "> P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 100 ecr 200>",
    "< . 1:1(0) ack 1 win 257 <nop,nop,sack 2001:3001 4001:5001>",
    "> [ect0] . 1:1001(1000) ack 1",
    "< [ce] P. 1:11(10) ack 1 win 100 urg 5",
    "> [tos 0x20, ttl 64] R 0:0(0)!",
    "> P.5 1:1001(1000) ack 1",
    "> - 1:1(0)",
    "< 1000 > 8080 S 0:0(0) win 100",
    "< S 0:10(10) win 100 <FO a1b2c3d4,nop,nop>",
    "< S 0:0(0) win 100 <FOEXP>",
    "> udp (1000)",
    "< udp 1000 > 8080 (7)",
    "< icmp unreachable frag_needed mtu 1000 [1:1461(1460)]",
    "< icmp echo_request id 7 [raw(64)]",
    "< icmp unreachable port_unreachable [udp(100)]",
    "> . 4294967295:4294967295(0) ack 4294967295",
  ])("%s", (packet) => {
    expect(again(packet)).toBe(packet);
  });

  test.each([
    ["> P. 1:1001(999) ack 1", "the sequence numbers do not span the payload"],
    ["> X 1:1(0)", '"X" is no TCP flag'],
    ["< S 0:0(0) win 65536", "win is 65536; it must be 0..65535"],
    ["< S 0:0(0) <...>", "<...> can only be expected"],
    ["< [ect01] S 0:0(0)", "[ect01] can only be expected"],
    ["> S 0:0(0) <mss 1460,foo 1>", '"foo" is no TCP option'],
    ["< S 0:0(0) <sack 1:2 3:4 5:6 7:8,TS val 1 ecr 1>", "options of 44 bytes"],
    ["< S 0:0(0) <FO abc>", "even number of hexadecimal digits"],
    ["> S 0:0", 'expected "("'],
  ])("%s: %s", (packet, message) => {
    expect(() => parseScript(`0 ${packet}`)).toThrow(message);
  });

  test.each([
    "> ipv4 10.0.0.1 > 10.0.0.2: . 1:1(0)",
    "> gre: . 1:1(0)",
    "> . 1:1(0) <md5 abcd>",
    "> S 0:0(0)/udp(1 > 2)",
  ])("%s is unsupported, not wrong", (packet) => {
    expect(() => parseScript(`0 ${packet}`)).toThrow("unsupported: ");
  });
});

describe("events", () => {
  test("times: absolute, relative, ranges, any", () => {
    const text = "0 > . 1:1(0)\n+.5 > . 1:1(0)\n0.1~0.2 > . 1:1(0)\n+0.1~+0.2 > . 1:1(0)\n* > . 1:1(0)";
    expect(parseScript(text).events.map(({ time, line }) => ({ ...time, line }))).toEqual([
      { kind: "absolute", us: 0, endUs: undefined, line: 1 },
      { kind: "relative", us: 500_000, endUs: undefined, line: 2 },
      { kind: "absolute", us: 100_000, endUs: 200_000, line: 3 },
      { kind: "relative", us: 100_000, endUs: 200_000, line: 4 },
      { kind: "any", line: 5 },
    ]);
  });

  test("a call: arguments, result, errno, note, and when it returns", () => {
    const text =
      '+0...0.2 f(3, ..., [1], {a=1, b=X|Y}, "s" "t", g(1)) = -1 EAGAIN (Try again)\n+0 h() = 0x10 (flags X)';
    const [first, second] = parseScript(text).events.map(({ action }) =>
      action.kind === "call" ? action.call : undefined,
    );
    expect(first?.args.map(expressionText)).toEqual(["3", "...", "[1]", "{a=1, b=X|Y}", '"st"', "g(1)"]);
    expect(first).toMatchObject({ name: "f", errno: "EAGAIN", endUs: 200_000 });
    expect(second).toMatchObject({ name: "h", args: [], errno: undefined, result: { kind: "number", value: 16 } });
  });

  test("options, initial command, code, cleanup command", () => {
    const script = parseScript("--mtu=1500 --strict_segments\n`a\nb`\n0 `c`\n+0 %{ assert 1 }%\n`d`");
    expect(script.options.map(({ name, value }) => [name, value])).toEqual([
      ["mtu", "1500"],
      ["strict_segments", undefined],
    ]);
    expect(script.initCommand?.text).toBe("a\nb");
    expect(script.events.map(({ action, line }) => [action.kind, line])).toEqual([
      ["command", 4],
      ["code", 5],
    ]);
    expect(script.cleanupCommand).toEqual({ text: "d", line: 6 });
  });

  test.each([
    ["* < . 1:1(0)", "* is a time for expected packets only"],
    ["0.1~0.2 < . 1:1(0)", "a range of times is for expected packets only"],
    ["0.2~0.1 > . 1:1(0)", "backwards"],
    ["-1 > . 1:1(0)", "negative"],
    ["0.2...0.1 close(3) = 0", "ends before it begins"],
    ["0 close(3)", 'expected "="'],
    ["0 close(3) = 0 ) x", "expected a time"],
  ])("%s: %s", (text, message) => {
    expect(() => parseScript(text)).toThrow(message);
  });
});
