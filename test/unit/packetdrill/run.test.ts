/** The interpreter must notice: each wrong expectation below fails, at its line, with what the kernel really did. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { runScript } from "../../../src/packetdrill/run.ts";

const module = new WebAssembly.Module(readFileSync(new URL("../../../build/kernel.release.wasm", import.meta.url)));

function run(text: string, options: readonly { name: string; value: string | undefined }[] = []) {
  return runScript({ file: "x.pkt", text, directory: "." }, { module, options });
}

/** Lines are numbered from 1. */
const SCRIPT = [
  "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
  "+0 bind(3, ..., ...) = 0",
  "+0 listen(3, 1) = 0",
  "+0 < S 0:0(0) win 32792 <mss 1000,nop,wscale 7>",
  "+0 > S. 0:0(0) ack 1 win 65535 <mss 1460,nop,wscale 8>",
  "+.1 < . 1:1(0) ack 1 win 257",
  "+0 accept(3, ..., ...) = 4",
  "+.1 write(4, ..., 1000) = 1000",
  "+0 > [noecn, ttl 64] P. 1:1001(1000) ack 1",
  "+.1 < . 1:1(0) ack 1001 win 257",
  "+0 %{ assert tcpi_unacked == 0 }%",
  "+0 close(4) = 0",
  "+0 > F. 1001:1001(0) ack 1",
].join("\n");

test("the script as it is passes", () => {
  expect(run(SCRIPT)).toEqual({ outcome: "passed" });
});

describe("what is wrong is found", () => {
  test.each([
    ["a flag", "P. 1:1001", ". 1:1001", 9, "the P flag is set"],
    ["a missing flag", "> F. 1001", "> FP. 1001", 13, "the P flag is missing"],
    ["a sequence number", "> F. 1001:1001(0)", "> F. 1002:1002(0)", 13, "sequence number is 1001, expected 1002"],
    ["a length", "P. 1:1001(1000)", "P. 1:1002(1001)", 9, "the segments do not follow one another"],
    ["an acknowledgment", "(1000) ack 1", "(1000) ack 2", 9, "acknowledgment number is 1, expected 2"],
    ["a window", "ack 1 win 65535", "ack 1 win 65534", 5, "window is 65535, expected 65534"],
    ["an option's value", "mss 1460,nop", "mss 1461,nop", 5, "TCP option 1 is mss 1460, expected mss 1461"],
    ["a missing option", ",nop,wscale 8", "", 5, "TCP option 2 is nop, expected none"],
    ["one option more", "wscale 8", "wscale 8,nop", 5, "TCP option 4 is missing, expected nop"],
    ["a ttl", "ttl 64", "ttl 63", 9, "ttl is 64, expected 63"],
    ["an ECN codepoint", "noecn", "ect0", 9, "ECN codepoint is noecn, expected ect0"],
    ["a time, too early", "+0 > [noecn", "+.1 > [noecn", 9, "sent at 0.200000 s, expected at 0.300000 s"],
    ["a range of times", "+0 > [noecn", "+.1~+.2 > [noecn", 9, "expected at 0.300000 s to 0.400000 s"],
    ["a result", "= 1000", "= 999", 8, "write returns 1000, expected 999"],
    ["an errno", "+0 close(4) = 0", "+0 close(4) = -1 EBADF", 12, "close returns 0, expected -1 EBADF"],
    ["an assertion", "unacked == 0", "unacked == 1", 11, "tcpi_unacked is 0"],
    [
      "a packet too many",
      "+0 > F. 1001:1001(0) ack 1",
      "+0 > F. 1001:1001(0) ack 1\n+0 > . 1:1(0) ack 1",
      14,
      "the F flag is set",
    ],
  ])("%s", (_what, from, to, line, message) => {
    expect(SCRIPT).toContain(from);
    const result = run(SCRIPT.replace(from, to));
    expect(result).toMatchObject({ outcome: "failed", error: expect.stringMatching(new RegExp(`^x.pkt:${line}: `)) });
    expect("error" in result && result.error).toMatch(new RegExp(message));
  });

  test("both packets are shown, in the script's numbers", () => {
    const result = run(SCRIPT.replace("1:1001(1000) ack 1", "1:1001(1000) ack 5"));
    expect("error" in result && result.error.split("\n").slice(1)).toEqual([
      "  expected: > [noecn, ttl 64] P. 1:1001(1000) ack 5",
      "  actual:   > [noecn, ttl 64] P. 1:1001(1000) ack 1 win 2559 at 0.200000 s",
    ]);
  });

  test("packets that nothing expects, when asked for", () => {
    const text = SCRIPT.split("\n").slice(0, -1).join("\n");
    expect(run(text)).toEqual({ outcome: "passed" });
    expect(run(text, [{ name: "expect_all", value: undefined }])).toMatchObject({
      outcome: "failed",
      error: expect.stringContaining("F. 1001:1001(0) ack 1"),
    });
  });

  test("a call that blocks where the script says that it does not, and one that blocks too long", () => {
    const head = SCRIPT.split("\n").slice(0, 7).join("\n");
    expect(run(`${head}\n+0 read(4, ..., 100) = 100`)).toMatchObject({
      error: "x.pkt:8: read blocks; the script says that it returns at once",
    });
    expect(run(`${head}\n+0...0.1 read(4, ..., 100) = 100`)).toMatchObject({ error: "x.pkt:8: read still blocks" });
    expect(run(`${head}\n+0...0.1 read(4, ..., 100) = 100\n+.3 < P. 1:101(100) ack 1 win 257`)).toMatchObject({
      error: "x.pkt:8: read returns at 0.400000 s, expected 0.200000 s",
    });
  });

  test("a sum of times that is no whole number of nanoseconds is reached while a call blocks", () => {
    const script = [
      "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
      "+0...1.05 connect(3, ..., ...) = 0",
      "+0 > S 0:0(0) <...>",
      "+1.0 > S 0:0(0) <...>",
      "+.05 < S. 0:0(0) ack 1 win 5792 <mss 1000>",
      "+0 > . 1:1(0) ack 1",
    ];
    expect(run(script.join("\n"))).toEqual({ outcome: "passed" });
  });

  test("an event whose time is over", () => {
    expect(run("0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n1 close(3) = 0\n0.5 close(3) = -1 EBADF")).toMatchObject({
      error: "x.pkt:3: the event's time is 0.500000 s, and it is 1.000000 s already",
    });
  });
});

describe("unsupported", () => {
  test.each([
    ["0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 splice(3, 4) = 0", 2, "the system call splice"],
    ["--udp_encapsulation=tcp\n0 close(3) = 0", 1, "TCP over UDP"],
    ["0 `reboot`\n+0 close(3) = -1 EBADF", 1, "the command reboot"],
    ["0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 setsockopt(3, SOL_TCP, TCP_ULP, [1], 4) = 0", 2, "TCP_ULP"],
    ["0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 send(3, ..., 1, MSG_OOB|MSG_CONFIRM) = 1", 2, "flags 0x800"],
    ["0 socket(..., SOCK_RAW, IPPROTO_TCP) = 3", 1, "raw and ICMP sockets"],
  ])("%s", (text, line, what) => {
    const result = run(text);
    expect(result).toMatchObject({
      outcome: "unsupported",
      error: expect.stringMatching(new RegExp(`^x.pkt:${line}: `)),
    });
    expect("what" in result && result.what).toContain(what);
  });
});

test("how far a failed script came, and whether the kernel or the interpreter is at fault", () => {
  expect(run("0 socket(")).toMatchObject({ outcome: "failed", isParsed: false, fault: undefined });
  const wrong = SCRIPT.replace("= 1000", "= 999");
  expect(run(wrong)).toMatchObject({ outcome: "failed", isParsed: true, fault: undefined });
  // "unreachable" in what a script says is no trap.
  const quoted = SCRIPT.replace("tcpi_unacked == 0", '"unreachable" == 0');
  expect(run(quoted)).toMatchObject({ outcome: "failed", fault: undefined });
  // Times that nanoseconds cannot count.
  const late = SCRIPT.replace("+.1 write", "+100000000000000000000 write");
  expect(run(late)).toMatchObject({ outcome: "failed", error: expect.stringContaining(":8: "), fault: undefined });
  // A kernel without exports: the interpreter stumbles over what is missing.
  const empty = new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
  const result = runScript({ file: "x.pkt", text: SCRIPT, directory: "." }, { module: empty });
  expect(result).toMatchObject({ outcome: "failed", isParsed: true, fault: expect.any(Error) });
});

test("the same script and seed give the same result, whatever the seed", () => {
  for (const seed of [1, 2, 99]) {
    const result = runScript({ file: "x.pkt", text: SCRIPT, directory: "." }, { module, seed });
    expect(result).toEqual({ outcome: "passed" });
  }
});

test("a kernel's refusal has Linux's errno", () => {
  const text = [
    "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
    "+0 bind(3, ..., ...) = 0",
    "+0 listen(3, 1) = 0",
    "+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 4",
    "+0 bind(4, ..., ...) = 0",
    "+0 listen(4, 1) = -1 EADDRINUSE (Address in use)",
    "+0 accept(4, ..., ...) = -1 EINVAL",
    "+0 read(4, ..., 1) = -1 ENOTCONN",
    "+0 write(4, ..., 1) = -1 EPIPE",
    "+0 shutdown(4, SHUT_WR) = -1 ENOTCONN",
    "+0 close(7) = -1 EBADF",
  ].join("\n");
  expect(run(text)).toEqual({ outcome: "passed" });
});
