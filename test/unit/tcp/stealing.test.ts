/** Connections that wait to be accepted go to another kernel, their groups stay: the kernels' part, step by step. */
import { describe, expect, test } from "vitest";
import { FLOW_GROUPS } from "../../../src/layout/flowGroup.ts";
import { FRAME_QUEUE } from "../../../src/layout/frameRing.ts";
import { GROUP_HERE, GROUP_LEFT, GROUP_STEADY } from "../../../src/layout/migration.ts";
import { EBUSY, ECONNREFUSED, EINVAL, ENOBUFS } from "../../../src/layout/status.ts";
import { KERNEL_BUILDS, type KernelBench, Peer } from "../../helpers/kernelBench.ts";
import {
  type BenchPair,
  createPair,
  exportFrozen,
  forwardLate,
  groupOf,
  importPieces,
} from "../../helpers/migration.ts";
import { pattern } from "../../helpers/packets.ts";

const MOVE = 7;
const THIEF = 1;
const ALL = 100;

/** Its handshake is over, and a byte has come: it waits to be accepted. */
function openPending(bench: KernelBench, port: number): Peer {
  const peer = new Peer(bench, { port });
  peer.send({ flags: "syn" });
  peer.receive();
  peer.send({ flags: "ack", payload: pattern(8, port) });
  return peer;
}

function acceptAll(bench: KernelBench, listener: number): { port: number; handle: number }[] {
  const accepted: { port: number; handle: number }[] = [];
  for (;;) {
    const handle = bench.wasm.tcpAccept(listener);
    if (handle < 0) return accepted;
    accepted.push({ port: bench.info(handle).remotePort, handle });
  }
}

function ports(accepted: readonly { port: number }[]): number[] {
  return accepted.map(({ port }) => port);
}

function swapped(port: number): number {
  return ((port & 0xff) << 8) | (port >> 8);
}

/** Has the peer's address in the area. @returns the ports of its segments. */
function nameFlow(bench: KernelBench, peer: Peer): number {
  bench.bytes.fill(0, bench.area, bench.area + 10);
  bench.bytes.set([255, 255, 10, 0, 0, 2], bench.area + 10);
  return swapped(peer.port) | (swapped(80) << 16);
}

function expectFlow(bench: KernelBench, peer: Peer): number {
  return bench.wasm.stealExpect(bench.area, 0, nameFlow(bench, peer), MOVE);
}

function detour(bench: KernelBench, peer: Peer, state: number): number {
  return bench.wasm.flowDetour(bench.area, 0, nameFlow(bench, peer), state, MOVE);
}

function startSteal(pair: BenchPair, peers: readonly Peer[], connections: number): number {
  const count = pair.source.wasm.stealFreeze(connections, 1, 1, THIEF, MOVE);
  for (const peer of peers) expectFlow(pair.target, peer);
  return count;
}

function commit({ source, target }: BenchPair): void {
  expect(importPieces(target, exportFrozen(source))).toBe(0);
  target.wasm.stealDetour(MOVE, GROUP_STEADY);
  target.wasm.migrationThaw(1);
  target.wasm.migrationReplayHeld(FLOW_GROUPS);
  source.wasm.migrationDiscard(1);
}

describe.each(KERNEL_BUILDS)("stealing, %s build", (build) => {
  function start(count: number, backlog = 64) {
    const pair = createPair({ build });
    const here = pair.source.listen(80, backlog);
    const there = pair.target.listen(80, backlog);
    const peers = Array.from({ length: count }, (_, i) => openPending(pair.source, 30_000 + 17 * i));
    pair.target.nowNs = pair.source.nowNs;
    pair.target.turn();
    return { pair, here, there, peers };
  }

  test("the oldest go, to their places among those of the thief, with what has come for them", () => {
    const { pair, here, there } = start(0);
    const openAt = (bench: KernelBench, ms: number, port: number) => {
      bench.nowNs = ms * 1e6;
      return openPending(bench, port);
    };
    for (const [ms, port] of [
      [10, 20_000],
      [40, 20_017],
      [60, 20_034],
    ] as const)
      openAt(pair.target, ms, port);
    const peers = [20, 30, 50, 70, 80].map((ms, i) => openAt(pair.source, ms, 30_000 + 17 * i));
    expect(startSteal(pair, peers.slice(0, 3), 3)).toBe(3);
    commit(pair);
    openAt(pair.target, 90, 20_051);
    const accepted = acceptAll(pair.target, there);
    expect(ports(accepted)).toEqual([20_000, 30_000, 30_017, 20_017, 30_034, 20_034, 20_051]);
    expect(Buffer.from(pair.target.read(accepted[2]?.handle as number))).toEqual(Buffer.from(pattern(8, 30_017)));
    expect(ports(acceptAll(pair.source, here))).toEqual([30_051, 30_068]);
    expect(pair.source.counters()).toMatchObject({ gaugeAcceptQueue: 0, migratedOut: 3, tcpRstSent: 0 });
    expect(pair.target.counters()).toMatchObject({ migratedIn: 3, tcpRstSent: 0, gaugeConnections: 7 });
  });

  test("no more than wait, than it is told, or of addresses and families that have no filters", () => {
    const { pair, peers } = start(4);
    expect(pair.source.wasm.stealFreeze(ALL, 0, 1, THIEF, MOVE)).toBe(0);
    expect(pair.source.wasm.stealFreeze(1, 1, 0, THIEF, MOVE)).toBe(1);
    expect(pair.source.wasm.stealFreeze(ALL, 1, 1, THIEF, MOVE)).toBe(peers.length - 1);
    expect(pair.source.wasm.stealFreeze(ALL, 1, 1, THIEF, MOVE)).toBe(0);
  });

  test("neither half-open nor accepted ones, nor those that their peer has reset", () => {
    const { pair, here, peers } = start(3);
    pair.source.wasm.tcpAccept(here);
    peers[1]?.send({ flags: "rst" });
    new Peer(pair.source, { port: 40_000 }).send({ flags: "syn" });
    expect(pair.source.wasm.stealFreeze(ALL, 1, 1, THIEF, MOVE)).toBe(1);
  });

  test("of several listeners, those of the one where most wait", () => {
    const { pair, here } = start(3);
    const other = pair.source.listen(81);
    const more = [0, 1].map((i) => new Peer(pair.source, { port: 41_000 + i, kernelPort: 81 }));
    for (const peer of more) {
      peer.send({ flags: "syn" });
      peer.receive();
      peer.send({ flags: "ack" });
    }
    expect(pair.source.wasm.stealFreeze(2, 1, 1, THIEF, MOVE)).toBe(2);
    // Three wait at the first, then two at each: the first again.
    expect(ports(acceptAll(pair.source, here)).length + ports(acceptAll(pair.source, other)).length).toBe(3);
    pair.source.wasm.migrationThaw(0);
    expect(ports(acceptAll(pair.source, here))[0]).toBe(30_000);
  });

  test("what comes to the thief later is younger, although the other kernel's clock was ahead of its own", () => {
    const { pair, there } = start(0);
    pair.source.nowNs += 50e6;
    startSteal(pair, [openPending(pair.source, 30_000)], 1);
    commit(pair);
    openPending(pair.target, 20_000);
    expect(ports(acceptAll(pair.target, there))).toEqual([30_000, 20_000]);
  });

  test("given back, they pass none that was older and could not go", () => {
    const { pair, here, peers } = start(4);
    peers[0]?.send({ flags: "rst" });
    peers[2]?.send({ flags: "rst" });
    expect(startSteal(pair, [peers[1] as Peer, peers[3] as Peer], 2)).toBe(2);
    pair.source.wasm.stealDetour(MOVE, GROUP_STEADY);
    pair.source.wasm.migrationThaw(0);
    expect(ports(acceptAll(pair.source, here))).toEqual([30_000, 30_017, 30_034, 30_051]);
  });

  test("of a group that is given back, too", () => {
    const { pair, here } = start(3);
    expect(pair.source.wasm.migrationFreeze(groupOf(30_017), 1, ALL)).toBe(0);
    pair.source.wasm.migrationThaw(0);
    expect(ports(acceptAll(pair.source, here))).toEqual([30_000, 30_017, 30_034]);
  });

  test("given back, they are in their order again, and their frames have waited", () => {
    const { pair, here, peers } = start(5);
    expect(startSteal(pair, peers, 3)).toBe(3);
    peers[1]?.send({ flags: "psh ack", payload: pattern(50, 1) });
    peers[1]?.expectNothing();
    expect(pair.source.counters()).toMatchObject({ lateFramesForwarded: 1, tcpRstSent: 0 });
    pair.source.wasm.stealDetour(MOVE, GROUP_STEADY);
    pair.source.wasm.migrationThaw(0);
    expect(pair.source.wasm.migrationReplayLate(FLOW_GROUPS)).toBe(1);
    const accepted = acceptAll(pair.source, here);
    expect(ports(accepted)).toEqual([30_000, 30_017, 30_034, 30_051, 30_068]);
    expect(pair.source.read(accepted[1]?.handle as number).length).toBe(58);
    expect(pair.source.wasm.migrationLatePeek()).toBe(0);
  });

  test("frames that come late are for the thief; those of the rest of the group are not", () => {
    const { pair, there, peers } = start(2);
    const [stolen] = peers as [Peer, Peer];
    expect(startSteal(pair, [stolen], 1)).toBe(1);
    stolen.send({ flags: "psh ack", payload: pattern(20, 2) });
    commit(pair);
    stolen.send({ flags: "psh ack", payload: pattern(30, 3) });
    expect(pair.source.counters().tcpRstSent).toBe(0);
    // Of the same group: a connection that begins here goes on here.
    const neighbour = openPending(pair.source, stolen.port + FLOW_GROUPS);
    expect(groupOf(neighbour.port)).toBe(groupOf(stolen.port));
    expect(pair.source.counters().gaugeAcceptQueue).toBe(2);
    expect(forwardLate(pair)).toBe(2);
    const [{ handle }] = acceptAll(pair.target, there) as [{ port: number; handle: number }];
    expect(pair.target.read(handle).length).toBe(58);
    pair.source.wasm.stealDetour(MOVE, GROUP_STEADY);
    stolen.send({ flags: "psh ack", payload: pattern(1) });
    stolen.expect({ flags: "rst" });
  });

  test("frames that come early wait at the thief, and go back if nothing comes", () => {
    const { pair, there, peers } = start(2);
    const [first, second] = peers as [Peer, Peer];
    startSteal(pair, peers, 2);
    for (const peer of peers) peer.bench = pair.target;
    first.send({ flags: "psh ack", payload: pattern(20, 2) });
    first.expectNothing();
    // Whatever else comes for their groups is as it always was.
    const stranger = new Peer(pair.target, { port: second.port + FLOW_GROUPS });
    stranger.send({ flags: "ack", payload: pattern(1) });
    stranger.expect({ flags: "rst" });
    expect(pair.target.counters().migrationFramesHeld).toBe(1);
    commit(pair);
    const accepted = acceptAll(pair.target, there);
    expect(accepted.map(({ handle }) => pair.target.read(handle).length)).toEqual([28, 8]);

    const undone = start(1);
    const [peer] = undone.peers as [Peer];
    startSteal(undone.pair, undone.peers, 1);
    peer.bench = undone.pair.target;
    peer.send({ flags: "psh ack", payload: pattern(20, 2) });
    undone.pair.target.wasm.stealDetour(MOVE, GROUP_LEFT);
    expect(undone.pair.target.wasm.migrationReplayHeld(FLOW_GROUPS)).toBe(1);
    expect(undone.pair.target.wasm.migrationLatePeek()).not.toBe(0);
    expect(undone.pair.target.counters().tcpRstSent).toBe(0);
  });

  test("a flow whose group has just left the thief is refused: its frames would go round in a circle", () => {
    const { pair, peers } = start(1);
    const [peer] = peers as [Peer];
    pair.target.wasm.migrationSetGroup(groupOf(peer.port), GROUP_LEFT);
    expect(expectFlow(pair.target, peer)).toBe(EBUSY);
    pair.target.wasm.migrationSetGroup(groupOf(peer.port), GROUP_STEADY);
    expect(expectFlow(pair.target, peer)).toBe(0);
  });

  test("detours are as many as there is room for, and their room is given back", () => {
    const { pair } = start(0);
    const { wasm } = pair.target;
    for (let round = 1; round <= 3; round++) {
      let taken = 0;
      for (; taken < 2000; taken++) {
        pair.target.bytes.fill(taken & 255, pair.target.area, pair.target.area + 16);
        const flow = ((taken * 7919) & 0xffff) | (swapped(80) << 16);
        if (wasm.stealExpect(pair.target.area, 0, flow, round) < 0) break;
      }
      expect(taken).toBe(992);
      wasm.stealDetour(round + 1, GROUP_STEADY);
      expect(wasm.stealExpect(pair.target.area, 0, 0xffff | (swapped(80) << 16), round)).toBe(ENOBUFS);
      wasm.stealDetour(round, GROUP_STEADY);
    }
  });

  test("a kernel without a listener there takes nothing", () => {
    const { pair, there, peers } = start(1);
    const [peer] = peers as [Peer];
    pair.target.wasm.tcpListenClose(there);
    expect(expectFlow(pair.target, peer)).toBe(ECONNREFUSED);
    pair.target.listen(81);
    expect(expectFlow(pair.target, peer)).toBe(ECONNREFUSED);
    pair.target.listen(80);
    expect(expectFlow(pair.target, peer)).toBe(0);
  });

  test("a flow may go another way than its group: to a third kernel, or be for this one", () => {
    const { pair } = start(0);
    const { target } = pair;
    const [away, here, other] = [0, 1, 2].map((i) => new Peer(target, { port: 30_000 + i * FLOW_GROUPS })) as Peer[];
    expect(groupOf((away as Peer).port)).toBe(groupOf((here as Peer).port));
    expect(detour(target, away as Peer, GROUP_STEADY)).toBe(EINVAL);
    expect(detour(target, away as Peer, GROUP_LEFT + 2)).toBe(0);
    expect(detour(target, here as Peer, GROUP_HERE)).toBe(0);
    target.wasm.migrationSetGroup(groupOf((away as Peer).port), GROUP_LEFT);
    const late = (peer: Peer) => {
      peer.send({ flags: "syn" });
      const at = target.wasm.migrationLatePeek() >>> 0;
      if (at === 0) return undefined;
      const kernel = target.bytes[at + FRAME_QUEUE];
      target.wasm.migrationLateDrop();
      return kernel;
    };
    expect(late(away as Peer)).toBe(2);
    expect(late(other as Peer)).toBe(0);
    expect(late(here as Peer)).toBeUndefined();
    (here as Peer).expect({ flags: "syn ack" });
    // Ended, all are of their group again.
    target.wasm.stealDetour(MOVE, GROUP_STEADY);
    expect(late(away as Peer)).toBe(0);
  });

  test("a listener that the thief has closed meanwhile: what is stolen is reset, as closing would have done", () => {
    const { pair, there, peers } = start(1);
    const [peer] = peers as [Peer];
    startSteal(pair, [peer], 1);
    pair.target.wasm.tcpListenClose(there);
    commit(pair);
    peer.bench = pair.target;
    pair.target.settle();
    peer.expect({ flags: "rst ack" });
    expect(pair.target.counters().gaugeConnections).toBe(0);
  });
});
