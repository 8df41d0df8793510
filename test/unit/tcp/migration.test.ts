/** Connections that move from kernel to kernel: every state, every buffer, every refusal. */
import { describe, expect, test } from "vitest";
import {
  GROUP_ARRIVING,
  GROUP_LEFT,
  GROUP_STEADY,
  MIGRATION_EXT_BYTES,
  MIGRATION_HEADER_SIZE_BYTES,
  MIGRATION_RCV_BYTES,
  MIGRATION_SND_BYTES,
} from "../../../src/layout/migration.ts";
import {
  OPTION_CORK,
  OPTION_KEEPALIVE,
  OPTION_KEEPALIVE_IDLE_MS,
  OPTION_KEEPALIVE_INTERVAL_MS,
  OPTION_KEEPALIVE_PROBES,
  OPTION_MSS_BYTES,
  OPTION_USER_TIMEOUT_MS,
} from "../../../src/layout/option.ts";
import { EBADF, ENOBUFS, EPROTO } from "../../../src/layout/status.ts";
import { KERNEL_BUILDS, type KernelBench, openActive, openPassive, Peer } from "../../helpers/kernelBench.ts";
import {
  type BenchPair,
  createPair,
  exportFrozen,
  forwardLate,
  freeze,
  groupOf,
  importPieces,
  listFrozen,
  move,
} from "../../helpers/migration.ts";
import { pattern } from "../../helpers/packets.ts";
import { reach, reachSynReceived, reachSynSent, SYNCHRONIZED_STATES } from "../../helpers/tcpStates.ts";

/** Fields that point into a kernel's own memory or tables: three buffers, links, generation, neighbour, queue flags. */
const RELOCATED_BYTES_MAX = 32;
const GAUGES = ["gaugeConnections", "gaugeFlows", "gaugeStreamBytes", "gaugeTimeWait", "gaugeAcceptQueue"] as const;

function gauges(bench: KernelBench): number[] {
  const counters = bench.counters();
  return GAUGES.map((name) => counters[name] as number);
}

/** The peer's segments go to the other kernel from now on, whose time is the same. */
function follow({ source, target }: BenchPair, peer: Peer): void {
  target.nowNs = Math.max(source.nowNs, target.nowNs);
  source.nowNs = target.nowNs;
  peer.bench = target;
}

/** A path to the peer that swallows segments with more payload than `bytesMax`; the peer answers with SACK. */
class NarrowPath {
  /** In order. */
  received = 0;
  readonly #peer: Peer;
  readonly #bytesMax: number;
  #ahead: [start: number, end: number][] = [];

  constructor(peer: Peer, bytesMax: number) {
    this.#peer = peer;
    this.#bytesMax = bytesMax;
  }

  carry(): void {
    for (const { seq, payload } of this.#peer.all()) {
      if (payload.length === 0 || payload.length > this.#bytesMax) continue;
      this.#take(seq - 1, seq - 1 + payload.length);
      const blocks = this.#ahead.slice(0, 3).map(([start, end]) => [1 + start, 1 + end] as const);
      const sack = blocks.map((block) => block.map((at) => (this.#peer.kernelIss + at) >>> 0) as [number, number]);
      this.#peer.send({ flags: "ack", ack: 1 + this.received, ...(sack.length > 0 ? { options: { sack } } : {}) });
    }
  }

  #take(start: number, end: number): void {
    const touches = ([from, to]: [number, number]) => from <= end && to >= start;
    const merged = this.#ahead.filter(touches);
    const rest = this.#ahead.filter((block) => !touches(block));
    this.#ahead = [
      [Math.min(start, ...merged.map(([from]) => from)), Math.max(end, ...merged.map(([, to]) => to))],
      ...rest,
    ];
    const next = this.#ahead.find(([from]) => from <= this.received);
    if (!next) return;
    this.received = Math.max(this.received, next[1]);
    this.#ahead = this.#ahead.filter((block) => block !== next);
  }
}

function moveOf(pair: BenchPair, peer: Peer, handle: number, pieceBytes?: number): number {
  pair.target.nowNs = Math.max(pair.source.nowNs, pair.target.nowNs);
  pair.target.turn();
  const { status, handles } = move(pair, groupOf(peer.port), pieceBytes);
  expect(status).toBe(0);
  follow(pair, peer);
  expect(pair.source.wasm.tcpGetInfo(handle, pair.source.area)).toBe(EBADF);
  return handles.get(handle) as number;
}

describe.each(KERNEL_BUILDS)("live migration, %s", (build) => {
  describe.each(SYNCHRONIZED_STATES)("a connection in %s", (state) => {
    test("arrives as it was, and the source keeps nothing", () => {
      const pair = createPair({ build });
      const empty = gauges(pair.source);
      const { peer, handle } = reach(pair.source, state, { timestamp: 5000, windowScale: 3 });
      const info = pair.source.info(handle);
      const moved = moveOf(pair, peer, handle);
      expect(pair.target.info(moved)).toEqual(info);
      expect(gauges(pair.source)).toEqual(empty);
      expect(pair.target.counters()).toMatchObject({ migratedIn: 1, gaugeConnections: 1, gaugeFlows: 1 });
      pair.source.advance(100);
      expect(pair.source.sent()).toEqual([]);
      expect(pair.target.counters().tcpRstSent).toBe(0);
    });

    test("its record is the same, read and written again, but for what points into a kernel's memory", () => {
      const pair = createPair({ build });
      const { peer, handle } = reach(pair.source, state, { timestamp: 5000 });
      if (state === "ESTABLISHED") pair.source.write(handle, pattern(3000));
      freeze(pair.source, groupOf(peer.port), 1);
      const written = Buffer.concat(exportFrozen(pair.source));
      expect(importPieces(pair.target, [written])).toBe(0);
      const again = Buffer.concat(exportFrozen(pair.target));
      expect(again.length).toBe(written.length);
      const differing = [...written.keys()].filter((i) => written[i] !== again[i]);
      expect(differing.length).toBeLessThanOrEqual(RELOCATED_BYTES_MAX);
      const contentAt =
        again.length - again.readUInt32LE(MIGRATION_SND_BYTES) - again.readUInt32LE(MIGRATION_RCV_BYTES);
      expect(differing.every((i) => i >= MIGRATION_HEADER_SIZE_BYTES && i < contentAt)).toBe(true);
    });
  });

  test("bytes not yet acknowledged, not yet sent and not yet read go on, and the FIN comes after them", () => {
    const pair = createPair({ build });
    const { peer, handle } = openPassive(pair.source, { window: 4000, timestamp: 5000 });
    pair.source.write(handle, pattern(9000));
    const got = Buffer.alloc(9000);
    const first = peer.all();
    expect(first.length).toBeGreaterThan(1);
    for (const { seq, payload } of first) got.set(payload, seq - 1);
    peer.send({ flags: "psh ack", payload: pattern(700, 3), ack: 1461 });
    peer.send({ flags: "psh ack", payload: pattern(900, 4), ack: 1461 });
    const moved = moveOf(pair, peer, handle, 100);
    expect(Buffer.from(pair.target.read(moved))).toEqual(Buffer.concat([pattern(700, 3), pattern(900, 4)]));
    expect(pair.target.wasm.tcpClose(moved)).toBe(0);
    let fin = false;
    for (let round = 0; round < 40 && !fin; round++) {
      pair.target.advance(300);
      for (let sent = peer.receive(); sent; sent = peer.receive()) {
        if (sent.payload.length > 0) got.set(sent.payload, sent.seq - 1);
        fin ||= sent.flags.includes("fin");
      }
      peer.send({ flags: "ack" });
    }
    expect(fin).toBe(true);
    expect(got.equals(pattern(9000))).toBe(true);
  });

  test("what came ahead of its turn is kept, and the hole is filled at the new kernel", () => {
    const pair = createPair({ build });
    const { peer, handle } = openPassive(pair.source);
    const bytes = pattern(5000);
    peer.send({ flags: "ack", seq: 1001, payload: bytes.subarray(1000, 2000) });
    peer.send({ flags: "ack", seq: 3001, payload: bytes.subarray(3000, 5000) });
    peer.all();
    const moved = moveOf(pair, peer, handle, 64);
    peer.send({ flags: "ack", seq: 1, payload: bytes.subarray(0, 1000) });
    peer.expect({ flags: "ack", ack: 2001 });
    peer.send({ flags: "ack", seq: 2001, payload: bytes.subarray(2000, 3000) });
    peer.expect({ flags: "ack", ack: 5001 });
    expect(Buffer.from(pair.target.read(moved)).equals(bytes)).toBe(true);
    expect(pair.target.counters().gaugeStreamBytes).toBe(0);
  });

  test("the retransmission timer goes on where it was", () => {
    const pair = createPair({ build, tuning: { rtoMinUs: 200_000 } });
    const { peer, handle } = openPassive(pair.source);
    pair.source.write(handle, pattern(100));
    peer.all();
    pair.source.advance(150);
    const due = pair.source.wasm.nextDeadlineNs();
    moveOf(pair, peer, handle);
    pair.target.advance(1);
    expect(Math.abs(pair.target.wasm.nextDeadlineNs() - due)).toBeLessThan(2e6);
    pair.target.advance(2000);
    peer.expect({ seq: 1, payload: pattern(100) });
    // The neighbour's entry is looked at in minutes.
    expect(pair.source.wasm.nextDeadlineNs()).toBeGreaterThan(pair.source.nowNs + 60e9);
  });

  test("delayed ACK and keep-alive come from the new kernel", () => {
    const pair = createPair({ build, tuning: { keepaliveIdleMs: 5000 } });
    const { peer, handle } = openPassive(pair.source);
    pair.source.wasm.tcpSetOption(handle, OPTION_KEEPALIVE, 1);
    peer.send({ flags: "psh ack", payload: pattern(10) });
    peer.expectNothing();
    moveOf(pair, peer, handle);
    pair.target.advance(60);
    peer.expect({ flags: "ack", ack: 11 });
    pair.target.advance(5100);
    peer.expect({ flags: "ack", seq: 0 });
  });

  test("options of the one connection go along, and stay when it comes back", () => {
    const pair = createPair({ build, tuning: { keepaliveIdleMs: 60_000 } });
    const { peer, handle } = openPassive(pair.source);
    const set = (bench: KernelBench, at: number, option: number, value: number) =>
      expect(bench.wasm.tcpSetOption(at, option, value)).toBe(0);
    set(pair.source, handle, OPTION_KEEPALIVE_IDLE_MS, 5000);
    set(pair.source, handle, OPTION_KEEPALIVE_INTERVAL_MS, 2000);
    set(pair.source, handle, OPTION_KEEPALIVE_PROBES, 2);
    set(pair.source, handle, OPTION_MSS_BYTES, 300);
    set(pair.source, handle, OPTION_CORK, 1);
    set(pair.source, handle, OPTION_KEEPALIVE, 1);
    const there = moveOf(pair, peer, handle);
    pair.target.write(there, pattern(350));
    peer.expect({ seq: 1, payload: pattern(350).subarray(0, 300) });
    peer.send({ flags: "ack", ack: 301 });
    peer.expectNothing();
    // Corked for 200 ms at most.
    pair.target.advance(250);
    expect(peer.receive()?.payload.length).toBe(50);
    peer.send({ flags: "ack", ack: 351 });
    const back = { source: pair.target, target: pair.source };
    const again = moveOf(back, peer, there);
    for (const silenceMs of [5100, 2000]) {
      pair.source.advance(silenceMs);
      peer.expect({ flags: "ack", seq: 350 });
    }
    expect(pair.source.info(again).state).toBe("ESTABLISHED");
    pair.source.advance(2000);
    expect(pair.source.info(again).state).toBe("CLOSED");
  });

  test("the user timeout goes on counting from where it was", () => {
    const pair = createPair({ build, tuning: { rtoMinUs: 200_000 } });
    const { peer, handle } = openPassive(pair.source);
    expect(pair.source.wasm.tcpSetOption(handle, OPTION_USER_TIMEOUT_MS, 4000)).toBe(0);
    pair.source.write(handle, pattern(100));
    pair.source.advance(2500);
    const there = moveOf(pair, peer, handle);
    pair.target.advance(1000);
    expect(pair.target.info(there).state).toBe("ESTABLISHED");
    pair.target.advance(1500);
    expect(pair.target.info(there).state).toBe("CLOSED");
  });

  test("the search for the path's MTU goes on where it was", () => {
    const pair = createPair({ build, tuning: { rtoMinUs: 200_000 } });
    const { peer, handle } = openPassive(pair.source, { mss: 1460, sack: true });
    const total = 300_000;
    let written = pair.source.write(handle, pattern(50_000));
    // Three time-outs in a row: the path seems to swallow what is large.
    pair.source.advance(3000);
    const before = pair.source.info(handle).sndMssBytes;
    expect(before).toBeLessThan(1460);
    expect(pair.source.counters().tcpBlackHoles).toBe(1);
    peer.all();
    const there = moveOf(pair, peer, handle);
    // From now on segments of up to 1200 bytes arrive.
    const path = new NarrowPath(peer, 1200);
    for (let round = 0; round < 300 && path.received < total; round++) {
      if (written < total) written += pair.target.write(there, pattern(Math.min(10_000, total - written)));
      pair.target.advance(20);
      path.carry();
    }
    expect(path.received).toBe(total);
    const { tcpMtuProbes, tcpMtuProbesFailed } = pair.target.counters();
    expect(tcpMtuProbes).toBeGreaterThan(tcpMtuProbesFailed as number);
    expect(tcpMtuProbesFailed).toBeGreaterThan(0);
    expect(pair.target.info(there).sndMssBytes).toBeGreaterThan(before);
    expect(pair.target.info(there).sndMssBytes).toBeLessThanOrEqual(1200);
  });

  test("timestamps never run backwards, for kernels of a stack share their offset", () => {
    const pair = createPair({ build });
    const { peer, handle } = openPassive(pair.source, { timestamp: 1 });
    pair.source.write(handle, pattern(10));
    const before = peer.receive()?.options.timestamps?.[0] as number;
    pair.source.advance(3);
    const moved = moveOf(pair, peer, handle);
    pair.target.write(moved, pattern(10));
    peer.send({ flags: "ack" });
    pair.target.write(moved, pattern(10));
    expect(((peer.receive()?.options.timestamps?.[0] as number) - before) | 0).toBe(3);
  });

  test("half-open connections: the ACK finds its SYN at the new kernel's listener", () => {
    const pair = createPair({ build });
    const listener = pair.target.listen(80, 4);
    const { peer } = reachSynReceived(pair.source);
    pair.target.turn();
    expect(move(pair, groupOf(peer.port)).status).toBe(0);
    follow(pair, peer);
    peer.send({ flags: "ack" });
    const handle = pair.target.wasm.tcpAccept(listener);
    expect(pair.target.state(handle)).toBe("ESTABLISHED");
    expect(pair.source.counters()).toMatchObject({ gaugeConnections: 0, tcpRstSent: 0 });
  });

  test("an active open completes at the new kernel", () => {
    const pair = createPair({ build, localPorts: { first: 32768, last: 60999 } });
    const { peer, handle } = reachSynSent(pair.source);
    pair.target.turn();
    const { handles } = move(pair, groupOf(peer.kernelPort ^ peer.port));
    follow(pair, peer);
    const moved = handles.get(handle) as number;
    peer.send({ flags: "syn ack" });
    peer.expect({ flags: "ack", seq: 1, ack: 1 });
    expect(pair.target.state(moved)).toBe("ESTABLISHED");
    expect(pair.target.events(moved)[0]?.mask).toContain("connected");
  });

  test("connections that wait to be accepted keep their order, and what came meanwhile", () => {
    const pair = createPair({ build });
    const listener = pair.source.listen(80);
    const there = pair.target.listen(80);
    const peers = [0, 4096, 1, 8192].map((add) => new Peer(pair.source, { port: 30000 + add }));
    for (const peer of peers) {
      peer.send({ flags: "syn" });
      peer.receive();
      peer.send({ flags: "ack", payload: pattern(8, peer.port) });
    }
    pair.target.turn();
    expect(move(pair, groupOf(30000)).handles.size).toBe(3);
    for (const peer of peers) if (groupOf(peer.port) === groupOf(30000)) follow(pair, peer);
    pair.target.settle();
    expect(pair.target.events().some(({ handle, mask }) => handle === there && mask === "acceptable")).toBe(true);
    const accepted = [0, 1, 2].map(() => pair.target.wasm.tcpAccept(there));
    expect(accepted.map((handle) => pair.target.info(handle).remotePort)).toEqual([30000, 34096, 38192]);
    expect(Buffer.from(pair.target.read(accepted[1] as number))).toEqual(Buffer.from(pattern(8, 34096)));
    expect(pair.source.info(pair.source.wasm.tcpAccept(listener)).remotePort).toBe(30001);
    expect(pair.source.wasm.tcpAccept(listener)).toBe(-11);
  });

  test("without a listener at the new kernel, what waits is reset, the half-open ones by their ACK", () => {
    const pair = createPair({ build });
    pair.source.listen(80);
    const waiting = new Peer(pair.source, { port: 30000 });
    waiting.send({ flags: "syn" });
    waiting.receive();
    waiting.send({ flags: "ack" });
    const open = new Peer(pair.source, { port: 34096 });
    open.send({ flags: "syn" });
    open.receive();
    pair.target.turn();
    expect(move(pair, groupOf(30000)).status).toBe(0);
    for (const peer of [waiting, open]) follow(pair, peer);
    pair.target.settle();
    waiting.expect({ flags: "rst ack" });
    open.send({ flags: "ack" });
    open.expect({ flags: "rst" });
    expect(pair.target.counters()).toMatchObject({ gaugeConnections: 0, gaugeAcceptQueue: 0 });
  });

  test("SYN cookies of the old kernel are honoured by the new one", () => {
    const pair = createPair({ build });
    pair.source.listen(80, 1);
    const there = pair.target.listen(80, 1);
    new Peer(pair.source, { port: 50000 }).send({ flags: "syn" });
    const peer = new Peer(pair.source, { port: 30000, mss: 1460 });
    peer.send({ flags: "syn" });
    peer.expect({ flags: "syn ack" });
    expect(pair.source.counters().synCookiesSent).toBe(1);
    pair.target.turn();
    expect(move(pair, groupOf(30000)).status).toBe(0);
    follow(pair, peer);
    peer.send({ flags: "ack" });
    expect(pair.target.counters().synCookiesAccepted).toBe(1);
    expect(pair.target.wasm.tcpAccept(there)).toBeGreaterThanOrEqual(0);
  });

  test("no room at the new kernel: all stay, and go on", () => {
    for (const tuning of [{ connectionsMax: 2 }, { streamPoolBytes: 65536, rcvBufferBytesMax: 2048 }]) {
      const pair = createPair({ build }, { tuning });
      const listener = pair.source.listen(80);
      const opened = [0, 1, 2].map((i) => openPassive(pair.source, { port: 30000 + 4096 * i }, listener));
      for (const { handle } of opened) pair.source.write(handle, pattern(40_000));
      for (const { peer } of opened) peer.all();
      const before = gauges(pair.target);
      const { status } = move(pair, groupOf(30000));
      expect(status).toBe(ENOBUFS);
      expect(gauges(pair.target)).toEqual(before);
      expect(pair.source.counters()).toMatchObject({ gaugeConnections: 3, gaugeFlows: 3, migratedOut: 0 });
      for (const { peer, handle } of opened) {
        peer.send({ flags: "psh ack", payload: pattern(50) });
        expect(pair.source.read(handle).length).toBe(50);
      }
    }
  });

  test("only the group moves", () => {
    const pair = createPair({ build });
    const listener = pair.source.listen(80);
    const goes = openPassive(pair.source, { port: 30000 }, listener);
    const stays = openPassive(pair.source, { port: 30001 }, listener);
    moveOf(pair, goes.peer, goes.handle);
    stays.peer.send({ flags: "psh ack", payload: pattern(10) });
    expect(pair.source.read(stays.handle).length).toBe(10);
    expect(pair.source.counters().gaugeConnections).toBe(1);
  });

  test("frames that come before their connection wait, in their order, and are not answered", () => {
    const pair = createPair({ build });
    const { peer, handle } = openPassive(pair.source);
    const group = groupOf(peer.port);
    const { target } = pair;
    target.listen(80);
    target.turn();
    target.wasm.migrationSetGroup(group, GROUP_ARRIVING);
    peer.bench = target;
    for (let i = 0; i < 3; i++) peer.send({ flags: "psh ack", payload: pattern(100, i) });
    // A new connection's SYN waits as well.
    const fresh = new Peer(target, { port: peer.port + 4096 });
    fresh.send({ flags: "syn" });
    fresh.expectNothing();
    expect(target.counters()).toMatchObject({ migrationFramesHeld: 4, tcpRstSent: 0, tcpSegmentsReceived: 0 });
    peer.bench = pair.source;
    freeze(pair.source, group);
    expect(importPieces(target, exportFrozen(pair.source))).toBe(0);
    const moved = listFrozen(target).get(handle) as number;
    target.wasm.migrationSetGroup(group, GROUP_STEADY);
    target.wasm.migrationThaw(1);
    pair.source.wasm.migrationDiscard(1);
    expect(target.wasm.migrationReplayHeld(group)).toBe(4);
    target.settle();
    expect(Buffer.from(target.read(moved))).toEqual(Buffer.concat([pattern(100, 0), pattern(100, 1), pattern(100, 2)]));
    fresh.expect({ flags: "syn ack" });
    // The SYN's small queue entries: nothing but the connections' own memory is left.
    expect(target.counters().tcpOutOfOrder).toBe(0);
  });

  test("late frames are forwarded while the group counts as gone, then answered as any other", () => {
    const pair = createPair({ build });
    const { peer, handle } = openPassive(pair.source);
    const group = groupOf(peer.port);
    pair.target.turn();
    const { handles } = move(pair, group);
    const moved = handles.get(handle) as number;
    pair.target.nowNs = pair.source.nowNs;
    // Still brought to the old kernel.
    peer.send({ flags: "psh ack", payload: pattern(100) });
    peer.expectNothing();
    expect(pair.source.counters()).toMatchObject({ lateFramesForwarded: 1, tcpRstSent: 0 });
    expect(forwardLate(pair)).toBe(1);
    expect(pair.target.read(moved).length).toBe(100);
    expect(pair.source.counters().gaugeStreamBytes).toBe(0);
    pair.source.wasm.migrationSetGroup(group, GROUP_STEADY);
    peer.bench = pair.source;
    peer.send({ flags: "psh ack", payload: pattern(100) });
    peer.expect({ flags: "rst" });
  });

  test("frames for which there is no room are dropped and counted", () => {
    const pair = createPair({ build, tuning: { streamPoolBytes: 65536 } });
    const { target } = pair;
    target.wasm.migrationSetGroup(groupOf(40000), GROUP_LEFT);
    const peer = new Peer(target);
    for (let i = 0; i < 100; i++) peer.post({ flags: "ack", payload: pattern(1000), seq: i, ack: 0 });
    target.turn();
    const { lateFramesForwarded = 0, dropMigrationFrames = 0 } = target.counters();
    expect(lateFramesForwarded).toBeGreaterThan(4);
    expect(lateFramesForwarded + dropMigrationFrames).toBe(100);
    while (target.wasm.migrationLatePeek() !== 0) target.wasm.migrationLateDrop();
    expect(target.counters().gaugeStreamBytes).toBe(0);
  });

  test("there and back again, in pieces of any size, with data on the way", () => {
    for (const pieceBytes of [1, 7, 128, 1000, 65536]) {
      const pair = createPair({ build });
      const active = openActive(pair.source, { port: 7000, timestamp: 9 });
      const back = { source: pair.target, target: pair.source };
      const { peer } = active;
      let { handle } = active;
      for (let round = 0; round < 4; round++) {
        const there = round % 2 === 0 ? pair : back;
        there.source.queue(handle, pattern(2000, round));
        there.source.turn();
        peer.send({ flags: "psh ack", payload: pattern(300, round) });
        handle = moveOf(there, peer, handle, pieceBytes);
        expect(Buffer.from(there.target.read(handle))).toEqual(Buffer.from(pattern(300, round)));
        for (let acks = 0; peer.rcvNxt < 1 + (round + 1) * 2000 && acks < 10; acks++) {
          there.target.advance(300);
          expect(peer.all().length).toBeGreaterThan(0);
          peer.send({ flags: "ack" });
        }
      }
      expect(peer.rcvNxt).toBe(1 + 4 * 2000);
      expect([pair.source, pair.target].map((bench) => bench.counters().gaugeConnections)).toEqual([1, 0]);
    }
  });

  test("a stream of records that makes no sense is refused, and leaves nothing", () => {
    const pair = createPair({ build });
    const { peer, handle } = openPassive(pair.source);
    pair.source.write(handle, pattern(3000));
    freeze(pair.source, groupOf(peer.port));
    const stream = Buffer.concat(exportFrozen(pair.source));
    const empty = gauges(pair.target);
    expect(importPieces(pair.target, [stream.subarray(0, stream.length - 1)])).toBe(EPROTO);
    pair.target.wasm.migrationDiscard(0);
    expect(gauges(pair.target)).toEqual(empty);
    for (const at of [0, 4, 8, 12, MIGRATION_EXT_BYTES, MIGRATION_SND_BYTES + 3]) {
      const wrong = Buffer.from(stream);
      wrong[at] = (wrong[at] as number) ^ 0x7f;
      expect(importPieces(pair.target, [wrong]), `byte ${at}`).toBe(EPROTO);
      pair.target.wasm.migrationDiscard(0);
      expect(gauges(pair.target)).toEqual(empty);
    }
    expect(importPieces(pair.target, [stream])).toBe(0);
  });
});
