/**
 * The owner's side of the messages about the device. Every kernel has one; it is idle while another kernel is the
 * owner. The owner opens the device's tables, is the only one that writes them, and gives out queue pairs and exact
 * filters.
 *
 * ```
 *  idle ──view names us──▶ gathering ──HOLDS of every kernel in the view, and of the stack──▶ serving
 *    ▲                                                                                          │
 *    └───────────────────────────────── view names another, or we are fenced ───────────────────┘
 * ```
 * While it gathers, asks wait; writes to the tables do not: packets of a kernel that is gone go elsewhere at once. What
 * the last owner knew is in the device's tables, and with those that have got it.
 */
import type { DeviceTables } from "../device/device.ts";
import {
  MESSAGE_TYPE_FILTERS_ASK,
  MESSAGE_TYPE_FILTERS_GRANT,
  MESSAGE_TYPE_FILTERS_HOLDS,
  MESSAGE_TYPE_FILTERS_LEAD,
  MESSAGE_TYPE_FILTERS_RECALL,
  MESSAGE_TYPE_FILTERS_RECALLED,
  MESSAGE_TYPE_FILTERS_RETURN,
  MESSAGE_TYPE_GROUPS_ANSWER,
  MESSAGE_TYPE_GROUPS_MOVED,
  MESSAGE_TYPE_GROUPS_OFFER,
  MESSAGE_TYPE_OWNER_SERVES,
  MESSAGE_TYPE_QUEUE_ASK,
  MESSAGE_TYPE_QUEUE_CONFIRM,
  MESSAGE_TYPE_QUEUE_GRANT,
  MESSAGE_TYPE_QUEUE_HOLDS,
  MESSAGE_TYPE_QUEUE_RELEASE,
  MESSAGE_TYPE_TABLES_WRITE,
  MESSAGE_TYPE_TABLES_WRITTEN,
} from "../layout/message.ts";
import { EBUSY, EINVAL, OK } from "../layout/status.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import {
  CORRELATION_MAX,
  type DeviceTerms,
  decodeFilterBlock,
  decodeQueueMessage,
  decodeWriteBatch,
  encodeFilterBlock,
  encodeGroups,
  encodeQueueMessage,
  encodeWriteAnswer,
  type FilterBlock,
  QUEUE_NONE,
  type TableWrite,
  type WriteAnswer,
  type WriteBatch,
} from "./deviceMessages.ts";
import { type Endpoint, type Message, CONTROL_VERSION as VERSION } from "./endpoint.ts";
import { FilterTable } from "./filterTable.ts";
import { HOLDER_STACK } from "./ports.ts";
import { isForTerm } from "./questions.ts";
import type { View } from "./view.ts";

/** How an owner gets at the device. */
export type DeviceSource = {
  readonly terms: DeviceTerms;
  /** Called when this kernel becomes the owner. */
  readonly open: () => DeviceTables | Promise<DeviceTables>;
  /** The stack writes too, and tells a new owner what it has. */
  readonly stackWrites: boolean;
  /** Key that the RSS hash is to have; undefined: the device's own, or there is no hash. */
  readonly rssKey?: Uint8Array | undefined;
};

type Told = Pick<Message, "from" | "life" | "type" | "correlation" | "payload">;
type Written = (answer: Uint8Array) => void;
type Queue = { readonly kernelId: number; driven: boolean };
type Offer = {
  readonly batch: WriteBatch;
  readonly written: Written;
  /** Kernels that have not answered, by the correlation of the question. */
  readonly waiting: Map<number, number>;
  readonly refused: Set<number>;
};

const TYPES = [
  MESSAGE_TYPE_QUEUE_ASK,
  MESSAGE_TYPE_QUEUE_CONFIRM,
  MESSAGE_TYPE_QUEUE_RELEASE,
  MESSAGE_TYPE_QUEUE_HOLDS,
  MESSAGE_TYPE_TABLES_WRITE,
  MESSAGE_TYPE_FILTERS_ASK,
  MESSAGE_TYPE_FILTERS_RETURN,
  MESSAGE_TYPE_FILTERS_LEAD,
  MESSAGE_TYPE_FILTERS_HOLDS,
] as const;

export class DeviceOwner {
  readonly #endpoint: Endpoint;
  readonly #memory: KernelMemory;
  readonly #onError: (error: unknown) => void;
  #source: DeviceSource | undefined;
  /** Of this term: an earlier term's opening may still be under way. */
  #tables: DeviceTables | undefined;
  #term = 0;
  /** Kernels that may still believe that they are the owner. */
  #former: readonly number[] = [];
  #ownerSince = 0;
  #owns = false;
  #serving = false;
  /** Kernels, and HOLDER_STACK, that have not told what they have. */
  #missing = new Set<number>();
  #lives = new Map<number, number>();
  readonly #queues = new Map<number, Queue>();
  readonly #filters = new FilterTable({
    tables: () => (this.#mayWrite ? this.#tables : undefined),
    capacity: () => this.#source?.terms.exactFilters ?? 0,
    recall: (round) => this.#recall(round),
    onError: (error) => this.#onError(error),
  });
  #waiting: Told[] = [];
  #early: Told[] = [];
  #unopened: (() => void)[] = [];
  readonly #offers = new Set<Offer>();
  #lastOffer = 0;
  /** Sequence of the last write of each entry: an offer may be answered later than others have written. */
  readonly #lastWrites = new Map<number, number>();

  constructor(endpoint: Endpoint, memory: KernelMemory, onError: (error: unknown) => void) {
    this.#endpoint = endpoint;
    this.#memory = memory;
    this.#onError = onError;
    for (const type of TYPES) endpoint.on(type, VERSION, (message) => this.#hear(message));
    endpoint.on(MESSAGE_TYPE_GROUPS_ANSWER, VERSION, (message) => this.#offerAnswered(message));
    endpoint.on(MESSAGE_TYPE_FILTERS_RECALLED, VERSION, ({ from, correlation }) => {
      this.#filters.recalled(from, correlation);
    });
  }

  /** Before the first view. */
  provide(source: DeviceSource): void {
    this.#source = source;
  }

  /** Queue pairs given out, and how many of them are driven; undefined: this kernel is not the owner, or gathers. */
  get queues(): { readonly granted: number; readonly driven: number } | undefined {
    if (!this.#serving) return undefined;
    return { granted: this.#queues.size, driven: [...this.#queues.values()].filter(({ driven }) => driven).length };
  }

  /** Exact filters given out; undefined: as above. */
  get filterCount(): number | undefined {
    return this.#serving ? this.#filters.size : undefined;
  }

  setView({ former, owner, ownerSince, members, term }: View): void {
    const lives = new Map(members.map(({ kernelId, life }) => [kernelId, life] as const));
    const owned = this.#owns && this.#ownerSince === ownerSince;
    if (this.#owns && !owned) this.#end();
    this.#former = former;
    this.#ownerSince = ownerSince;
    this.#owns = owner === this.#endpoint.kernelId && this.#source !== undefined;
    const before = this.#lives;
    this.#lives = lives;
    if (this.#owns && !owned) this.#begin(term);
    else if (this.#owns) this.#changed(before);
    this.#serveWhenComplete();
  }

  /**
   * Writes to the tables that the stack has decided. @param written gets the answer; it is not called when this kernel
   * is not the owner (any more): then the next one has to be asked.
   */
  write(payload: Uint8Array, written: Written): void {
    const batch = decodeWriteBatch(payload);
    if (!batch || !this.#mayWrite) return;
    this.#whenFree(() => {
      if (batch.offered) this.#offer(batch, written);
      else
        this.#apply(
          batch,
          () => true,
          (answer) => written(encodeWriteAnswer(answer)),
        );
      if (batch.complete) this.#missing.delete(HOLDER_STACK);
      this.#serveWhenComplete();
    });
  }

  #begin(term: number): void {
    const source = this.#source as DeviceSource;
    this.#term = term;
    // In the first view nobody can have anything.
    this.#missing = new Set(term > 1 ? this.#lives.keys() : []);
    if (source.stackWrites && term > 1) this.#missing.add(HOLDER_STACK);
    const opened = (tables: DeviceTables) => {
      if (!this.#owns || this.#term !== term) return;
      this.#tables = tables;
      this.#doWhatWaited();
    };
    const tables = source.open();
    if (tables instanceof Promise) tables.then(opened, this.#onError);
    else opened(tables);
    for (const told of this.#early.splice(0)) if (this.#lives.get(told.from) === told.life) this.#take(told);
  }

  /** @param before the lives of the view before. */
  #changed(before: ReadonlyMap<number, number>): void {
    const gone = [...before].filter(([kernelId, life]) => this.#lives.get(kernelId) !== life).map(([id]) => id);
    if (gone.length === 0) return;
    for (const [queue, { kernelId }] of this.#queues) if (gone.includes(kernelId)) this.#queues.delete(queue);
    this.#waiting = this.#waiting.filter(({ from }) => !gone.includes(from));
    // Whoever is waited for is not any more.
    for (const kernelId of gone) {
      this.#missing.delete(kernelId);
      for (const offer of [...this.#offers]) this.#answerOffer(offer, kernelId, false);
    }
    this.#filters.forget(gone);
    this.#filters.serve();
    this.#doWhatWaited();
  }

  #end(): void {
    this.#tables = undefined;
    this.#waiting = [];
    this.#unopened = [];
    this.#queues.clear();
    this.#filters.end();
    this.#offers.clear();
    this.#lastWrites.clear();
  }

  /** A kernel that has been given up may still run for a moment: the device is another's by then. */
  get #mayWrite(): boolean {
    return this.#owns && !this.#memory.fenced;
  }

  /** In order: an answer to one that waits may bring the next while others still do. */
  #whenFree(action: () => void): void {
    if (this.#isFree && this.#unopened.length === 0) action();
    else this.#unopened.push(action);
  }

  /** The tables are open, and owners before us, if they live, have let go of them. */
  get #isFree(): boolean {
    return this.#tables !== undefined && !this.#former.some((kernelId) => this.#missing.has(kernelId));
  }

  #doWhatWaited(): void {
    while (this.#isFree && this.#unopened.length > 0) this.#unopened.shift()?.();
    this.#serveWhenComplete();
  }

  #hear({ from, life, type, correlation, payload }: Message): void {
    const told = { from, life, type, correlation, payload: new Uint8Array(payload) };
    if (this.#owns) this.#take(told);
    else if (this.#source) this.#early.push(told);
  }

  #take(told: Told): void {
    const { from, type, correlation, payload } = told;
    switch (type) {
      case MESSAGE_TYPE_QUEUE_ASK:
      case MESSAGE_TYPE_FILTERS_ASK:
        if (isForTerm(correlation, this.#ownerSince)) this.#waiting.push(told);
        break;
      case MESSAGE_TYPE_TABLES_WRITE:
        if (!isForTerm(correlation, this.#ownerSince)) break;
        this.write(payload, (answer) => {
          this.#endpoint.tell(from, MESSAGE_TYPE_TABLES_WRITTEN, VERSION, correlation, answer);
        });
        break;
      case MESSAGE_TYPE_QUEUE_CONFIRM:
      case MESSAGE_TYPE_QUEUE_RELEASE:
      case MESSAGE_TYPE_QUEUE_HOLDS:
        this.#queueTold(told);
        break;
      default:
        if (correlation !== this.#ownerSince) break;
        this.#whenFree(() => this.#filtersTold(told));
    }
    this.#serveWhenComplete();
  }

  #queueTold({ from, type, correlation, payload }: Told): void {
    const message = decodeQueueMessage(payload);
    // One that was meant for an earlier term of ours says nothing.
    if (!message || correlation !== this.#ownerSince) return;
    const { queue, status } = message;
    const known = this.#queues.get(queue);
    if (type === MESSAGE_TYPE_QUEUE_CONFIRM && known?.kernelId === from) known.driven = true;
    if (type === MESSAGE_TYPE_QUEUE_RELEASE && known?.kernelId === from) this.#queues.delete(queue);
    if (type !== MESSAGE_TYPE_QUEUE_HOLDS) return;
    if (status === 1) this.#queues.set(queue, { kernelId: from, driven: true });
    this.#missing.delete(from);
    this.#doWhatWaited();
  }

  #serveWhenComplete(): void {
    const ready = this.#tables !== undefined && this.#unopened.length === 0;
    const serves = this.#owns && this.#missing.size === 0 && ready;
    const begins = serves && !this.#serving;
    this.#serving = serves;
    if (!serves) return;
    if (begins) this.#setRssKey();
    if (begins && this.#term > 1) {
      this.#filters.clearOrphans();
      for (const to of this.#endpoint.peers) this.#endpoint.tell(to, MESSAGE_TYPE_OWNER_SERVES, VERSION, 0);
    }
    if (begins) this.#filters.begin();
    for (const told of this.#waiting.splice(0)) {
      if (told.type === MESSAGE_TYPE_QUEUE_ASK) this.#grantQueue(told);
      else this.#grantFilters(told);
    }
  }

  /**
   * Before anybody has a queue pair: ports for connections are chosen by the hash. An owner that takes over finds it
   * set, unless the one before has died at that.
   */
  #setRssKey(): void {
    const key = this.#source?.rssKey;
    const set = this.#tables?.rssKey?.();
    if (!key || !this.#mayWrite || (set && key.every((byte, index) => byte === set[index]))) return;
    this.#tables?.setRssKey?.(key);
  }

  #grantQueue({ from, correlation, payload }: Told): void {
    const queue = decodeQueueMessage(payload)?.queue ?? QUEUE_NONE;
    const { terms } = this.#source as DeviceSource;
    const holder = this.#queues.get(queue)?.kernelId ?? from;
    const status = queue >= terms.queues ? EINVAL : holder !== from ? EBUSY : OK;
    // A question that was asked again may be answered twice.
    if (status === OK && !this.#queues.has(queue)) this.#queues.set(queue, { kernelId: from, driven: false });
    const answer = encodeQueueMessage(queue, status, status === OK ? terms : undefined);
    this.#endpoint.tell(from, MESSAGE_TYPE_QUEUE_GRANT, VERSION, correlation, answer);
  }

  // Exact filters.

  /**
   * As many of the ports asked for, from the first on, as there is room for, without those that another kernel's
   * connection has. None only when all filters are in use, or all these ports are, or others wait and this ask is for
   * later.
   */
  #grantFilters({ from, correlation, payload }: Told): void {
    const block = decodeFilterBlock(payload);
    if (!block) return;
    const grant = (localPorts: readonly number[], inUse = false) => {
      // Given up: what was told before may not have been done. The next owner is asked.
      if (!this.#mayWrite) return;
      const answer = encodeFilterBlock({ ...block, localPorts, flag: inUse });
      this.#endpoint.tell(from, MESSAGE_TYPE_FILTERS_GRANT, VERSION, correlation, answer);
    };
    const take = (share: number) => {
      const localPorts: number[] = [];
      const free = block.localPorts.filter((localPort) => !this.#filters.isOthers({ ...block, localPort }, from));
      for (const localPort of free.slice(0, share)) {
        if (!this.#filters.set({ ...block, localPort }, block.queue, from)) break;
        localPorts.push(localPort);
      }
      const inUse = free.length === 0 && block.localPorts.length > 0;
      if (localPorts.length > 0 || inUse) grant(localPorts, inUse);
      return localPorts.length > 0 || inUse;
    };
    if (block.flag) {
      this.#filters.want({ take, refuse: () => grant([]), kernelId: from });
      this.#filters.serve();
    } else if (!this.#filters.isFree || !take(Number.POSITIVE_INFINITY)) grant([]);
  }

  #recall(round: number): number[] {
    return [...this.#endpoint.peers, this.#endpoint.kernelId].filter(
      (kernelId) => this.#endpoint.tell(kernelId, MESSAGE_TYPE_FILTERS_RECALL, VERSION, round) >= 0,
    );
  }

  #filtersTold({ from, life, type, payload }: Told): void {
    const block = decodeFilterBlock(payload);
    if (!block || !this.#mayWrite || this.#lives.get(from) !== life) return;
    // Led to another kernel, whose filters they are from now on; or told by their holder.
    const holder = type === MESSAGE_TYPE_FILTERS_LEAD ? block.queue : from;
    for (const flow of flowsOf(block)) {
      if (type === MESSAGE_TYPE_FILTERS_RETURN) this.#filters.release(flow, from);
      // It has ended meanwhile, with its connections: nobody would ever give the filter back.
      else if (!this.#lives.has(holder)) this.#filters.clear(flow);
      else if (block.flag) this.#filters.reserve(flow, holder);
      else this.#filters.set(flow, block.queue, holder);
    }
    this.#filters.serve();
  }

  // Tables, and offers of flow groups.

  /**
   * Does all writes of a batch but for filters that have to wait for room: those are done later, or refused, unless a
   * later batch has overtaken them.
   * @param isTaken whether the kernel of a queue takes a group that is offered. @param done when all is decided.
   */
  #apply(batch: WriteBatch, isTaken: (queue: number) => boolean, done: (answer: WriteAnswer) => void): void {
    const { offered, sequence, writes } = batch;
    const filters: FilterFlow[] = [];
    const groups: number[] = [];
    let undecided = 1;
    const decide = () => {
      if (--undecided === 0) done({ sequence, filters, groups });
    };
    // Given up since the batch came: nothing is written, so nothing is answered, and the next owner is asked.
    if (!this.#mayWrite) return;
    for (const write of writes) {
      if (offered && write.op === "group") {
        const last = this.#lastWrites.get(write.entry) ?? 0;
        if (last > sequence || !isTaken(write.queue)) {
          groups.push(write.group);
          continue;
        }
      }
      if (write.op === "set") {
        undecided++;
        this.#filters.setWhenFree(write.flow, write.queue, HOLDER_STACK, (isSet) => {
          if (!isSet) filters.push(write.flow);
          decide();
        });
        continue;
      }
      try {
        this.#writeOne(write, sequence);
      } catch (error) {
        // A table refuses what makes no sense to it, and the host may refuse a map update: the others count.
        this.#onError(error);
        if (write.op === "group") groups.push(write.group);
      }
    }
    this.#filters.serve();
    decide();
  }

  #writeOne(write: Exclude<TableWrite, { op: "set" }>, sequence: number): void {
    const tables = this.#tables as DeviceTables;
    switch (write.op) {
      case "place":
        tables.place?.(write.entry, write.queue);
        this.#lastWrites.set(write.entry, sequence);
        break;
      case "group":
        tables.moveFlowGroup?.(write.group, write.queue === QUEUE_NONE ? undefined : write.queue);
        this.#lastWrites.set(write.entry, sequence);
        break;
      case "clear":
        this.#filters.clear(write.flow);
        break;
      case "drop":
        this.#filters.drop(write.queue);
        break;
    }
  }

  #offer(batch: WriteBatch, written: Written): void {
    const offer: Offer = { batch, written, waiting: new Map(), refused: new Set() };
    this.#offers.add(offer);
    const asked: [number, number][] = [];
    for (const queue of targetsOf(batch.writes)) {
      this.#lastOffer = (this.#lastOffer % CORRELATION_MAX) + 1;
      offer.waiting.set(this.#lastOffer, queue);
      asked.push([this.#lastOffer, queue]);
    }
    for (const [correlation, queue] of asked) {
      const groups = groupsOf(batch.writes, (write) => write.queue === queue);
      const payload = encodeGroups({ queue, groups });
      const status = this.#endpoint.tell(queue, MESSAGE_TYPE_GROUPS_OFFER, VERSION, correlation, payload);
      if (status < 0) this.#answerOffer(offer, queue, false);
    }
    if (asked.length === 0) this.#endOffer(offer);
  }

  #offerAnswered({ from, correlation, payload }: Message): void {
    const status = decodeQueueMessage(payload)?.status ?? EINVAL;
    for (const offer of [...this.#offers]) {
      if (offer.waiting.get(correlation) === from) this.#answerOffer(offer, from, status === OK);
    }
  }

  #answerOffer(offer: Offer, kernelId: number, accepted: boolean): void {
    for (const [correlation, asked] of offer.waiting) {
      if (asked !== kernelId) continue;
      offer.waiting.delete(correlation);
      if (!accepted) offer.refused.add(kernelId);
      if (offer.waiting.size === 0) this.#endOffer(offer);
    }
  }

  #endOffer(offer: Offer): void {
    if (!this.#offers.delete(offer) || !this.#mayWrite) return;
    const { batch, refused, written } = offer;
    const isTaken = (queue: number) => !refused.has(queue);
    this.#apply(batch, isTaken, (answer) => {
      const stayed = new Set(answer.groups);
      for (const queue of targetsOf(batch.writes)) {
        const moved = (from: number | undefined) =>
          groupsOf(
            batch.writes,
            (write) => write.queue === queue && !stayed.has(write.group) && (from ?? write.from) === write.from,
          );
        const givers = new Set(batch.writes.flatMap((write) => (write.op === "group" ? [write.from] : [])));
        this.#tellMoved(queue, queue, moved(undefined));
        for (const from of givers) this.#tellMoved(from, queue, moved(from));
      }
      written(encodeWriteAnswer(answer));
    });
  }

  #tellMoved(to: number, queue: number, groups: readonly number[]): void {
    if (groups.length === 0 || to === QUEUE_NONE) return;
    this.#endpoint.tell(to, MESSAGE_TYPE_GROUPS_MOVED, VERSION, 0, encodeGroups({ queue, groups }));
  }
}

type FilterFlow = Extract<TableWrite, { op: "set" }>["flow"];
type GroupWrite = Extract<TableWrite, { op: "group" }>;

function flowsOf({ remote, remotePort, local, localPorts }: FilterBlock): FilterFlow[] {
  return localPorts.map((localPort) => ({ remote, remotePort, local, localPort }));
}

function groupsOf(writes: readonly TableWrite[], isWanted: (write: GroupWrite) => boolean = () => true): number[] {
  return writes.flatMap((write) => (write.op === "group" && isWanted(write) ? [write.group] : []));
}

function targetsOf(writes: readonly TableWrite[]): Set<number> {
  return new Set(writes.flatMap((write) => (write.op === "group" && write.queue !== QUEUE_NONE ? [write.queue] : [])));
}
