/**
 * A kernel's exact filters, for connections that it opens and whose replies would else go to another queue. The
 * device's owner sets them, so they are leased from it, by message, in blocks: the tuples of some of our ports with one
 * service.
 * A connection takes a port of a block; when it is over, and its TIME-WAIT too (the peer may send its FIN again), the
 * port is free for the next one. So there is a message per block and none per connection.
 *
 * ```
 *            ask, grant             take                   over, TIME-WAIT over
 *  (no filter) ────────▶ ready ◀──────────▶ used ──────────────────────────────▶ ready
 *       ▲                  │ service idle, or recalled       │ recalled, and it is over
 *       └──────────────────┴──────────── return ────────────┘
 * ```
 * Connections that migrate take their tuples along, those too that had no filter because their group was here: the
 * owner is told whose they are (*reserved*), so that no kernel gets a filter for a port that is in use elsewhere. What
 * has come with a connection is given back when that is over: its port may be in another kernel's share.
 *
 * When the owner has not had as many as it was asked for, it is not asked ahead again for a second, and who has been
 * refused is refused again for ten milliseconds without a question: no message per connection then, either.
 *
 * The end of a connection is found by looking, once a second: the kernel's data path knows nothing of filters. A new
 * owner is told of all.
 */
import { decodeFilterBlock, encodeFilterBlock } from "../control/deviceMessages.ts";
import type { OwnerLine } from "../control/portProxy.ts";
import {
  MESSAGE_TYPE_FILTERS_ASK,
  MESSAGE_TYPE_FILTERS_HOLDS,
  MESSAGE_TYPE_FILTERS_LEAD,
  MESSAGE_TYPE_FILTERS_RETURN,
} from "../layout/message.ts";
import type { MovingTuple } from "../migration/request.ts";

/** Filters of a block. */
export const FILTER_BLOCK_PORTS = 64;
/** With fewer that are ready, the next block is asked for ahead. */
const READY_MIN = 16;
const LOOK_NS = 1e9;
/** A service to which nothing has been opened for so long gives back what is ready. */
const IDLE_NS = 10e9;
/** How long nothing is asked for ahead when the table was full. */
const SCARCE_NS = 1e9;
/** How long a refusal holds. */
const REFUSED_NS = 10e6;
/** Ports in one message. */
const MESSAGE_PORTS_MAX = 512;

type Use = {
  handle: number;
  /** When the connection was found to be over; -1: it is not. */
  endedNs: number;
  /** It has come from another kernel. */
  readonly isAdopted: boolean;
  /** It has no filter. */
  readonly isReserved: boolean;
};

/** A remote address and port, towards one of our addresses. */
export type Service = {
  readonly key: string;
  readonly remote: Uint8Array;
  readonly remotePort: number;
  readonly local: Uint8Array;
  /** Ports with a filter and without a connection. */
  readonly ready: number[];
  readonly used: Map<number, Use>;
  /** Ports that the owner has been asked for. */
  asked: readonly number[] | undefined;
  /** Ports that other kernels' connections have, as the owner has said a moment ago. */
  readonly inUse: Set<number>;
  question: number;
  urgent: boolean;
  /** An urgent question has been answered with none. */
  refused: boolean;
  /** Until then the owner is not asked ahead, or not at all. */
  scarceUntilNs: number;
  refusedUntilNs: number;
  takenNs: number;
};

type Moving = readonly MovingTuple[];

type ToldPorts = {
  readonly service: Pick<Service, "key" | "remote" | "remotePort" | "local">;
  readonly ports: number[];
  readonly isReserved: boolean;
};

/** Filters that the owner has been told to lead elsewhere, or back: it is asked whether it has. */
type Lead = {
  readonly told: readonly ToldPorts[];
  readonly to: number;
  question: number;
  isDone: boolean;
  /** Whoever has them now tells a new owner of them. */
  isForgotten: boolean;
};

export type FilterBlocksOptions = {
  readonly queue: number;
  readonly line: OwnerLine;
  /** Handles messages now, as far as they need no other thread. */
  readonly settle: () => void;
  readonly nowNs: () => number;
  readonly timeWaitMs: number;
  /** Whether the connection is closed or in TIME-WAIT, or the handle another connection's. */
  readonly isOver: (handle: number, localPort: number) => boolean;
};

export class FilterBlocks {
  readonly #options: FilterBlocksOptions;
  readonly #services = new Map<string, Service>();
  readonly #leads = new Map<Moving, Lead>();
  #nextLookNs = Number.POSITIVE_INFINITY;
  #answered: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;

  constructor(options: FilterBlocksOptions) {
    this.#options = options;
  }

  /** Filters that this kernel has. */
  get size(): number {
    let size = 0;
    for (const { ready, used } of this.#services.values()) {
      size += ready.length;
      for (const { isReserved } of used.values()) if (!isReserved) size++;
    }
    return size;
  }

  /** When turn() has something to do, ns; Infinity: never. */
  get nextLookNs(): number {
    return this.#nextLookNs;
  }

  find(remote: Uint8Array, remotePort: number, local: Uint8Array): Service | undefined {
    return this.#services.get(serviceKey(remote, remotePort, local));
  }

  /** The service, known from now on. */
  open(remote: Uint8Array, remotePort: number, local: Uint8Array, nowNs: number): Service {
    const key = serviceKey(remote, remotePort, local);
    let service = this.#services.get(key);
    if (!service) {
      const own = { key, remote: remote.slice(), remotePort, local: local.slice() };
      const empty = { ready: [], used: new Map(), asked: undefined, inUse: new Set<number>() };
      const none = { question: 0, urgent: false, refused: false };
      service = { ...own, ...empty, ...none, scarceUntilNs: 0, refusedUntilNs: 0, takenNs: nowNs };
      this.#services.set(key, service);
      this.#nextLookNs = Math.min(this.#nextLookNs, nowNs + LOOK_NS);
    }
    return service;
  }

  has({ ready, used }: Service, localPort: number): boolean {
    return used.has(localPort) || ready.includes(localPort);
  }

  /** Its replies come here by a filter. */
  leads({ ready, used }: Service, localPort: number): boolean {
    return used.get(localPort)?.isReserved === false || ready.includes(localPort);
  }

  /** The owner need not be asked for it. */
  isKnown(service: Service, localPort: number): boolean {
    return this.has(service, localPort) || service.inUse.has(localPort);
  }

  /** A connection uses the port from now on. */
  use(service: Service, localPort: number, handle: number, nowNs: number): void {
    const index = service.ready.indexOf(localPort);
    if (index >= 0) service.ready.splice(index, 1);
    const isAdopted = service.used.get(localPort)?.isAdopted === true;
    service.used.set(localPort, { handle, endedNs: -1, isAdopted, isReserved: false });
    service.takenNs = nowNs;
  }

  /** True when the next block should be asked for, so that nobody has to wait for it. */
  isLow({ asked, ready, scarceUntilNs }: Service): boolean {
    return ready.length < READY_MIN && !asked && this.#options.nowNs() >= scarceUntilNs;
  }

  /** The owner has just said that there is none. */
  isRefused({ refusedUntilNs }: Service): boolean {
    return this.#options.nowNs() < refusedUntilNs;
  }

  /**
   * Asks the owner for filters for these ports. The answer may come at once; otherwise answered() tells.
   * @param urgent others are to give back what they do not use.
   */
  ask(service: Service, localPorts: readonly number[], urgent: boolean): void {
    // What was asked for ahead may be refused; whoever waits for it asks again.
    if (service.asked) return;
    service.asked = localPorts;
    service.urgent = urgent;
    this.#ask(service);
    this.#options.settle();
  }

  /** Gives back all filters without a connection, and those of connections in TIME-WAIT. */
  giveBack(nowNs: number): void {
    for (const service of this.#services.values()) {
      this.#look(service, nowNs, 0);
      this.#return(service);
    }
  }

  /** Fulfilled with the next answer of the owner. */
  answered(): Promise<void> {
    if (!this.#answered) {
      let resolve = () => {};
      const promise = new Promise<void>((settle) => {
        resolve = settle;
      });
      this.#answered = { promise, resolve };
    }
    return this.#answered.promise;
  }

  /** Nobody will answer. */
  abandon(): void {
    this.#answered?.resolve();
    this.#answered = undefined;
  }

  /** Looks after connections whose time is over. */
  turn(nowNs: number): void {
    if (nowNs < this.#nextLookNs) return;
    const timeWaitNs = this.#options.timeWaitMs * 1e6;
    for (const service of this.#services.values()) {
      this.#look(service, nowNs, timeWaitNs);
      service.inUse.clear();
      if (nowNs - service.takenNs >= IDLE_NS) this.#return(service);
    }
    this.#nextLookNs = this.#services.size > 0 ? nowNs + LOOK_NS : Number.POSITIVE_INFINITY;
  }

  /** Tells a new owner of all filters, and asks it for those that have not been granted. */
  reclaim(): void {
    const led = new Set<string>();
    for (const { told } of this.#leads.values()) {
      for (const { service, ports } of told) for (const port of ports) led.add(`${service.key} ${port}`);
    }
    for (const service of this.#services.values()) {
      const own = [...service.ready, ...service.used.keys()].filter((port) => !led.has(`${service.key} ${port}`));
      const isReserved = (port: number) => service.used.get(port)?.isReserved === true;
      this.#tell(
        MESSAGE_TYPE_FILTERS_HOLDS,
        service,
        own.filter((port) => !isReserved(port)),
      );
      this.#tell(MESSAGE_TYPE_FILTERS_HOLDS, service, own.filter(isReserved), { isReserved: true });
      if (service.asked) this.#ask(service);
    }
    for (const [moving, lead] of this.#leads) this.#lead(moving, lead);
  }

  /** See ActiveOpener.redirectFilters. @param opened all of them that may need a filter one day. */
  redirect(handles: ReadonlySet<number>, opened: Moving, to: number): Moving {
    const moving: MovingTuple[] = [];
    for (const { remote, remotePort, local, used } of this.#services.values()) {
      for (const [localPort, { handle, endedNs, isReserved }] of used) {
        if (isReserved || endedNs >= 0 || !handles.has(handle)) continue;
        moving.push([handle, { remote, remotePort, local, localPort }]);
      }
    }
    for (const [handle, tuple] of opened) {
      const use = this.find(tuple.remote, tuple.remotePort, tuple.local)?.used.get(tuple.localPort);
      if (!use || use.isReserved) moving.push([handle, tuple, true]);
    }
    const told = toldPorts(moving);
    if (moving.length > 0) this.#lead(moving, { told, to, question: 0, isDone: false, isForgotten: false });
    return moving;
  }

  /** The owner has not said yet that filters lead where it was told to have them lead. */
  get isLeading(): boolean {
    for (const { isDone } of this.#leads.values()) if (!isDone) return true;
    return false;
  }

  forget(moved: Moving): void {
    for (const [, { remote, remotePort, local, localPort }] of moved) {
      this.find(remote, remotePort, local)?.used.delete(localPort);
    }
    const lead = this.#leads.get(moved);
    if (!lead) return;
    lead.isForgotten = true;
    if (lead.isDone) this.#leads.delete(moved);
  }

  restore(stayed: Moving): void {
    const lead = this.#leads.get(stayed);
    if (lead) this.#lead(stayed, { ...lead, to: this.#options.queue, isDone: false, isForgotten: true });
  }

  adopt(arrived: Moving, nowNs: number): void {
    for (const [handle, { remote, remotePort, local, localPort }, isReserved = false] of arrived) {
      const service = this.open(remote, remotePort, local, nowNs);
      const index = service.ready.indexOf(localPort);
      if (index >= 0) service.ready.splice(index, 1);
      service.used.set(localPort, { handle, endedNs: -1, isAdopted: true, isReserved });
    }
  }

  /** What is told is done in order: an ask for no ports is answered when the owner has had the filters lead there. */
  #lead(moving: Moving, lead: Lead): void {
    const { line, queue } = this.#options;
    line.forget(lead.question);
    this.#leads.set(moving, lead);
    for (const { service, ports, isReserved } of lead.told) {
      this.#tell(MESSAGE_TYPE_FILTERS_LEAD, service, ports, { queue: lead.to, isReserved });
      if (!isReserved || lead.to !== queue) continue;
      // What was opened here is here again: this kernel sees by itself that it is in use.
      const adopted = this.#services.get(service.key)?.used;
      this.#tell(
        MESSAGE_TYPE_FILTERS_RETURN,
        service,
        ports.filter((port) => !adopted?.has(port)),
      );
    }
    const [{ service }] = lead.told as [Lead["told"][number]];
    const payload = encodeFilterBlock({ ...service, queue, localPorts: [] });
    lead.question = line.ask(MESSAGE_TYPE_FILTERS_ASK, payload, () => {
      lead.isDone = true;
      if (lead.isForgotten) this.#leads.delete(moving);
    });
  }

  #ask(service: Service): void {
    const { line, queue } = this.#options;
    line.forget(service.question);
    const payload = encodeFilterBlock({ ...service, queue, localPorts: service.asked ?? [], flag: service.urgent });
    service.question = line.ask(MESSAGE_TYPE_FILTERS_ASK, payload, (answer) => this.#granted(service, answer));
  }

  #granted(service: Service, answer: Uint8Array): void {
    const block = decodeFilterBlock(answer);
    if (!block || !service.asked) return;
    const nowNs = this.#options.nowNs();
    if (block.localPorts.length < service.asked.length) service.scarceUntilNs = nowNs + SCARCE_NS;
    if (block.flag) for (const port of service.asked) service.inUse.add(port);
    service.asked = undefined;
    service.refused = block.localPorts.length === 0 && service.urgent && !block.flag;
    if (service.refused) service.refusedUntilNs = nowNs + REFUSED_NS;
    for (const port of block.localPorts) if (!this.has(service, port)) service.ready.push(port);
    this.#answered?.resolve();
    this.#answered = undefined;
  }

  /** @param timeWaitNs how long filters are kept for their connections. */
  #look(service: Service, nowNs: number, timeWaitNs: number): void {
    const { isOver } = this.#options;
    const foreign: number[] = [];
    for (const [localPort, use] of service.used) {
      if (use.endedNs < 0 && isOver(use.handle, localPort)) use.endedNs = nowNs;
      if (use.endedNs < 0 || nowNs - use.endedNs < timeWaitNs) continue;
      service.used.delete(localPort);
      (use.isAdopted ? foreign : service.ready).push(localPort);
    }
    this.#tell(MESSAGE_TYPE_FILTERS_RETURN, service, foreign);
  }

  #return(service: Service): void {
    this.#tell(MESSAGE_TYPE_FILTERS_RETURN, service, service.ready.splice(0));
    if (service.used.size === 0 && !service.asked) this.#services.delete(service.key);
  }

  #tell(
    type: number,
    service: ToldPorts["service"],
    ports: readonly number[],
    { queue = this.#options.queue, isReserved = false } = {},
  ): void {
    for (let first = 0; first < ports.length; first += MESSAGE_PORTS_MAX) {
      const localPorts = ports.slice(first, first + MESSAGE_PORTS_MAX);
      this.#options.line.tell(type, encodeFilterBlock({ ...service, queue, localPorts, flag: isReserved }));
    }
  }
}

/** By service, those with filters apart. */
function toldPorts(moving: Moving): ToldPorts[] {
  const told = new Map<string, ToldPorts>();
  for (const [, { remote, remotePort, local, localPort }, isReserved = false] of moving) {
    const key = serviceKey(remote, remotePort, local);
    const ports = told.get(`${isReserved} ${key}`)?.ports ?? [];
    ports.push(localPort);
    told.set(`${isReserved} ${key}`, { service: { key, remote, remotePort, local }, ports, isReserved });
  }
  return [...told.values()];
}

function serviceKey(remote: Uint8Array, remotePort: number, local: Uint8Array): string {
  return `${remote} ${remotePort} ${local}`;
}
