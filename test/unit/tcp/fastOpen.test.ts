/** TCP Fast Open (RFC 7413); what a script can say is in test/packet/fastopen. */
import { describe, expect, test } from "vitest";
import { OPTION_FAST_OPEN, OPTION_FAST_OPEN_CONNECT } from "../../../src/layout/option.ts";
import { EINVAL, EOPNOTSUPP } from "../../../src/layout/status.ts";
import { fastOpenCookie } from "../../../src/packetdrill/fastOpenCookie.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import { KERNEL_BUILDS, KernelBench, openPassive, Peer, type PeerOptions } from "../../helpers/kernelBench.ts";
import { createPair, groupOf, move } from "../../helpers/migration.ts";
import { pattern } from "../../helpers/packets.ts";
import { createStackPair, readAll, testBytes, writeAll } from "../../helpers/stacks.ts";

const HOUR_MS = 3600 * 1000;
const SYN_DATA = 32;

function listenFast(bench: KernelBench, pendingMax = 4, backlog = 16): number {
  const listener = bench.listen(80, backlog);
  expect(bench.wasm.tcpListenSetOption(listener, OPTION_FAST_OPEN, pendingMax)).toBe(0);
  return listener;
}

/** The cookie that the kernel gives out now. */
function askForCookie(bench: KernelBench, port: number): Uint8Array {
  const peer = new Peer(bench, { port });
  peer.send({ flags: "syn", options: { cookie: new Uint8Array(0) } });
  const { cookie } = peer.expect({ flags: "syn ack", ack: 1 }).options;
  expect(cookie).toHaveLength(8);
  peer.send({ flags: "rst", seq: 1 });
  return cookie as Uint8Array;
}

/** A SYN with a cookie and these bytes. @returns how many of them the SYN-ACK takes. */
function sendFast(bench: KernelBench, options: PeerOptions, cookie: Uint8Array, payload: Uint8Array) {
  const peer = new Peer(bench, options);
  peer.send({ flags: "syn", options: { mss: 1460, cookie }, payload });
  const synAck = peer.expect({ flags: "syn ack" });
  return { peer, synAck, taken: synAck.ack - 1 };
}

test("cookies are those of Linux under the same key", () => {
  // From the kernel's own test suite (tools/testing/selftests/net/packetdrill/ksft_runner.sh).
  const key = [0xa1a1a1a1, 0xb2b2b2b2, 0xc3c3c3c3, 0xd4d4d4d4];
  const cookie = (remote: string, local: string) => fastOpenCookie(parseAddress(remote), parseAddress(local), key);
  expect(cookie("192.0.2.1", "192.168.0.1")).toBe("3021b9d889017eeb");
  expect(cookie("fd3d:fa7b:d17d::1", "fd3d:0a0b:17d6::1")).toBe("c1d1e9742a47a9bc");
});

describe.each(KERNEL_BUILDS)("TCP Fast Open, %s build", (build) => {
  test("a cookie counts for its sender only, in all kernels of a stack", () => {
    const { source, target } = createPair({ build });
    listenFast(source);
    listenFast(target);
    const cookie = askForCookie(source, 40000);
    expect(source.counters()).toMatchObject({ tcpFastOpenCookiesSent: 1, tcpFastOpenPassive: 0 });
    expect(sendFast(target, { port: 40001 }, cookie, pattern(100)).taken).toBe(100);
    expect(sendFast(target, { port: 40002, address: "10.0.0.3" }, cookie, pattern(100)).taken).toBe(0);
    const other = new KernelBench({ build, stackSeed: 78 });
    listenFast(other);
    expect(sendFast(other, { port: 40001 }, cookie, pattern(100)).taken).toBe(0);
    expect(other.counters()).toMatchObject({ tcpFastOpenPassive: 0, tcpFastOpenPassiveFailed: 1 });
  });

  test("keys change every six hours; the one before is taken and replaced, the one before that is not", () => {
    const bench = new KernelBench({ build, nowMs: 100 * HOUR_MS });
    listenFast(bench);
    const cookie = askForCookie(bench, 40000);
    bench.advance(6 * HOUR_MS);
    const second = sendFast(bench, { port: 40001 }, cookie, pattern(10));
    expect(second.taken).toBe(10);
    expect(second.synAck.options.cookie).toHaveLength(8);
    expect(second.synAck.options.cookie).not.toEqual(cookie);
    expect(sendFast(bench, { port: 40002 }, second.synAck.options.cookie as Uint8Array, pattern(10)).taken).toBe(10);
    bench.advance(6 * HOUR_MS);
    expect(sendFast(bench, { port: 40003 }, cookie, pattern(10)).taken).toBe(0);
  });

  test("data can be read and answered before the handshake is over, and its end is no second beginning", () => {
    const bench = new KernelBench({ build, noDelay: true });
    const listener = listenFast(bench);
    const cookie = askForCookie(bench, 40000);
    bench.events();
    const { peer, taken } = sendFast(bench, { port: 40001, window: 20000 }, cookie, pattern(1000));
    expect(taken).toBe(1000);
    expect(bench.events()[0]).toMatchObject({ mask: "acceptable" });
    const handle = bench.wasm.tcpAccept(listener);
    bench.turn();
    expect(bench.events(handle)).toMatchObject([{ mask: "readable", readableBytes: 1000 }]);
    expect(bench.read(handle)).toEqual(Buffer.from(pattern(1000)));
    bench.write(handle, pattern(20000, 3));
    const answer = peer.all();
    expect(answer.reduce((sum, { payload }) => sum + payload.length, 0)).toBe(10 * 1460);
    expect(bench.state(handle)).toBe("SYN_RECEIVED");
    peer.send({ flags: "ack" });
    expect(bench.state(handle)).toBe("ESTABLISHED");
    expect(bench.events(handle)).toEqual([]);
    expect(peer.all().reduce((sum, { payload }) => sum + payload.length, 0)).toBe(20000 - 10 * 1460);
    peer.send({ flags: "ack" });
    expect(bench.info(handle)).toMatchObject({ sndQueuedBytes: 0, retransmits: 0 });
  });

  test("with a full SYN queue a cookie still opens, since it shows that its sender is there", () => {
    const bench = new KernelBench({ build });
    const listener = listenFast(bench, 1, 2);
    const cookie = askForCookie(bench, 40000);
    for (let port = 50000; port < 50010; port++) new Peer(bench, { port }).send({ flags: "syn" });
    expect(bench.counters().synCookiesSent).toBe(8);
    expect(sendFast(bench, { port: 40001 }, cookie, pattern(10)).taken).toBe(10);
    // No more than the listener was set to: the next is answered like any other.
    expect(sendFast(bench, { port: 40002 }, cookie, pattern(10)).taken).toBe(0);
    expect(bench.counters()).toMatchObject({ tcpFastOpenOverflow: 1, synCookiesSent: 9 });
    expect(bench.wasm.tcpAccept(listener)).toBeGreaterThan(0);
  });

  test("what is opened and never completed ends, and makes room again", () => {
    const bench = new KernelBench({ build, tuning: { synRetriesMax: 2 } });
    const listener = listenFast(bench, 1);
    const cookie = askForCookie(bench, 40000);
    sendFast(bench, { port: 40001 }, cookie, pattern(10));
    const handle = bench.wasm.tcpAccept(listener);
    bench.write(handle, pattern(100));
    bench.advance(20_000);
    expect(bench.events(handle).at(-1)).toMatchObject({ mask: "closed error" });
    bench.wasm.tcpClose(handle);
    bench.turn();
    expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeStreamBytes: 0 });
    expect(sendFast(bench, { port: 40002 }, cookie, pattern(10)).taken).toBe(10);
  });

  test("a connection that moves to another kernel before its handshake is over ends it there", () => {
    const pair = createPair({ build });
    const listener = listenFast(pair.source, 1);
    listenFast(pair.target, 1);
    const cookie = askForCookie(pair.source, 40000);
    const { peer } = sendFast(pair.source, { port: 40001, window: 5000 }, cookie, pattern(10));
    const handle = pair.source.wasm.tcpAccept(listener);
    pair.source.write(handle, pattern(300));
    pair.target.turn();
    const { handles } = move(pair, groupOf(peer.port));
    const moved = handles.get(handle) as number;
    peer.all();
    peer.bench = pair.target;
    // The limit goes with it.
    expect(sendFast(pair.target, { port: 40003 }, cookie, pattern(10)).taken).toBe(0);
    expect(sendFast(pair.source, { port: 40004 }, cookie, pattern(10)).taken).toBe(10);
    peer.send({ flags: "ack" });
    expect(pair.target.state(moved)).toBe("ESTABLISHED");
    expect(pair.target.info(moved)).toMatchObject({ sndQueuedBytes: 0, rcvQueuedBytes: 10 });
    expect(sendFast(pair.target, { port: 40005 }, cookie, pattern(10)).taken).toBe(10);
  });

  test("the client's option is for connections whose SYN has not left, and can be forbidden", () => {
    const bench = new KernelBench({ build });
    const handle = bench.connect(7000);
    expect(bench.wasm.tcpSetOption(handle, OPTION_FAST_OPEN_CONNECT, 3)).toBe(EINVAL);
    expect(bench.wasm.tcpSetOption(handle, OPTION_FAST_OPEN_CONNECT, 1)).toBe(0);
    bench.turn();
    expect(bench.wasm.tcpSetOption(handle, OPTION_FAST_OPEN_CONNECT, 1)).toBe(EINVAL);
    expect(bench.sent()[0]?.options.cookie).toHaveLength(0);
    const off = new KernelBench({ build, tuning: { fastOpen: 2 } });
    expect(off.wasm.tcpSetOption(off.connect(7000), OPTION_FAST_OPEN_CONNECT, 2)).toBe(EOPNOTSUPP);
    const { handle: open } = openPassive(bench);
    expect(bench.wasm.tcpSetOption(open, OPTION_FAST_OPEN_CONNECT, 1)).toBe(EINVAL);
  });

  test("of more servers than the cache holds it knows the latest", () => {
    const bench = new KernelBench({ build, gateway: "10.0.0.254" });
    const remotes = Array.from({ length: 1500 }, (_, n) => `10.1.${n >> 8}.${n & 255}`);
    for (const remote of remotes) {
      const handle = bench.connect(7000, { remote });
      expect(bench.wasm.tcpSetOption(handle, OPTION_FAST_OPEN_CONNECT, 2)).toBe(0);
      bench.turn();
      const peer = new Peer(bench, { address: remote, port: 7000, kernelPort: bench.info(handle).localPort });
      peer.expect({ flags: "syn", payloadBytes: 0 });
      peer.send({ flags: "syn ack", options: { mss: 1000, cookie: Uint8Array.of(1, 2, 3, 4) } });
      expect(bench.state(handle)).toBe("ESTABLISHED");
      bench.wasm.tcpAbort(handle);
      bench.turn();
      bench.sent();
    }
    const isKnown = remotes.map((remote) => {
      const handle = bench.connect(7000, { remote });
      const status = bench.wasm.tcpSetOption(handle, OPTION_FAST_OPEN_CONNECT, 2);
      bench.wasm.tcpAbort(handle);
      bench.turn();
      return status === 1000 - 40;
    });
    expect(isKnown.slice(-30)).not.toContain(false);
    expect(isKnown.filter((known) => known).length).toBeLessThanOrEqual(512);
    expect(isKnown.filter((known) => known).length).toBeGreaterThan(450);
  });
});

describe("between two stacks", () => {
  test("the second connection brings its first bytes with the SYN", async () => {
    const pair = await createStackPair();
    const listener = await pair.server.listen(7, {
      socketOptions: { TCP_FASTOPEN: 16 },
      onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
    });
    const first = testBytes(1000);
    for (const [round, isFast] of [false, true, true].entries()) {
      const connection = await pair.client.connect({ address: "10.7.0.2", port: 7, fastOpen: first });
      expect((connection.tcpInfo().tcpi_options & SYN_DATA) !== 0, `round ${round}`).toBe(isFast);
      const rest = testBytes(5000, 1 + round);
      const echoed = readAll(connection.readable);
      await writeAll(connection, rest);
      expect(Buffer.from(await echoed).equals(Buffer.concat([first, rest]))).toBe(true);
    }
    await listener.close();
    await pair.close();
  });

  test("more first bytes than a SYN holds, or for a server without fast open, follow the handshake", async () => {
    const pair = await createStackPair();
    const listener = await pair.server.listen(7, {
      onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
    });
    const first = testBytes(30_000);
    for (let round = 0; round < 2; round++) {
      const connection = await pair.client.connect({ address: "10.7.0.2", port: 7, fastOpen: first });
      const echoed = readAll(connection.readable);
      await writeAll(connection);
      expect(Buffer.from(await echoed).equals(Buffer.from(first))).toBe(true);
    }
    await listener.close();
    await pair.close();
  });
});
