/**
 * From a seed to a run in which kernels, the device's owner and the balancer come to their turns as threads do on a
 * busy machine: any of them may stand still for tens of milliseconds, and what the balancer writes takes effect when
 * the owner comes to it. Groups move with pinned connections, waiting connections are stolen, and the peer opens its
 * few ports again and again, at once. In every other run kernels also leave, one at a time, and come back: the
 * re-homing gives their entries away and back. Real kernels, the real balancer, migrator and re-homing, virtual time,
 * no promises.
 */
import { Balancer } from "../../src/balancer/balancer.ts";
import type { Move, Policy, StealMove } from "../../src/balancer/policy.ts";
import { decodeWriteBatch, encodeWriteAnswer, type TableWrite } from "../../src/control/deviceMessages.ts";
import { OwnedDevice } from "../../src/control/ownedDevice.ts";
import { Rehoming } from "../../src/control/rehoming.ts";
import type { Card } from "../../src/device/card/card.ts";
import { createSegment } from "../../src/device/card/segment.ts";
import { parseAddress } from "../../src/ip/address.ts";
import type { KernelHost } from "../../src/kernel/host.ts";
import { GAUGE_CONNECTIONS } from "../../src/layout/counters.ts";
import {
  EVENT_CLOSED,
  EVENT_CONNECTED,
  EVENT_ERROR,
  EVENT_PEER_CLOSED,
  EVENT_READABLE,
} from "../../src/layout/event.ts";
import { HEALTH_BASE, HEALTH_MIGRATIONS, HEALTH_WITHHOLD_RST, SCRATCH_BASE } from "../../src/layout/kernelMemory.ts";
import type { MigrationAgent } from "../../src/migration/agent.ts";
import { CallCarrier } from "../../src/migration/carrier.ts";
import { Migrator } from "../../src/migration/migrator.ts";
import { Prng } from "../../src/sim/prng.ts";
import { createStack } from "../../src/stack.ts";
import type { Stack } from "../../src/types.ts";

const SERVER = parseAddress("10.7.0.2");
const PORT = 80;
const KERNELS = 3;
const MS = 1e6;
/** The peer's local ports: few groups, so that a group often has connections in several kernels. */
const PORTS = [0, 1, 2].flatMap((group) => [0, 1, 2, 3].map((i) => 33_000 + group + 4096 * i));
const GROUPS = [...new Set(PORTS.map((port) => port & 4095))];
const CONNECTIONS = 1000;
const LIMIT_NS = 120e9;

export type PinnedRun = {
  readonly connections: number;
  readonly moves: number;
  readonly stolen: number;
  readonly withheld: number;
  /** How often a kernel has been emptied, and come back. */
  readonly left: number;
  readonly virtualNs: number;
};

/** One that acts now and then, and sometimes not for long. */
class Thread {
  readonly #act: () => void;
  #untilNs = 0;

  constructor(act: () => void) {
    this.#act = act;
  }

  turn(nowNs: number, prng: Prng): void {
    if (nowNs < this.#untilNs) return;
    if (prng.below(300) === 0) this.#untilNs = nowNs + prng.below(prng.below(2) === 0 ? 600 : 60) * MS;
    else if (prng.below(3) > 0) this.#act();
  }
}

class World {
  readonly balancer: Balancer;
  readonly owned: OwnedDevice;
  nowNs = 1e9;
  readonly rehoming: Rehoming;
  wantsMoves = true;
  left = 0;
  /** Draws who leaves, and when; undefined: nobody does. */
  readonly #leaves: Prng | undefined;
  /** The kernel that is leaving or has left. */
  #away: number | undefined;
  readonly #card: Card;
  readonly #prng: Prng;
  readonly #hosts: readonly KernelHost[];
  readonly #migrator: Migrator;
  /** What the owner has been asked to write, and kernels to do. */
  readonly #writes: (() => void)[] = [];
  readonly #asked: (() => void)[][] = Array.from({ length: KERNELS }, () => []);

  constructor(card: Card, server: Stack, prng: Prng, leaves?: Prng) {
    this.#card = card;
    this.#prng = prng;
    this.#leaves = leaves;
    this.#hosts = server.kernels;
    this.owned = new OwnedDevice(card);
    this.owned.attach((payload, onWritten) => this.#writes.push(() => onWritten(this.#write(payload))));
    const agentOf = (kernelId: number): MigrationAgent | undefined =>
      this.#hosts[kernelId]?.migrationAgent(new CallCarrier(kernelId, (other) => agentOf(other)));
    const memoryOf = (kernel: number) => this.#hosts[kernel]?.memory;
    this.rehoming = new Rehoming({ device: this.owned, queues: KERNELS, memoryOf, addresses: [SERVER] });
    this.rehoming.others = {
      isMigrating: (entry) => this.#migrator.isMovingEntry(entry),
      isGroupMoving: (entry) => this.#migrator.isGroupMovingEntry(entry),
      isForwarding: (queue, entry) => this.#migrator.forwardsEntry(queue, entry),
      isPinned: (flow) => this.balancer.isPinned(flow),
      isStolenFrom: (queue) => this.#migrator.isStealingFrom(queue),
    };
    this.#migrator = new Migrator({
      device: this.owned,
      kernels: () => KERNELS,
      isUp: (kernelId) => kernelId !== this.#away,
      isRunning: () => true,
      ask: (kernelId, request, reply) => {
        this.#asked[kernelId]?.push(() => agentOf(kernelId)?.handle(request, reply));
      },
      commitsOf: (kernelId) => this.#hosts[kernelId]?.memory.loadU32(HEALTH_BASE + HEALTH_MIGRATIONS) ?? 0,
      nowNs: () => this.nowNs,
      addresses: [SERVER],
      unpin: (group) => {
        const repins = [this.balancer.unpin(group), this.rehoming.unpin(group)];
        return () => {
          for (const repin of repins) repin();
        };
      },
      pinned: (group) => [...this.balancer.pinnedOf(group), ...this.rehoming.pinnedOf(group)],
    });
    this.balancer = new Balancer({
      device: this.owned,
      policy: this.#policy(),
      kernels: KERNELS,
      rxLanes: card.rxLanes,
      memoryOf: (kernel) => (kernel === this.#away ? undefined : memoryOf(kernel)),
      runningMemoryOf: memoryOf,
      addresses: [SERVER],
      isPinnedElsewhere: (flow) => this.rehoming.isPinned(flow),
      isMigrating: (group) => this.#migrator.isMoving(group),
      isGroupMoving: (group) => this.#migrator.isGroupMoving(group),
      isForwarding: (kernel, group) => this.#migrator.forwards(kernel, group),
      steal: (order) => this.#migrator.steal(this.rehoming.handPinsTo(order)),
    });
    this.owned.onGroupsRefused = (groups, why) => {
      this.balancer.refused(groups, why);
      this.rehoming.refused();
    };
    this.owned.onFiltersRefused = (flows) => {
      this.balancer.filtersRefused(flows);
      this.rehoming.filtersRefused(flows);
    };
  }

  threads(): Thread[] {
    return [
      ...this.#hosts.map((host, kernel) => new Thread(() => this.kernelTurn(host, kernel))),
      new Thread(() => this.ownerTurn()),
      new Thread(() => this.balancerTurn()),
    ];
  }

  kernelTurn(host = this.#hosts[0] as KernelHost, kernel = 0): void {
    for (const act of this.#asked[kernel]?.splice(0) ?? []) act();
    host.turn(this.nowNs);
  }

  ownerTurn(): void {
    this.#writes.shift()?.();
  }

  balancerTurn(): void {
    const nowMs = this.nowNs / MS;
    this.#leaveAndReturn(nowMs);
    if (nowMs >= this.rehoming.deadlineMs) this.rehoming.step(nowMs);
    if (this.nowNs >= this.balancer.deadlineNs) this.balancer.step(this.nowNs);
    this.owned.commitTables();
  }

  #leaveAndReturn(nowMs: number): void {
    if (!this.#leaves || this.#leaves.below(40) > 0) return;
    if (this.#away === undefined) {
      if (!this.wantsMoves) return;
      this.#away = this.#leaves.below(KERNELS);
      this.rehoming.leave(this.#away, nowMs);
    } else if (this.rehoming.hasLeft(this.#away)) {
      this.rehoming.restore(this.#away, nowMs);
      this.#away = undefined;
      this.left++;
    }
  }

  /** Everybody comes to a turn. */
  allTurn(): void {
    for (const [kernel, host] of this.#hosts.entries()) this.kernelTurn(host, kernel);
    this.owned.commitTables();
    while (this.#writes.length > 0) this.ownerTurn();
    this.balancerTurn();
  }

  #policy(): Policy {
    const prng = this.#prng;
    const other = (kernel: number) => (kernel + 1 + prng.below(KERNELS - 1)) % KERNELS;
    return {
      name: "at random",
      periodNs: 2 * MS,
      decide: ({ kernels }, state) => {
        const moves: Move[] = [];
        const steals: StealMove[] = [];
        if (this.wantsMoves && prng.below(8) === 0) {
          const group = GROUPS[prng.below(GROUPS.length)] as number;
          const from = this.owned.flowGroupQueue?.(group) as number;
          moves.push({ group, from, to: other(from), reason: "test", pin: true });
        }
        const from = prng.below(KERNELS);
        if (this.wantsMoves && (kernels[from]?.pendingConnections ?? 0) > 0) {
          steals.push({ from, to: other(from), connections: 1 + prng.below(4) });
        }
        return { moves, steals, state };
      },
    };
  }

  #write(payload: Uint8Array): Uint8Array {
    const batch = decodeWriteBatch(payload);
    if (!batch) throw new Error("not a batch of writes");
    for (const write of batch.writes) this.#apply(write);
    return encodeWriteAnswer({ sequence: batch.sequence, filters: [], groups: [] });
  }

  #apply(write: TableWrite): void {
    if (write.op === "place") this.#card.placement.place(write.entry, write.queue);
    else if (write.op === "group") this.#card.moveFlowGroup(write.group, write.queue);
    else if (write.op === "clear") this.#card.clearFilter(write.flow);
    else if (write.op !== "set") throw new Error(`nobody has asked for "${write.op}"`);
    else if (!this.#card.setFilter(write.flow, write.queue)) throw new Error("the card has run out of filters");
  }
}

/** Echoes a byte to each connection; a slow one accepts when it is told to. */
function serve({ handles }: KernelHost): () => void {
  const listener = handles.listen(PORT, 64);
  const answer = (handle: number) => {
    while (handles.peek(handle) > 0) {
      handles.consume(handle, handles.available);
      handles.send(handle, SCRATCH_BASE, 1);
    }
  };
  handles.onEvents((words, first, count) => {
    for (let i = 0, at = first; i < count; i++, at += 4) {
      const handle = words[at] as number;
      const mask = (words[at + 1] as number) & 0xffff;
      if (handle === listener) continue;
      if (mask & EVENT_READABLE) answer(handle);
      if (mask & (EVENT_PEER_CLOSED | EVENT_CLOSED)) handles.close(handle);
    }
  });
  return () => {
    const handle = handles.accept(listener);
    if (handle >= 0) answer(handle);
  };
}

/** Opens each port again when its connection has ended. */
class Peer {
  opened = 0;
  done = 0;
  fault = "";
  readonly #host: KernelHost;
  readonly #free = [...PORTS];
  readonly #portOf = new Map<number, number>();

  constructor(host: KernelHost) {
    this.#host = host;
    host.handles.onEvents((words, first, count) => {
      for (let i = 0, at = first; i < count; i++, at += 4) {
        this.#onEvent(words[at] as number, (words[at + 1] as number) & 0xffff);
      }
    });
  }

  get isOver(): boolean {
    return this.done === CONNECTIONS;
  }

  get left(): string {
    return [...this.#portOf.values()].join(", ");
  }

  open(prng: Prng): void {
    if (this.opened === CONNECTIONS || this.#free.length === 0) return;
    const [port] = this.#free.splice(prng.below(this.#free.length), 1) as [number];
    const handle = this.#host.handles.connect(SERVER, PORT, port);
    if (handle < 0) {
      this.#free.push(port);
      return;
    }
    this.opened++;
    this.#portOf.set(handle, port);
  }

  #onEvent(handle: number, mask: number): void {
    const { handles } = this.#host;
    const port = this.#portOf.get(handle);
    if (port === undefined) return;
    if (mask & EVENT_ERROR) this.fault ||= `the connection from ${port} has failed`;
    if (mask & EVENT_CONNECTED) handles.send(handle, SCRATCH_BASE, 1);
    if (mask & EVENT_READABLE) {
      handles.peek(handle);
      handles.consume(handle, handles.available);
      handles.close(handle);
    }
    if (mask & EVENT_PEER_CLOSED) handles.close(handle);
    if ((mask & EVENT_CLOSED) === 0) return;
    this.#portOf.delete(handle);
    this.#free.push(port);
    this.done++;
  }
}

/** @throws Error with what is wrong. */
export async function runPinned(seed: number): Promise<PinnedRun> {
  const segment = await createSegment({ shared: true, portsMax: 4 });
  const card = segment.createCard({ queues: KERNELS });
  const tuning = { memoryBytes: 16 << 20, connectionsMax: 256, timeWaitMs: 0 };
  const common = { drive: "manual", sharedMemory: true, tuning, seed, balancer: "static" } as const;
  const server = await createStack({ ...common, device: card, address: "10.7.0.2/24" });
  const client = await createStack({ ...common, device: segment.createCard(), address: "10.7.0.1/24" });
  try {
    return await run(seed, card, server, client);
  } finally {
    await Promise.all([client.close({ drainMs: 0 }), server.close({ drainMs: 0 })]);
    await segment.close();
  }
}

async function run(seed: number, card: Card, server: Stack, client: Stack): Promise<PinnedRun> {
  const prng = new Prng(seed);
  const world = new World(card, server, new Prng(seed, 1), seed % 2 === 1 ? new Prng(seed, 2) : undefined);
  const clientHost = client.kernels[0] as KernelHost;
  const accepts = server.kernels.map(serve);
  const peer = new Peer(clientHost);
  const threads = [...world.threads(), new Thread(() => clientHost.turn(world.nowNs))];
  // The groups are dealt out before anybody is asked to listen.
  world.allTurn();
  world.nowNs += MS;
  const beganNs = world.nowNs;
  while (!peer.isOver) {
    world.nowNs += prng.below(200_000);
    if (world.nowNs > beganNs + LIMIT_NS) throw new Error(`not over after two minutes: ${peer.left}`);
    if (prng.below(4) === 0) peer.open(prng);
    if (prng.below(6) === 0) accepts[prng.below(KERNELS)]?.();
    threads[prng.below(threads.length)]?.turn(world.nowNs, prng);
    if (peer.fault) throw new Error(`${peer.fault} after ${(world.nowNs - beganNs) / MS} ms`);
  }
  const virtualNs = world.nowNs - beganNs;
  world.wantsMoves = false;
  // A server's end that has not heard of the last ACK asks for it, ever more rarely.
  const open = () => server.kernels.some(({ memory }) => memory.counter(GAUGE_CONNECTIONS) > 0);
  for (let turn = 0; turn < 1000 || (turn < 2000 && (open() || card.registers.filterCount > 0)); turn++) {
    world.nowNs += turn < 1000 ? MS : 1000 * MS;
    clientHost.turn(world.nowNs);
    world.allTurn();
  }
  // The last filter's removal settles, too.
  for (let turn = 0; turn < 100; turn++) {
    world.nowNs += MS;
    world.allTurn();
  }
  const { stolen, moves, pinned, strays } = world.balancer.stats();
  const { displacedEntries: displaced, tornEntries: torn } = world.rehoming;
  const rest = {
    pinned,
    strays,
    displaced,
    torn,
    filters: card.registers.filterCount,
    withholding: 0,
    connections: 0,
    resets: 0,
  };
  const { total } = await server.stats();
  rest.connections = total.gaugeConnections ?? 0;
  rest.resets = (await client.stats()).total.tcpRstReceived ?? 0;
  for (const { memory } of server.kernels) rest.withholding |= memory.loadU32(HEALTH_BASE + HEALTH_WITHHOLD_RST);
  const left = Object.entries(rest).filter(([, count]) => count !== 0);
  if (left.length > 0)
    throw new Error(`left at the end: ${left.map(([name, count]) => `${name} ${count}`).join(", ")}`);
  return {
    connections: peer.done,
    moves: Object.values(moves).reduce((sum, count) => sum + count, 0),
    stolen: stolen.reduce((sum, count) => sum + count, 0),
    withheld: total.tcpRstWithheld ?? 0,
    left: world.left,
    virtualNs,
  };
}
