/**
 * From a seed to a run in which flow groups move from kernel to kernel, with their connections, over bad links: streams
 * in both directions, opened from both sides, at the handle level with its hook. On demand applications accept slowly,
 * and sometimes let nothing go when it is on its way already, and kernels steal what waits from each other. Virtual
 * time, no promises.
 */
import type { Policy, StealMove } from "../../src/balancer/policy.ts";
import { createSegment } from "../../src/device/card/segment.ts";
import { parseAddress } from "../../src/ip/address.ts";
import type { KernelHost } from "../../src/kernel/host.ts";
import { EVENT_CLOSED, EVENT_CONNECTED, EVENT_ERROR, EVENT_PEER_CLOSED } from "../../src/layout/event.ts";
import { INFO_LOCAL_PORT, INFO_REMOTE_PORT } from "../../src/layout/option.ts";
import { Prng } from "../../src/sim/prng.ts";
import { createStack } from "../../src/stack.ts";
import type { Stack } from "../../src/types.ts";

const SERVER = "10.7.0.2";
const CLIENT = "10.7.0.1";
const PORT = 80;
const MS = 1e6;
const LIMIT_NS = 3600e9;
const PATTERN_BYTES = 1 << 16;
/** Instants at which nothing but turns happens; more means that kernels keep each other awake. */
const TURNS_PER_INSTANT_MAX = 50_000;
const GAUGES = ["gaugeConnections", "gaugeStreamBytes", "gaugeFlows", "gaugeAcceptQueue"] as const;

export type MigrationRun = {
  readonly moves: number;
  /** Connections stolen. */
  readonly stolen: number;
  /** Of connections. */
  readonly moved: number;
  readonly held: number;
  readonly late: number;
  readonly bytes: number;
  readonly retransmits: number;
  readonly virtualNs: number;
};

/** One end of a connection. Byte i of its stream is pattern[(offset + i) mod its length]. */
class End {
  readonly offset: number;
  readonly wanted: number;
  /** What the other end sends. */
  peerOffset = -1;
  peerWanted = 0;
  sent = 0;
  received = 0;
  peerClosed = false;
  closed = false;
  over = false;

  constructor(offset: number, wanted: number) {
    this.offset = offset;
    this.wanted = wanted;
  }
}

type Pair = { readonly near: End; readonly far: End };

/** The application of one kernel. */
class App {
  readonly host: KernelHost;
  readonly ends = new Map<number, End>();
  fault: unknown;
  readonly #pattern: Uint8Array;
  readonly #listener: number;
  /** The end of a connection that comes from this remote port. */
  readonly #farOf: (remotePort: number) => End;
  /** It accepts when it is told to. */
  readonly #acceptsLate: boolean;

  /** @param slow it accepts when it is told to; and whether it refuses, after the survey, to let a connection go. */
  constructor(
    host: KernelHost,
    pattern: Uint8Array,
    farOf: (remotePort: number) => End,
    slow?: { readonly refuses: () => boolean },
  ) {
    this.host = host;
    this.#acceptsLate = slow !== undefined;
    this.#pattern = pattern;
    this.#farOf = farOf;
    const { handles } = host;
    this.#listener = handles.listen(PORT);
    handles.onHandOver({
      leave: (handle) => {
        if (slow?.refuses()) return undefined;
        const end = this.ends.get(handle);
        this.ends.delete(handle);
        return end;
      },
      arrive: (handle, end) => void this.ends.set(handle, end as End),
    });
    handles.onEvents((words, first, count) => {
      try {
        for (let at = first; at < first + 4 * count; at += 4) {
          this.#onEvent(words[at] as number, (words[at + 1] as number) & 0xffff, (words[at + 1] as number) >> 16);
        }
      } catch (error) {
        // Thrown on, it would be an event of the stack, told in real time.
        this.fault ??= error;
      }
    });
  }

  port(handle: number, which: number): number {
    return this.host.memory.loadU32(this.host.handles.info(handle) + which);
  }

  /** Accepts one connection, if one waits. */
  accept(): boolean {
    const taken = this.host.handles.accept(this.#listener);
    if (taken < 0) return false;
    this.ends.set(taken, this.#farOf(this.port(taken, INFO_REMOTE_PORT)));
    this.#advance(taken);
    return true;
  }

  #onEvent(handle: number, mask: number, status: number): void {
    const { handles } = this.host;
    if (handle === this.#listener) {
      if (!this.#acceptsLate) while (this.accept());
      return;
    }
    const end = this.ends.get(handle);
    if (!end) throw new Error(`kernel ${this.host.kernelId}: an event ${mask} of handle ${handle}, which nobody has`);
    if (mask & EVENT_ERROR) throw new Error(`a connection has ended with ${status}, in kernel ${this.host.kernelId}`);
    if (mask & EVENT_PEER_CLOSED) end.peerClosed = true;
    if (mask & EVENT_CLOSED) {
      end.over = true;
      if (!end.closed) handles.close(handle);
      this.ends.delete(handle);
      return;
    }
    if (mask & EVENT_CONNECTED || !end.closed) this.#advance(handle);
  }

  #advance(handle: number): void {
    const { handles } = this.host;
    const end = this.ends.get(handle) as End;
    for (let at = handles.peek(handle); at > 0; at = handles.peek(handle)) {
      const { available, bytes } = handles;
      for (let i = 0; i < available; i++) {
        if (bytes[at + i] === this.#pattern[(end.peerOffset + end.received + i) % PATTERN_BYTES]) continue;
        throw new Error(`byte ${end.received + i} of ${end.peerWanted} is wrong`);
      }
      end.received += available;
      handles.consume(handle, available);
    }
    while (end.sent < end.wanted) {
      const from = (end.offset + end.sent) % PATTERN_BYTES;
      const wanted = Math.min(end.wanted - end.sent, PATTERN_BYTES - from);
      const at = handles.reserve(handle, wanted);
      if (at <= 0) return;
      const bytes = Math.min(wanted, handles.available);
      handles.bytes.set(this.#pattern.subarray(from, from + bytes), at);
      handles.commit(handle, bytes);
      end.sent += bytes;
    }
    // Closed when both directions are done, so that nothing is left unread.
    if (end.sent < end.wanted || end.received < end.peerWanted || end.closed) return;
    end.closed = true;
    handles.close(handle);
  }
}

function drawImpairments(prng: Prng) {
  const some = (value: number): number => (prng.below(2) === 0 ? Math.floor(value) : 0);
  return {
    delayNs: some(prng.fraction() * 20 * MS),
    jitterNs: some(prng.fraction() * 10 * MS),
    lossPpm: some(prng.fraction() * 60_000),
    duplicatePpm: some(prng.fraction() * 60_000),
    reorderPpm: some(prng.fraction() * 150_000),
    reorderNs: Math.floor(1 + prng.fraction() * 10 * MS),
    rateBitsPerSecond: some(5e6 + prng.fraction() * 1e9),
  };
}

/** @throws Error with what went wrong. */
export async function runMigrations(seed: number, steals = false): Promise<MigrationRun> {
  const prng = new Prng(seed, 1);
  const kernels = 2 + prng.below(3);
  const segment = await createSegment({
    shared: false,
    portsMax: 1 + kernels,
    seed,
    impairments: drawImpairments(prng),
  });
  const tuning = {
    memoryBytes: 24 << 20,
    connectionsMax: 128,
    streamPoolBytes: [1 << 18, 1 << 20, 4 << 20][prng.below(3)] as number,
    // Small ones leave frames with the sender, steered already, when a group moves.
    rxRingBytes: [1 << 16, 1 << 17][prng.below(2)] as number,
    txRingBytes: 1 << 18,
    pollBudgetFrames: [1, 7, 64][prng.below(3)] as number,
    rcvBufferBytesMax: [4096, 32_768, 262_144][prng.below(3)] as number,
    // Outlives the retransmissions of a FIN: no connection may end with a reset here.
    timeWaitMs: 60_000,
    rtoMaxUs: 4_000_000,
    rtoMinUs: 20_000,
    retriesMax: 40,
    synRetriesMax: 12,
  };
  const timestamps = prng.below(2) === 0;
  const thief = steals ? thievish(new Prng(seed, 2)) : undefined;
  const create = (queues: number, address: string): Promise<Stack> =>
    createStack({
      ...(queues > 1 && thief ? { balancer: thief } : {}),
      device: segment.createCard({ queues }),
      address: `${address}/24`,
      drive: "manual",
      seed: `${seed} ${address}`,
      timestamps,
      tuning,
    });
  const server = await create(kernels, SERVER);
  const client = await create(1, CLIENT);
  const world = new MovingWorld(server, client, prng, new Prng(seed, 3), steals);
  try {
    return await world.run();
  } finally {
    await Promise.all([server.close({ drainMs: 0 }), client.close({ drainMs: 0 })]);
    await segment.close();
  }
}

/** Steals from whoever has something that waits, for whoever. */
function thievish(prng: Prng): Policy {
  return {
    name: "thievish",
    periodNs: ([1, 4, 16][prng.below(3)] as number) * MS,
    decide: ({ kernels }, state) => {
      const steals: StealMove[] = [];
      for (const [from, { pendingConnections }] of kernels.entries()) {
        if (pendingConnections === 0 || prng.below(2) === 0) continue;
        steals.push({ from, to: prng.below(kernels.length), connections: 1 + prng.below(pendingConnections) });
      }
      return { moves: [], steals, state };
    },
  };
}

class MovingWorld {
  readonly #stacks: readonly [Stack, Stack];
  readonly #server: Stack;
  readonly #prng: Prng;
  readonly #servers: readonly App[];
  readonly #client: App;
  /** By the opener's local port, with its address's number in front. */
  readonly #pairs = new Map<string, Pair>();
  readonly #ends: End[] = [];
  #nowNs = 1e9;
  #moves = 0;

  readonly #steals: boolean;
  #acceptAtNs = 0;

  constructor(server: Stack, client: Stack, prng: Prng, refusals: Prng, steals: boolean) {
    this.#steals = steals;
    this.#stacks = [server, client];
    this.#server = server;
    this.#prng = prng;
    const pattern = new Uint8Array(PATTERN_BYTES);
    new Prng(7, 7).fill(pattern);
    const farOf = (opener: string) => (port: number) => {
      const pair = this.#pairs.get(`${opener} ${port}`);
      if (!pair) throw new Error(`nobody has connected from ${opener} port ${port}`);
      return pair.far;
    };
    const slow = steals ? { refuses: () => refusals.below(4) === 0 } : undefined;
    this.#servers = server.kernels.map((host) => new App(host, pattern, farOf(CLIENT), slow));
    this.#client = new App(client.kernels[0] as KernelHost, pattern, farOf(SERVER));
  }

  async run(): Promise<MigrationRun> {
    const prng = this.#prng;
    const opens = Array.from(
      { length: 1 + prng.below(this.#steals ? 40 : 12) },
      () => this.#nowNs + prng.below(50) * MS,
    ).sort((a, b) => a - b);
    const pauseNs = (1 + prng.below(60)) * MS;
    // Moves come at instants of their own, and between turns in which frames lie in the lanes.
    const rarity = [10, 50, 300][prng.below(3)] as number;
    let nextMoveNs = this.#nowNs + pauseNs;
    while (opens.length > 0 || this.#ends.some(({ over }) => !over)) {
      while (opens.length > 0 && (opens[0] as number) <= this.#nowNs) {
        opens.shift();
        this.#open();
      }
      if (this.#nowNs >= nextMoveNs) {
        nextMoveNs = this.#nowNs + pauseNs;
        this.#move();
      }
      if (this.#steals) this.#acceptSome();
      this.#instant(rarity);
      const acceptNs = this.#steals ? this.#acceptAtNs : Infinity;
      this.#nowNs = Math.ceil(
        Math.max(this.#nowNs + 1, Math.min(this.#deadlineNs(), nextMoveNs, opens[0] ?? Infinity, acceptNs)),
      );
      if (this.#nowNs > LIMIT_NS)
        throw new Error(`not over: ${JSON.stringify(this.#ends.filter(({ over }) => !over))}`);
    }
    this.#quieten();
    const stolen = (await this.#server.stats()).balancer?.stolen ?? [];
    const sum = stolen.reduce((all, count) => all + count, 0);
    return { ...this.#judge(), stolen: sum };
  }

  /** Applications that cannot keep up: some of what waits, now and then. */
  #acceptSome(): void {
    if (this.#nowNs < this.#acceptAtNs) return;
    this.#acceptAtNs = this.#nowNs + (1 + this.#prng.below(30)) * MS;
    for (const app of this.#servers) for (let some = this.#prng.below(3); some > 0; some--) app.accept();
  }

  #deadlineNs(): number {
    return Math.min(...this.#stacks.map((stack) => stack.nextDeadlineNs()));
  }

  /** @param rarity one in so many turns begins a move; 0: none does. */
  #instant(rarity = 0): void {
    for (let turns = 0; ; turns++) {
      if (turns > TURNS_PER_INSTANT_MAX) throw new Error("the kernels keep each other busy without end");
      const busy = this.#stacks.map((stack) => stack.turn(this.#nowNs)).includes(true);
      for (const { fault } of [...this.#servers, this.#client]) if (fault) throw fault;
      if (!busy) return;
      if (rarity > 0 && this.#prng.below(rarity) === 0) this.#move();
    }
  }

  /** One connection, from the client or from a kernel of the server. */
  #open(): void {
    const prng = this.#prng;
    const bytesMax = [100, 10_000, 400_000][prng.below(3)] as number;
    const near = new End(prng.below(PATTERN_BYTES), prng.below(bytesMax));
    const far = new End(prng.below(PATTERN_BYTES), prng.below(bytesMax));
    for (const [end, other] of [
      [near, far],
      [far, near],
    ] as const) {
      end.peerOffset = other.offset;
      end.peerWanted = other.wanted;
    }
    const active = prng.below(4) === 0;
    const app = active ? (this.#servers[prng.below(this.#servers.length)] as App) : this.#client;
    const handle = app.host.handles.connect(parseAddress(active ? CLIENT : SERVER), PORT);
    // All groups may have left that kernel.
    if (handle < 0) return;
    this.#pairs.set(`${active ? SERVER : CLIENT} ${app.port(handle, INFO_LOCAL_PORT)}`, { near, far });
    app.ends.set(handle, near);
    this.#ends.push(near, far);
  }

  /** A group of one of the connections, or any, to a kernel at random. */
  #move(): void {
    const prng = this.#prng;
    const [key] = [...this.#pairs.keys()].slice(prng.below(this.#pairs.size + 1));
    const port = key === undefined ? prng.below(65536) : Number(key.split(" ")[1]);
    this.#moves++;
    this.#server.migrate(port & 4095, prng.below(this.#servers.length)).catch(() => {});
  }

  /** TIME-WAIT and the last late frames. */
  #quieten(): void {
    for (const end = this.#nowNs + 100e9; this.#nowNs < end; ) {
      this.#instant();
      this.#nowNs = Math.ceil(Math.max(this.#nowNs + 1, Math.min(this.#deadlineNs(), end)));
    }
  }

  #judge(): Omit<MigrationRun, "stolen"> {
    let bytes = 0;
    for (const end of this.#ends) {
      bytes += end.received;
      if (end.received !== end.peerWanted) throw new Error(`${end.received} of ${end.peerWanted} bytes have come`);
    }
    const counters: Record<string, number> = {};
    for (const { host } of [...this.#servers, this.#client]) {
      for (const [name, value] of Object.entries(host.memory.counters()))
        counters[name] = (counters[name] ?? 0) + value;
    }
    for (const gauge of GAUGES) if (counters[gauge] !== 0) throw new Error(`${gauge} is ${counters[gauge]} at the end`);
    if (counters.migratedIn !== counters.migratedOut)
      throw new Error("a connection has come to be twice, or not at all");
    if (counters.migrationLost !== 0) throw new Error("a move has cost a connection");
    return {
      moves: this.#moves,
      moved: counters.migratedIn as number,
      held: counters.migrationFramesHeld as number,
      late: counters.lateFramesForwarded as number,
      bytes,
      retransmits: counters.tcpRetransmits as number,
      virtualNs: this.#nowNs,
    };
  }
}
