/**
 * The device as the stack sees it, while one of its kernels owns it. What the stack decides about the tables (where
 * packets of a dead kernel go, moves of flow groups) is collected here, sent to the owner, and sent again to the next
 * owner as long as it has not been answered. Reading tells how the tables will be when everything has taken effect, so
 * that whoever decides need not wait.
 *
 * ```
 *  write ──▶ collected ──commitTables()──▶ sent ──answer──▶ in effect, or refused
 *                                           │ ▲
 *                                           └─┘ another owner
 * ```
 * Filters are sent to each new owner anew, all of them: what nobody tells it, it clears.
 *
 * A filter may have to wait for room, and be refused (filterTable.ts). So what sets filters goes in batches of its own,
 * that nothing else waits for, and a *guarded* write (an offer, or `place(…, guarded)`) is kept here until the filters
 * of its entry are in effect. If one of them is refused, so is the write: a group does not move without its pins.
 *
 * ```
 *  guarded write ──▶ kept ──filters of its entry are in effect──▶ collected
 *                     └────one of them is refused────▶ refused
 * ```
 */
import type {
  Device,
  DeviceCapabilities,
  DevicePort,
  Placement,
  PortDescription,
  QueuePair,
} from "../device/device.ts";
import type { ReplyTuple } from "../device/replySteering.ts";
import {
  decodeWriteAnswer,
  ENTRY_NONE,
  encodeWriteBatch,
  filterKey,
  QUEUE_NONE,
  type TableWrite,
  tableWriteBytes,
  WRITE_BATCH_BYTES,
} from "./deviceMessages.ts";

/** Sends a batch to the present owner. `onWritten` is called once, or never if that owner is none any more. */
export type WriteChannel = (payload: Uint8Array, onWritten: (answer: Uint8Array) => void) => void;

/** Fits half of the smallest message ring. */
const BATCH_BYTES_MAX = 1900;

type Batch = {
  readonly sequence: number;
  /** Number of its first write. */
  readonly first: number;
  readonly offered: boolean;
  readonly complete: boolean;
  readonly writes: readonly TableWrite[];
};
/** `number`: which write it is, of all; of one that has taken the place of another, that one's. */
type Collected = { readonly write: TableWrite; readonly offered: boolean; readonly number: number };
type EntryWrite = Extract<TableWrite, { op: "place" | "group" }>;
type KeptWrite = Collected & { readonly write: EntryWrite };
type Filter = {
  readonly flow: ReplyTuple;
  readonly queue: number;
  /** Of the placement, by which the flow would be steered without the filter. */
  readonly entry: number | undefined;
  /** Batch that sets it, or has; 0: not sent yet. */
  sequence: number;
};

/** Why groups stay where they are: their new kernel does not take them, or their connections have got no filters. */
export type GroupRefusal = "offer" | "filters";
type Waiter = { readonly sequence: number; readonly then: () => void };
/** Somebody who waits until the first so many writes have been answered. */
type WriteWaiter = { readonly writes: number; readonly then: () => void };
/** Somebody who waits until these flows have filters. */
type FilterWaiter = { readonly keys: readonly string[]; readonly then: (areSet: boolean) => void };

export class OwnedDevice implements Device {
  readonly capabilities: DeviceCapabilities;
  readonly mac: Uint8Array;
  readonly rxLanes: number;
  readonly placement?: Placement;
  readonly queueFor?: NonNullable<Device["queueFor"]>;
  readonly lendQueue?: NonNullable<Device["lendQueue"]>;
  readonly softwareSteered?: NonNullable<Device["softwareSteered"]>;
  readonly flowGroupQueue?: NonNullable<Device["flowGroupQueue"]>;
  readonly moveFlowGroup?: NonNullable<Device["moveFlowGroup"]>;
  readonly setFilter?: NonNullable<Device["setFilter"]>;
  readonly clearFilter?: NonNullable<Device["clearFilter"]>;
  /** Called when groups that were to move stay where they are; also when entries that are no groups do (none then). */
  onGroupsRefused: (groups: readonly number[], why: GroupRefusal) => void = () => {};
  /** Called with flows whose filters are not set, nor will be: all filters are in use. */
  onFiltersRefused: (flows: readonly ReplyTuple[]) => void = () => {};
  /** Filters that the owner has refused. */
  filtersRefused = 0;
  readonly #device: Device;
  #channel: WriteChannel | undefined;
  #collected: Collected[] = [];
  /** Sent, and not answered. */
  readonly #sent = new Map<number, Batch>();
  #lastSequence = 0;
  writes = 0;
  #waiters: Waiter[] = [];
  #filterWaiters: FilterWaiter[] = [];
  #writeWaiters: WriteWaiter[] = [];
  /** How entries will be, and by which batch. 0: not sent yet. */
  readonly #entries = new Map<number, { readonly queue: number; sequence: number }>();
  readonly #filters = new Map<string, Filter>();
  /** Those that the owner has not set yet. */
  readonly #unset = new Set<Filter>();
  /** Guarded writes that wait for filters, by entry. */
  readonly #kept = new Map<number, KeptWrite>();
  #committing = false;
  #commitAgain = false;
  #willCommit = false;

  constructor(device: Device) {
    this.#device = device;
    this.capabilities = device.capabilities;
    this.mac = device.mac;
    this.rxLanes = device.rxLanes;
    if (device.placement) this.placement = new OwnedPlacement(device.placement, this);
    if (device.queueFor) this.queueFor = device.queueFor.bind(device);
    if (device.lendQueue) this.lendQueue = device.lendQueue.bind(device);
    if (device.softwareSteered) this.softwareSteered = device.softwareSteered.bind(device);
    if (device.flowGroupQueue) this.flowGroupQueue = (group) => this.#queueOfGroup(group);
    if (device.moveFlowGroup) this.moveFlowGroup = (group, queue, offer) => this.#moveGroup(group, queue, offer);
    if (device.setFilter) this.setFilter = (flow, queue) => this.#setFilter(flow, queue);
    if (device.clearFilter) this.clearFilter = (flow) => this.#clearFilter(flow);
  }

  openPort(queue: number, pair: QueuePair): DevicePort {
    return this.#device.openPort(queue, pair);
  }

  describePort(queue: number, memory: WebAssembly.Memory): PortDescription {
    return this.#device.describePort(queue, memory);
  }

  releaseQueue(queue: number): void {
    this.#device.releaseQueue(queue);
  }

  queueFrames(): number[] {
    return this.#device.queueFrames();
  }

  /** The stack does not close what it has not opened. */
  async close(): Promise<void> {}

  /** There is another owner, or another way to it: what has not been answered is sent again, in its order. */
  attach(channel: WriteChannel | undefined): void {
    this.#channel = channel;
    if (!channel) return;
    const unanswered = [...this.#sent.values()];
    const first = Math.min(this.#firstPending(), this.writes);
    this.#sent.clear();
    // Answers may come at once: what follows from them is sent last.
    const nested = this.#committing;
    this.#committing = true;
    this.#tellFilters(first);
    for (const batch of unanswered)
      this.#send({ ...batch, writes: batch.writes.filter((w) => this.#counts(w, batch)) });
    this.#committing = nested;
    this.commitTables();
  }

  whenFiltersSet(flows: readonly ReplyTuple[], then: (areSet: boolean) => void): void {
    this.#filterWaiters.push({ keys: flows.map(filterKey), then });
    this.commitTables();
    this.#wakeFilterWaiters();
  }

  #wakeFilterWaiters(): void {
    if (this.#filterWaiters.length === 0) return;
    const isDecided = ({ keys }: FilterWaiter) =>
      keys.some((key) => !this.#filters.has(key)) ||
      keys.every((key) => !this.#unset.has(this.#filters.get(key) as Filter));
    const ready = this.#filterWaiters.filter(isDecided);
    this.#filterWaiters = this.#filterWaiters.filter((waiter) => !ready.includes(waiter));
    for (const { keys, then } of ready) then(keys.every((key) => this.#filters.has(key)));
  }

  /** No kernel is left to own the device, and none will be: the stack takes its filters out itself. */
  release(): void {
    this.#channel = undefined;
    this.#collected = [];
    this.#kept.clear();
    this.#unset.clear();
    this.#filters.clear();
    this.#filterWaiters = [];
    this.#writeWaiters = [];
    for (const { flow } of this.#device.filters?.() ?? []) this.#device.clearFilter?.(flow);
  }

  /** Writes and batches that have not been answered. */
  get pendingWrites(): number {
    return this.#sent.size + this.#collected.length + this.#kept.size;
  }

  hasWritten(writes: number): boolean {
    return this.#firstPending() > writes;
  }

  whenWritten(then: () => void): void {
    this.#writeWaiters.push({ writes: this.writes, then });
    this.commitTables();
    this.#wakeWriteWaiters();
  }

  #wakeWriteWaiters(): void {
    if (this.#writeWaiters.length === 0) return;
    const first = this.#firstPending();
    const ready = this.#writeWaiters.filter(({ writes }) => first > writes);
    this.#writeWaiters = this.#writeWaiters.filter(({ writes }) => first <= writes);
    for (const { then } of ready) then();
  }

  #firstPending(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const { number } of [...this.#collected, ...this.#kept.values()]) first = Math.min(first, number);
    for (const batch of this.#sent.values()) first = Math.min(first, batch.first);
    return first;
  }

  /** @param then called when all but filters, and what is guarded by them, has taken effect. */
  commitTables(then?: () => void): void {
    // An answer may come at once, and whoever hears of it may write.
    if (this.#committing) this.#commitAgain = true;
    else {
      this.#committing = true;
      do {
        this.#commitAgain = false;
        this.#commit();
      } while (this.#commitAgain);
      this.#committing = false;
    }
    if (!then) return;
    this.#waiters.push({ sequence: this.#lastSequence, then });
    this.#wakeWaiters();
  }

  #commit(): void {
    if (!this.#channel) return;
    for (const [entry, kept] of this.#kept) {
      if (this.#isGuarded(kept.write)) continue;
      this.#kept.delete(entry);
      this.#collected.push(kept);
    }
    const collected = this.#collected.splice(0);
    for (let first = 0; first < collected.length; ) {
      const end = endOfBatch(collected, first);
      const { offered } = collected[first] as Collected;
      const writes = collected.slice(first, end).map(({ write }) => write);
      this.#sendNew(writes, offered, false, Math.min(...collected.slice(first, end).map(({ number }) => number)));
      first = end;
    }
  }

  /** Queue of an entry; undefined: not written here lately. */
  written(entry: number): { readonly queue: number } | undefined {
    return this.#entries.get(entry);
  }

  place(entry: number, queue: number, guarded = false): void {
    this.#entries.set(entry, { queue, sequence: 0 });
    this.#collectGuarded({ op: "place", entry, queue }, guarded, false);
  }

  dropFilters(queue: number): void {
    for (const [key, filter] of this.#filters) if (filter.queue === queue) this.#forgetFilter(key);
    this.#collect({ op: "drop", queue });
  }

  #queueOfGroup(group: number): number | undefined {
    const written = this.#entries.get(this.#entryOf(group));
    if (!written) return this.#device.flowGroupQueue?.(group);
    return written.queue === QUEUE_NONE ? undefined : written.queue;
  }

  #moveGroup(group: number, queue: number | undefined, offered = false): void {
    const entry = this.#entryOf(group);
    const from = this.#queueOfGroup(group) ?? QUEUE_NONE;
    this.#entries.set(entry, { queue: queue ?? QUEUE_NONE, sequence: 0 });
    const write = { op: "group", group, entry, from, queue: queue ?? QUEUE_NONE } as const;
    this.#collectGuarded(write, offered, offered && queue !== undefined);
  }

  #entryOf(group: number): number {
    return this.#device.placement?.entryOfGroup?.(group) ?? ENTRY_NONE - 1 - group;
  }

  #setFilter(flow: ReplyTuple, queue: number): boolean {
    const { exactFilters, exactFiltersV6 } = this.capabilities;
    const key = filterKey(flow);
    if (!this.#filters.has(key) && this.#filters.size >= exactFilters) return false;
    if (exactFiltersV6 === false && !(isV4(flow.remote) && isV4(flow.local))) return false;
    const { remotePort, localPort } = flow;
    const own = { remote: flow.remote.slice(), remotePort, local: flow.local.slice(), localPort };
    const entry = this.#device.placement?.entryOf(own.remote, remotePort, own.local, localPort);
    this.#forgetFilter(key);
    const filter = { flow: own, queue, entry, sequence: 0 };
    this.#filters.set(key, filter);
    this.#unset.add(filter);
    this.#collect({ op: "set", flow: own, queue });
    return true;
  }

  #clearFilter(flow: ReplyTuple): void {
    if (!this.#forgetFilter(filterKey(flow))) return;
    this.#collect({ op: "clear", flow });
  }

  #forgetFilter(key: string): boolean {
    const filter = this.#filters.get(key);
    if (filter) this.#unset.delete(filter);
    return this.#filters.delete(key);
  }

  /** While an entry's filters are waited for, the packets of their flows still come by it: what follows waits too. */
  #collectGuarded(write: EntryWrite, guarded: boolean, offered: boolean): void {
    const { entry } = write;
    if (!this.#kept.has(entry) && !(guarded && this.#isGuarded(write))) {
      this.#collect(write, offered);
      return;
    }
    this.#kept.set(entry, { write, offered, number: this.#kept.get(entry)?.number ?? ++this.writes });
    this.#commitSoon();
  }

  /** Some flow of the entry is to stay with another queue, and its filter is not in effect yet. */
  #isGuarded({ entry, queue }: EntryWrite): boolean {
    for (const filter of this.#unset) if (filter.entry === entry && filter.queue !== queue) return true;
    return false;
  }

  #collect(write: TableWrite, offered = false): void {
    this.#commitSoon();
    this.#collected.push({ write, offered, number: ++this.writes });
  }

  #commitSoon(): void {
    if (this.#willCommit) return;
    this.#willCommit = true;
    queueMicrotask(() => {
      this.#willCommit = false;
      this.commitTables();
    });
  }

  /**
   * All filters, in as many batches as it takes; the last one says that this was all.
   * @param number of the first write that has not been answered, or of the last one.
   */
  #tellFilters(number: number): void {
    for (const filter of this.#filters.values()) this.#unset.add(filter);
    const filters = [...this.#filters.values()].map(({ flow, queue }) => ({ op: "set", flow, queue }) as const);
    const perBatch = Math.floor((BATCH_BYTES_MAX - WRITE_BATCH_BYTES) / 39);
    for (let first = 0; first === 0 || first < filters.length; first += perBatch) {
      this.#sendNew(filters.slice(first, first + perBatch), false, first + perBatch >= filters.length, number);
    }
  }

  #sendNew(writes: readonly TableWrite[], offered: boolean, complete: boolean, first: number): void {
    const sequence = ++this.#lastSequence;
    for (const write of writes) {
      const written = write.op === "set" ? this.#filters.get(filterKey(write.flow)) : this.#entryWritten(write);
      if (written) written.sequence = sequence;
    }
    this.#send({ sequence, first, offered, complete, writes });
  }

  #send(batch: Batch): void {
    this.#sent.set(batch.sequence, batch);
    const channel = this.#channel as WriteChannel;
    channel(encodeWriteBatch(batch), (payload) => {
      // An owner that is none any more has done it too; what counts is that the present one has.
      if (this.#channel === channel) this.#answered(payload);
    });
  }

  /** Not of a batch that is sent again: what has been written since is not undone, and filters have been told anew. */
  #counts(write: TableWrite, { sequence }: Batch): boolean {
    if (write.op === "set") return false;
    if (write.op === "clear") return !this.#filters.has(filterKey(write.flow));
    if (write.op === "drop") return ![...this.#filters.values()].some(({ queue }) => queue === write.queue);
    return !("entry" in write) || this.#entries.get(write.entry)?.sequence === sequence;
  }

  #entryWritten(write: TableWrite): { sequence: number } | undefined {
    return "entry" in write ? this.#entries.get(write.entry) : undefined;
  }

  #answered(payload: Uint8Array): void {
    const answer = decodeWriteAnswer(payload);
    const batch = answer && this.#sent.get(answer.sequence);
    if (!batch) return;
    this.#sent.delete(answer.sequence);
    for (const write of batch.writes) {
      if ("entry" in write && this.#entries.get(write.entry)?.sequence === answer.sequence) {
        this.#entries.delete(write.entry);
      }
    }
    const refused = this.#settleFilters(batch, new Set(answer.filters.map(filterKey)));
    const kept = this.#refuseKept(refused);
    if (answer.groups.length > 0) this.onGroupsRefused(answer.groups, "offer");
    if (kept.length > 0) this.onGroupsRefused(groupsOf(kept), "filters");
    if (refused.length > 0) this.onFiltersRefused(refused.map(({ flow }) => flow));
    if (this.#kept.size > 0) this.commitTables();
    this.#wakeWaiters();
    this.#wakeFilterWaiters();
    this.#wakeWriteWaiters();
  }

  /** @returns those refused, unless a later batch sets them again. */
  #settleFilters({ sequence, writes }: Batch, refusedKeys: ReadonlySet<string>): Filter[] {
    const refused: Filter[] = [];
    for (const write of writes) {
      const key = write.op === "set" ? filterKey(write.flow) : "";
      const filter = this.#filters.get(key);
      if (filter?.sequence !== sequence) continue;
      this.#unset.delete(filter);
      if (refusedKeys.has(key)) refused.push(filter);
    }
    for (const { flow } of refused) {
      this.#filters.delete(filterKey(flow));
    }
    this.filtersRefused += refused.length;
    return refused;
  }

  /** Writes that would leave one of these flows without its kernel are not made. @returns them. */
  #refuseKept(refused: readonly Filter[]): EntryWrite[] {
    const writes: EntryWrite[] = [];
    for (const { entry, queue } of refused) {
      const kept = entry === undefined ? undefined : this.#kept.get(entry)?.write;
      if (!kept || kept.queue === queue) continue;
      this.#kept.delete(kept.entry);
      this.#entries.delete(kept.entry);
      writes.push(kept);
    }
    return writes;
  }

  #wakeWaiters(): void {
    if (this.#waiters.length === 0) return;
    const awaited = [...this.#sent.values()].filter(({ writes }) => writes[0]?.op !== "set");
    const waitsForOwner = this.#collected.length > 0 && !this.#channel;
    const oldest = waitsForOwner ? 0 : Math.min(...awaited.map(({ sequence }) => sequence), Infinity);
    const ready = this.#waiters.filter(({ sequence }) => sequence < oldest);
    this.#waiters = this.#waiters.filter(({ sequence }) => sequence >= oldest);
    for (const { then } of ready) then();
  }
}

function groupsOf(writes: readonly EntryWrite[]): number[] {
  return writes.flatMap((write) => (write.op === "group" ? [write.group] : []));
}

class OwnedPlacement implements Placement {
  readonly entries: number;
  readonly place: Placement["place"];
  readonly entryOfGroup?: NonNullable<Placement["entryOfGroup"]>;
  readonly entryOfPorts?: NonNullable<Placement["entryOfPorts"]>;
  readonly dropFilters?: NonNullable<Placement["dropFilters"]>;
  readonly #placement: Placement;
  readonly #device: OwnedDevice;

  constructor(placement: Placement, device: OwnedDevice) {
    this.entries = placement.entries;
    this.#placement = placement;
    this.#device = device;
    this.place = (entry, queue, guarded) => device.place(entry, queue, guarded);
    if (placement.entryOfGroup) this.entryOfGroup = placement.entryOfGroup.bind(placement);
    if (placement.entryOfPorts) this.entryOfPorts = placement.entryOfPorts.bind(placement);
    if (placement.dropFilters) this.dropFilters = (queue) => device.dropFilters(queue);
  }

  queueOf(entry: number): number | undefined {
    const written = this.#device.written(entry);
    if (!written) return this.#placement.queueOf(entry);
    return written.queue === QUEUE_NONE ? undefined : written.queue;
  }

  entryOf(source: Uint8Array, sourcePort: number, destination: Uint8Array, destinationPort: number): number {
    return this.#placement.entryOf(source, sourcePort, destination, destinationPort);
  }
}

/** Offers stand alone, and filters that are set: nothing else waits for their answers. */
function endOfBatch(collected: readonly Collected[], first: number): number {
  const { offered, write } = collected[first] as Collected;
  let bytes = WRITE_BATCH_BYTES;
  let end = first;
  for (; end < collected.length; end++) {
    const { write: next, offered: also } = collected[end] as Collected;
    bytes += tableWriteBytes(next);
    if (also !== offered || (next.op === "set") !== (write.op === "set") || bytes > BATCH_BYTES_MAX) break;
  }
  return end;
}

function isV4(address: Uint8Array): boolean {
  return address[10] === 0xff && address[11] === 0xff && address.subarray(0, 10).every((byte) => byte === 0);
}
