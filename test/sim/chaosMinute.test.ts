/**
 * Goal: a random kernel ended every second for a minute, under load, costs the connections that it had and nothing
 * else. Method: virtual time, so that it is known to the segment what a kernel had at its end: all other connections,
 * those included that were being opened, must end well with every byte. What kernels, card, owner and this thread hold
 * is counted before and after; the memories of the lives that have ended must be garbage.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import type { KernelHost } from "../../src/kernel/host.ts";
import type { KernelReason } from "../../src/kernel/supervisor.ts";
import { MAP_BASE, MAP_TCB_HIGH_WATER, MAP_TCBS } from "../../src/layout/kernelMemory.ts";
import { INFO_LOCAL_PORT, INFO_REMOTE_PORT, STATE_FREE } from "../../src/layout/option.ts";
import { ECONNRESET } from "../../src/layout/status.ts";
import { TCB_PORTS, TCB_SIZE_BYTES, TCB_STATE } from "../../src/layout/tcb.ts";
import { Prng } from "../../src/sim/prng.ts";
import { type Behaviour, PATTERN_BYTES } from "./endpoint.ts";
import { End } from "./kernels/ends.ts";
import * as INVARIANT from "./kernels/invariants.ts";
import type { Blow } from "./kernels/plan.ts";
import { strike } from "./kernels/run.ts";
import { ADDRESSES, CLIENT, SERVER, type Side, type SideOptions, Stage } from "./kernels/stage.ts";

const MS = 1e6;
const SECOND = 1e9;
const SEED = Number(process.env.SEED ?? 1);
const SECONDS = Number(process.env.CHAOS_SECONDS ?? 60);
const KERNELS = 3;
const PORT = 80;
const STREAMS = 8;
const STREAM_BYTES = 400_000;
const VISITOR_BYTES = 2000;
const VISIT_NS = 50 * MS;
/** Every end of a kernel, however it is found, and a restart take less. */
const SERVES_AFTER_NS = 1.5 * SECOND;
/** A peer that waits for a kernel that is gone has keep-alive to find out; its question, or the RST, may be lost. */
const TOLD_NS = 15 * SECOND;
const BLOWS: readonly Blow[] = ["kill", "trap", "hang"];

const tuning = {
  memoryBytes: 16 << 20,
  connectionsMax: 256,
  timeWaitMs: 100,
  streamPoolBytes: 2_000_000,
  txRingBytes: 1 << 18,
  rxRingBytes: 1 << 17,
  keepaliveIdleMs: 1000,
  keepaliveIntervalMs: 1000,
};
const base: Omit<Behaviour, "sendBytes"> = {
  writeBytesMax: 16_384,
  readBytesMax: 65_536,
  readPauseNs: 0,
  ending: "close",
  abortAfterBytes: 0,
  reserve: false,
  noDelay: false,
  quickAck: false,
};

type Visit = {
  readonly id: number;
  readonly bytes: number;
  readonly localPort: number;
  readonly client: End;
  server: End | undefined;
  /** When a kernel ended that had it; Infinity: none has. */
  hitNs: number;
};

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Of all connections in a kernel's memory: those in TIME-WAIT may have something that nobody has been told of. */
function remotePortsOf({ memory }: KernelHost): number[] {
  const { bytes } = memory;
  const first = memory.loadU32(MAP_BASE + MAP_TCBS);
  const ports: number[] = [];
  for (let slot = 0; slot < memory.loadU32(MAP_BASE + MAP_TCB_HIGH_WATER); slot++) {
    const at = first + slot * TCB_SIZE_BYTES;
    if (bytes[at + TCB_STATE] === STATE_FREE) continue;
    ports.push(((bytes[at + TCB_PORTS] as number) << 8) | (bytes[at + TCB_PORTS + 1] as number));
  }
  return ports;
}

function endedWell({ endpoint: { status, peerClosed } }: End): boolean {
  // With a reset in place of the very last ACK, when nobody remembers the connection any more.
  return status === 0 || (status === ECONNRESET && peerClosed);
}

function isWhole({ bytes, client, server }: Visit): boolean {
  if (!server || !endedWell(client) || !endedWell(server)) return false;
  return client.endpoint.received === bytes && server.endpoint.received === bytes;
}

class Minute {
  readonly tally = { blows: 0, whole: 0, hit: 0, reset: 0, bytes: 0, lives: 0 };
  /** Memories of lives that have ended. */
  readonly ended: WeakRef<WebAssembly.Memory>[] = [];
  readonly reasons = new Set<KernelReason>();
  readonly #stage: Stage;
  readonly #prng = new Prng(SEED, 70);
  readonly #pattern = new Uint8Array(PATTERN_BYTES);
  readonly #visits = new Map<number, Visit>();
  /** By kernel: since when this life is up, and whether it has accepted anything. */
  readonly #lives = Array.from({ length: KERNELS }, () => ({ upNs: 0, serves: false }));
  #endNs = 0;
  #nextBlowNs = SECOND;
  #nextVisitNs = 0;
  #streams = 0;
  #lastId = 0;
  #failure: Error | undefined;
  #placementDue = true;

  constructor(stage: Stage) {
    this.#stage = stage;
    new Prng(SEED, 71).fill(this.#pattern);
    stage.onKernel = (side, kernelId, reason, host) => this.#onKernel(side, kernelId, reason, host);
    (stage.sides[SERVER] as Side).stack.on("balance", () => {
      this.#placementDue = true;
    });
  }

  get #server(): Side {
    return this.#stage.sides[SERVER] as Side;
  }

  async go(seconds: number): Promise<void> {
    const stage = this.#stage;
    this.#endNs = stage.nowNs + seconds * SECOND;
    const isOver = () => {
      this.#check();
      const isRestored = stage.hostsUp(SERVER).length === KERNELS;
      return stage.nowNs >= this.#endNs && this.#visits.size === 0 && isRestored;
    };
    const isDone = await stage.run(
      isOver,
      this.#endNs + 120 * SECOND,
      () => this.#nextNs(),
      (nowNs) => this.#act(nowNs),
    );
    if (!isDone) throw new Error(`${this.#visits.size} connections have not ended two minutes later`);
  }

  /** Lets so much time pass with nothing to do. */
  async rest(ns: number): Promise<void> {
    const untilNs = this.#stage.nowNs + ns;
    const next = () => Math.min(untilNs, this.#stage.nowNs + 50 * MS);
    await this.#stage.run(
      () => this.#stage.nowNs >= untilNs,
      untilNs,
      next,
      () => {},
    );
  }

  listen(): Promise<{ close(): Promise<void> }> {
    this.#stage.awaitPromises();
    return this.#server.sockets.listenHandles({ port: PORT, backlog: 100 }, (host, handle) =>
      this.#accept(host, handle),
    );
  }

  #nextNs(): number {
    const due = this.#stage.nowNs < this.#endNs ? Math.min(this.#nextBlowNs, this.#nextVisitNs) : Infinity;
    let next = due >= this.#endNs ? Math.max(this.#endNs, this.#stage.nowNs) : due;
    if (this.#stage.nowNs >= this.#endNs) next = this.#stage.nowNs + 50 * MS;
    for (const { client, server } of this.#visits.values()) {
      for (const end of [client, server]) if (end && !this.#stage.isStill(end.host)) next = Math.min(next, end.wakeNs);
    }
    return next;
  }

  #act(nowNs: number): void {
    if (nowNs < this.#endNs) {
      if (nowNs >= this.#nextBlowNs) this.#blow(nowNs);
      if (nowNs >= this.#nextVisitNs) {
        this.#nextVisitNs = nowNs + VISIT_NS;
        this.#open(nowNs, this.#streams < STREAMS ? STREAM_BYTES : VISITOR_BYTES);
      }
    }
    for (const { client, server } of this.#visits.values()) {
      for (const end of [client, server])
        if (end && end.wakeNs <= nowNs && !this.#stage.isStill(end.host)) end.wake(nowNs);
    }
  }

  #blow(nowNs: number): void {
    this.#nextBlowNs = nowNs + SECOND;
    this.tally.blows++;
    const blow = BLOWS[this.#prng.below(BLOWS.length)] as Blow;
    strike(this.#stage, { blow, side: SERVER, draw: this.#prng.u32(), forNs: 0 }, nowNs, false);
  }

  #open(nowNs: number, bytes: number): void {
    const { sockets } = this.#stage.sides[CLIENT] as Side;
    const { host, handle } = sockets.openHandle({ address: ADDRESSES[SERVER], port: PORT });
    const localPort = host.memory.loadU32(host.handles.info(handle) + INFO_LOCAL_PORT);
    const id = ++this.#lastId;
    if (bytes === STREAM_BYTES) this.#streams++;
    const client = this.#end(sockets, host, handle, id, true, bytes);
    if (this.#visits.has(localPort)) throw new Error(`port ${localPort} is used twice`);
    this.#visits.set(localPort, { id, bytes, localPort, client, server: undefined, hitNs: Infinity });
    client.begin(nowNs, true);
  }

  #end(sockets: Side["sockets"], host: KernelHost, handle: number, id: number, isClient: boolean, bytes: number): End {
    const behaviour = { ...base, sendBytes: bytes };
    return new End({ sockets, host, handle, pattern: this.#pattern, prng: this.#prng, id, isClient, behaviour });
  }

  #accept(host: KernelHost, handle: number): void {
    const remotePort = host.memory.loadU32(host.handles.info(handle) + INFO_REMOTE_PORT);
    const visit = this.#visits.get(remotePort);
    if (!visit || visit.server) throw new Error(`a connection from ${remotePort} is accepted that nobody has opened`);
    (this.#lives[host.kernelId] as { serves: boolean }).serves = true;
    visit.server = this.#end(this.#server.sockets, host, handle, visit.id, false, visit.bytes);
    visit.server.begin(host.nowNs, true);
  }

  #onKernel(side: number, kernelId: number, reason: KernelReason, host: KernelHost): void {
    if (side !== SERVER) this.#fail(`a kernel of the client has ended: ${reason}`);
    this.#placementDue = true;
    const { nowNs } = this.#stage;
    const { upNs, serves } = this.#lives[kernelId] as { upNs: number; serves: boolean };
    if (reason === "restarted") {
      this.tally.lives++;
      this.#lives[kernelId] = { upNs: nowNs, serves: false };
      return;
    }
    this.reasons.add(reason);
    if (nowNs - upNs >= SERVES_AFTER_NS && !serves) this.#fail(`kernel ${kernelId} was up again and served nobody`);
    this.ended.push(new WeakRef(host.memory.memory));
    for (const remotePort of remotePortsOf(host)) {
      const visit = this.#visits.get(remotePort);
      if (visit) visit.hitNs = Math.min(visit.hitNs, nowNs);
    }
  }

  #fail(what: string): void {
    this.#failure ??= new Error(`${(this.#stage.nowNs / MS).toFixed(3)} ms: ${what}`);
  }

  /** After every instant. */
  #check(): void {
    const hosts = this.#stage.hostsUp(SERVER);
    INVARIANT.checkHomes(this.#server, hosts);
    INVARIANT.checkOwner(this.#server, hosts);
    for (const host of hosts) INVARIANT.checkPools(this.#server, host);
    if (this.#placementDue) {
      this.#placementDue = false;
      const up = new Set(hosts.map(({ kernelId }) => kernelId));
      INVARIANT.checkPlacement(this.#server, up);
      INVARIANT.checkFilters(this.#server, up);
    }
    for (const visit of this.#visits.values()) this.#judge(visit);
    if (this.#failure) throw this.#failure;
  }

  #judge(visit: Visit): void {
    const { id, bytes, localPort, client, server, hitNs } = visit;
    const isHit = hitNs < Infinity;
    if (!client.isOver || (server && !server.isOver)) {
      if (this.#stage.nowNs > hitNs + TOLD_NS) this.#fail(`connection ${id} has not heard of its kernel's end`);
      return;
    }
    this.#visits.delete(localPort);
    if (bytes === STREAM_BYTES) this.#streams--;
    this.tally.bytes += client.endpoint.received + (server?.endpoint.received ?? 0);
    if (isWhole(visit)) this.tally.whole++;
    else if (isHit) {
      this.tally.hit++;
      if (client.endpoint.status === ECONNRESET) this.tally.reset++;
    } else {
      const { status, received } = client.endpoint;
      const far = server ? `status ${server.endpoint.status}, ${server.endpoint.received}` : "never accepted";
      this.#fail(`connection ${id} of a kernel that lives: status ${status}, ${received} of ${bytes}; ${far}`);
    }
  }
}

/** How many of each kind keep the process busy; timers are the test runner's: virtual time needs none. */
function activeResources(): Map<string, number> {
  const counts = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo()) {
    if (kind !== "Timeout" && kind !== "Immediate") counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

/** All that is held where nothing goes on. */
function held({ sides }: Stage): unknown {
  return sides.map(({ stack, sockets, card }) => ({
    open: sockets.openCount,
    filters: card.registers.filterCount,
    entries: Array.from({ length: card.placement.entries }, (_, entry) => card.placement.queueOf(entry)),
    leases: stack.kernels.map(({ opener }) => opener?.filterCount ?? 0),
    ports: stack.kernels.map(({ control }) => control.portOwner.portCount).filter((count) => count !== undefined),
    gauges: stack.kernels.map(({ memory }) => {
      const gauges = Object.entries(memory.counters()).filter(([name]) => name.startsWith("gauge"));
      return Object.fromEntries(gauges.filter(([name]) => name !== "gaugeNeighbors"));
    }),
  }));
}

const sides: readonly [SideOptions, SideOptions] = [
  { card: { queues: 1 }, stack: { kernels: 1, tuning, balancer: "static" } },
  {
    card: { queues: KERNELS },
    stack: {
      kernels: KERNELS,
      tuning,
      hangMs: 200,
      restart: { delayMs: 50, delayMsMax: 200 },
    },
  },
];

test.each([
  { balancer: "angel", seconds: SECONDS },
  { balancer: "static", seconds: Math.ceil(SECONDS / 4) },
] as const)(
  "a random kernel ended every second, balancer $balancer, $seconds s: costs what it had only, and nothing leaks",
  async ({ balancer, seconds }) => {
    const [client, server] = sides;
    const stage = await Stage.create({
      seed: SEED,
      build: "release",
      impairments: { delayNs: 2 * MS, jitterNs: MS, lossPpm: 1000, rateBitsPerSecond: 4e6, queueBytes: 65_536 },
      sides: [client, { ...server, stack: { ...server.stack, balancer } }],
      trace: undefined,
    });
    const minute = new Minute(stage);
    const listener = await minute.listen();
    await minute.rest(SECOND);
    const before = held(stage);
    const resources = activeResources();
    await minute.go(seconds);
    await minute.rest(5 * SECOND);
    const { tally, ended, reasons } = minute;
    console.log(JSON.stringify({ balancer, ...tally }));
    expect(tally.blows).toBeGreaterThanOrEqual(seconds - 1);
    expect(tally.lives).toBe(ended.length);
    expect(ended.length).toBe(tally.blows);
    if (seconds >= 20) expect([...reasons].sort()).toEqual(["exit", "hang", "trap"]);
    expect(tally.whole).toBeGreaterThan(10 * seconds);
    expect(tally.hit).toBeGreaterThan(0);
    expect(held(stage)).toEqual(before);
    for (let round = 0; round < 3; round++) {
      await new Promise((resolve) => setImmediate(resolve));
      collectGarbage();
    }
    const kept = ended.flatMap((memory, index) => (memory.deref() ? [index] : []));
    expect(kept).toEqual([]);
    for (const [kind, count] of activeResources()) {
      expect(count, kind).toBeLessThanOrEqual(resources.get(kind) ?? 0);
    }
    await listener.close();
    await minute.rest(SECOND);
    for (const [index, side] of stage.sides.entries()) {
      for (const host of stage.hostsUp(index)) INVARIANT.checkEmpty(side, host);
    }
    await stage.close();
  },
  300_000,
);
