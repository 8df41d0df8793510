/** The user timeout option (RFC 5482). The timeout itself: test/packet/options/user-timeout.pkt. */
import { describe, expect, test } from "vitest";
import { OPTION_USER_TIMEOUT_MS, OPTION_USER_TIMEOUT_OPTION_MS } from "../../../src/layout/option.ts";
import { EINVAL } from "../../../src/layout/status.ts";
import { KERNEL_BUILDS, KernelBench, openActive, openPassive, Peer } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";

const MINUTES = 0x8000;

describe.each(KERNEL_BUILDS)("user timeout option, %s build", (build) => {
  const create = () => new KernelBench({ build, noDelay: true });

  /** How long data stays unacknowledged before the connection is given up, in whole seconds. */
  function secondsUntilGivenUp(bench: KernelBench, handle: number): number {
    bench.events();
    bench.write(handle, pattern(100));
    for (let seconds = 0; seconds < 4000; seconds++) {
      if (bench.events(handle).some(({ mask }) => mask.includes("error"))) return seconds;
      bench.advance(1000);
    }
    return Number.POSITIVE_INFINITY;
  }

  test("is not sent, and not heeded, unless an application asks for it (3.1: ENABLED)", () => {
    const bench = create();
    const { peer, handle } = openPassive(bench);
    bench.write(handle, pattern(10));
    expect(peer.expect({}).options.userTimeout).toBeUndefined();
    peer.send({ flags: "ack", options: { userTimeout: 200 }, ack: 11 });
    expect(secondsUntilGivenUp(bench, handle)).toBeGreaterThan(700);
  });

  test.each([
    { ms: 1000, word: 1 },
    { ms: 1500, word: 2 },
    { ms: 32_767_000, word: 32767 },
    { ms: 32_768_000, word: MINUTES | 547 },
    { ms: 86_400_000, word: MINUTES | 1440 },
  ])("$ms ms are sent as $word, from the SYN on", ({ ms, word }) => {
    const bench = create();
    const handle = bench.connect(7000, { localPort: 5000 });
    expect(bench.wasm.tcpSetOption(handle, OPTION_USER_TIMEOUT_OPTION_MS, ms)).toBe(0);
    bench.turn();
    const peer = new Peer(bench, { port: 7000, kernelPort: 5000 });
    expect(peer.expect({ flags: "syn" }).options.userTimeout).toBe(word);
    // Lost: the SYN that goes again has it too.
    bench.advance(1100);
    expect(peer.expect({ flags: "syn" }).options.userTimeout).toBe(word);
    peer.send({ flags: "syn ack" });
    expect(peer.expect({ flags: "ack" }).options.userTimeout).toBeUndefined();
  });

  test("a listener's connections tell it in their SYN-ACK", () => {
    const bench = create();
    const listener = bench.listen(80);
    expect(bench.wasm.tcpListenSetOption(listener, OPTION_USER_TIMEOUT_OPTION_MS, 300_000)).toBe(0);
    const peer = new Peer(bench, { mss: 1000, windowScale: 3, sack: true, timestamp: 5000 });
    peer.send({ flags: "syn" });
    expect(peer.expect({ flags: "syn ack" }).options).toMatchObject({ userTimeout: 300, sackPermitted: true });
  });

  test("a change later goes at once, and with two more segments that have room", () => {
    const bench = create();
    const { peer, handle } = openPassive(bench, { mss: 1000 });
    bench.wasm.tcpSetOption(handle, OPTION_USER_TIMEOUT_OPTION_MS, 120_000);
    bench.turn();
    expect(peer.expect({ payloadBytes: 0 }).options.userTimeout).toBe(120);
    const seen: [bytes: number, option: number | undefined][] = [];
    for (const bytes of [1000, 996, 10, 10]) {
      bench.write(handle, pattern(bytes));
      const { payload, options } = peer.expect({});
      seen.push([payload.length, options.userTimeout]);
    }
    // Full segments are not made shorter for it.
    expect(seen).toEqual([
      [1000, undefined],
      [996, 120],
      [10, 120],
      [10, undefined],
    ]);
  });

  describe("what the peer tells is waited for (3.1: max(ADV_UTO, REMOTE_UTO), within the limits)", () => {
    test.each([
      { adv: 1000, remote: 150, seconds: 150 },
      { adv: 200_000, remote: 150, seconds: 200 },
      { adv: 1000, remote: 5, seconds: 100 },
      { adv: 1000, remote: MINUTES | 3, seconds: 180 },
    ])("$adv ms here, $remote there: given up after $seconds s", ({ adv, remote, seconds }) => {
      const bench = create();
      const { peer, handle } = openPassive(bench);
      bench.wasm.tcpSetOption(handle, OPTION_USER_TIMEOUT_OPTION_MS, adv);
      peer.send({ flags: "ack", options: { userTimeout: remote } });
      const waited = secondsUntilGivenUp(bench, handle);
      expect(waited).toBeGreaterThanOrEqual(seconds);
      expect(waited).toBeLessThanOrEqual(seconds + 2);
    });

    test("also when it comes with the SYN-ACK", () => {
      const bench = create();
      const handle = bench.connect(7000, { localPort: 5000 });
      bench.wasm.tcpSetOption(handle, OPTION_USER_TIMEOUT_OPTION_MS, 1000);
      bench.turn();
      const peer = new Peer(bench, { port: 7000, kernelPort: 5000 });
      peer.expect({ flags: "syn" });
      peer.send({ flags: "syn ack", options: { userTimeout: 130 } });
      expect(Math.abs(secondsUntilGivenUp(bench, handle) - 131)).toBeLessThanOrEqual(1);
    });

    test("a value of zero says nothing (3.3)", () => {
      const bench = create();
      const { peer, handle } = openPassive(bench);
      bench.wasm.tcpSetOption(handle, OPTION_USER_TIMEOUT_OPTION_MS, 1000);
      for (const userTimeout of [0, MINUTES]) peer.send({ flags: "ack", options: { userTimeout } });
      expect(secondsUntilGivenUp(bench, handle)).toBeGreaterThan(700);
    });

    test("but not where the application has set its own (CHANGEABLE)", () => {
      const bench = create();
      const { peer, handle } = openActive(bench);
      bench.wasm.tcpSetOption(handle, OPTION_USER_TIMEOUT_OPTION_MS, 5000);
      bench.wasm.tcpSetOption(handle, OPTION_USER_TIMEOUT_MS, 5000);
      peer.send({ flags: "ack", options: { userTimeout: 300 } });
      expect(secondsUntilGivenUp(bench, handle)).toBeLessThanOrEqual(7);
    });
  });

  test("less than a second and more than a day are refused", () => {
    const bench = create();
    const { handle } = openPassive(bench);
    for (const ms of [999, 86_400_001]) {
      expect(bench.wasm.tcpSetOption(handle, OPTION_USER_TIMEOUT_OPTION_MS, ms)).toBe(EINVAL);
    }
    expect(bench.wasm.tcpSetOption(handle, OPTION_USER_TIMEOUT_OPTION_MS, 0)).toBe(0);
  });
});
