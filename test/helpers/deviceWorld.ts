/** Kernels' controls around a device that is nothing but its tables; no kernel runs, and all goes by hand. */
import { Endpoint } from "../../src/control/endpoint.ts";
import { KernelControl } from "../../src/control/kernelControl.ts";
import { OwnedDevice } from "../../src/control/ownedDevice.ts";
import type { Member, View } from "../../src/control/view.ts";
import type { Device, DeviceCapabilities, Placement } from "../../src/device/device.ts";
import type { ReplyTuple } from "../../src/device/replySteering.ts";
import { tablesOf } from "../../src/device/tables.ts";
import { FilterBlocks } from "../../src/kernel/filterBlocks.ts";
import { MessageKernel } from "./messageKernels.ts";

export const WORLD_KERNELS = 4;
const ENTRIES = 8;
const GROUPS = 16;
export const WORLD_FILTERS = 40;

export const flowKey = ({ remotePort, localPort }: ReplyTuple): string => `${remotePort} ${localPort}`;
/** Remote ports of flows that are pinned; those of services are below. */
export const PINS_FIRST = 9000;
const groupOf = (key: string): number => Number.parseInt(key, 10) % GROUPS;
const remote = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 7, 0, 2);
const local = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 7, 0, 1);
export const flow = (remotePort: number, localPort: number): ReplyTuple => ({ remote, remotePort, local, localPort });

/** Entries 0..ENTRIES-1, then the groups; all of them name queue 0 at first. */
class TableDevice implements Device {
  readonly capabilities: DeviceCapabilities = {
    queues: WORLD_KERNELS,
    mtuBytes: 1500,
    checksumOffload: false,
    receiveCoalescing: false,
    tsoBytesMax: 0,
    steering: "card",
    retaEntries: ENTRIES,
    flowGroups: GROUPS,
    localPorts: { first: 32_768, last: 60_999 },
    exactFilters: WORLD_FILTERS,
  };
  readonly mac = new Uint8Array(6);
  readonly rxLanes = 1;
  readonly queueOfEntry = new Array<number>(ENTRIES + GROUPS).fill(0);
  readonly filterTable = new Map<string, { readonly flow: ReplyTuple; readonly queue: number }>();
  readonly placement: Placement = {
    entries: ENTRIES + GROUPS,
    queueOf: (entry) => this.queueOfEntry[entry],
    place: (entry, queue) => {
      this.queueOfEntry[entry] = queue;
    },
    entryOf: (_source, sourcePort) => ENTRIES + (sourcePort % GROUPS),
    entryOfGroup: (group) => ENTRIES + group,
    dropFilters: (queue) => {
      for (const [key, filter] of this.filterTable) if (filter.queue === queue) this.filterTable.delete(key);
    },
  };

  openPort(): never {
    throw new Error("no ports here");
  }

  describePort(): never {
    throw new Error("no ports here");
  }

  releaseQueue(): void {}

  flowGroupQueue(group: number): number | undefined {
    return this.queueOfEntry[ENTRIES + group];
  }

  /** Called before a group moves. */
  onMove: (group: number) => void = () => {};

  moveFlowGroup(group: number, queue: number | undefined): void {
    this.onMove(group);
    this.queueOfEntry[ENTRIES + group] = queue ?? 0;
  }

  setFilter(tuple: ReplyTuple, queue: number): boolean {
    if (!this.filterTable.has(flowKey(tuple)) && this.filterTable.size >= WORLD_FILTERS) return false;
    this.filterTable.set(flowKey(tuple), { flow: tuple, queue });
    return true;
  }

  clearFilter(tuple: ReplyTuple): void {
    this.filterTable.delete(flowKey(tuple));
  }

  filters() {
    return [...this.filterTable.values()];
  }

  queueFrames(): number[] {
    return [];
  }

  async close(): Promise<void> {}
}

export class WorldKernel {
  readonly control: KernelControl;
  readonly place: MessageKernel;
  readonly filters: FilterBlocks;
  readonly errors: string[] = [];
  granted = false;
  /** Handles of connections that have ended. */
  readonly #over = new Set<number>();
  #lastHandle = 0;

  constructor(kernelId: number, life: number, device: TableDevice) {
    this.place = new MessageKernel(kernelId, { kernels: WORLD_KERNELS, ringBytes: 4096, life });
    const { memory } = this.place;
    const onError = (error: unknown) => this.errors.push(String(error));
    const endpoint = new Endpoint({ kernelId, life, memory, onWork: () => {}, onError });
    this.control = new KernelControl({ endpoint, memory, drawPort: () => 40000, onError });
    const open = () => tablesOf(device);
    this.control.deviceOwner.provide({ terms: device.capabilities, open, stackWrites: true });
    this.filters = new FilterBlocks({
      queue: kernelId,
      line: this.control,
      settle: () => {},
      nowNs: () => 0,
      timeWaitMs: 0,
      isOver: (handle) => this.#over.has(handle),
    });
    this.control.onReclaim(() => this.filters.reclaim());
    this.control.device.onRecall = () => this.filters.giveBack(0);
  }

  get member(): Member {
    const { kernelId, life } = this.control.endpoint;
    return { kernelId, life, memory: this.place.memory.memory };
  }

  /** As a kernel does at its start, when it has its first view. */
  start(): void {
    void this.control.device.acquire().then(() => {
      this.granted = true;
      this.control.device.confirm();
    });
  }

  /** Filters for connections to the service `remotePort`: ports that no other kernel uses. */
  ask(remotePort: number, count: number): void {
    const service = this.filters.open(remote, remotePort, local, 0);
    const { kernelId } = this.control.endpoint;
    const free = Array.from({ length: 64 }, (_, i) => i * WORLD_KERNELS + kernelId + 1000);
    const ports = free.filter((port) => !this.filters.has(service, port)).slice(0, count);
    if (ports.length > 0) this.filters.ask(service, ports, true);
  }

  /** A connection takes the first port that is ready, if there is one. */
  use(remotePort: number): void {
    const service = this.filters.find(remote, remotePort, local);
    const port = service?.ready[0];
    if (service && port !== undefined) this.filters.use(service, port, ++this.#lastHandle, 0);
  }

  /** The oldest connection to the service ends. */
  end(remotePort: number): void {
    for (const { handle } of this.filters.find(remote, remotePort, local)?.used.values() ?? []) {
      if (this.#over.has(handle)) continue;
      this.#over.add(handle);
      return;
    }
  }

  /** Filters with a connection. */
  isUsed({ remotePort, localPort }: ReplyTuple): boolean {
    const use = this.filters.find(remote, remotePort, local)?.used.get(localPort);
    return use !== undefined && !this.#over.has(use.handle);
  }

  /** Ports of all services that have a filter, as this kernel believes. */
  held(remotePorts: readonly number[]): string[] {
    return remotePorts.flatMap((remotePort) => {
      const service = this.filters.find(remote, remotePort, local);
      const ports = service ? [...service.ready, ...service.used.keys()] : [];
      return ports.map((localPort) => flowKey(flow(remotePort, localPort)));
    });
  }
}

/** A flow that the stack wants to keep in a kernel. */
type Pin = { readonly queue: number };

/** The table at the moment of a refusal. */
type Refusal = { readonly filters: number; readonly unused: number };

export class DeviceWorld {
  readonly device = new TableDevice();
  readonly owned = new OwnedDevice(this.device);
  readonly kernels: (WorldKernel | undefined)[] = [];
  readonly lives = new Array<number>(WORLD_KERNELS).fill(0);
  #view: View = { term: 0, owner: 0, ownerSince: 0, members: [], former: [] };
  #line: WorldKernel | undefined;
  /** By flowKey. */
  readonly pins = new Map<string, Pin>();
  readonly refusals: Refusal[] = [];
  /** Pins that must be in effect before the group moves as it was told last. */
  readonly #guards = new Map<number, readonly (readonly [string, Pin])[]>();
  /** What has gone wrong on the way. */
  readonly faults: string[] = [];

  constructor() {
    this.owned.onGroupsRefused = () => this.#rehome();
    this.owned.onFiltersRefused = (flows) => this.#refused(flows);
    this.device.onMove = (group) => this.#moved(group);
    for (let id = 0; id < WORLD_KERNELS; id++) this.kernels.push(new WorldKernel(id, 0, this.device));
    this.announce(() => true);
    for (const kernel of this.kernels) kernel?.start();
  }

  /** As the balancer does for a connection whose group is about to move. */
  pin(tuple: ReplyTuple, queue: number): void {
    if (this.owned.setFilter?.(tuple, queue)) this.pins.set(flowKey(tuple), { queue });
  }

  unpin(tuple: ReplyTuple): void {
    this.owned.clearFilter?.(tuple);
    this.pins.delete(flowKey(tuple));
  }

  offer(group: number, queue: number): void {
    const guards = [...this.pins].filter(([key, pin]) => groupOf(key) === group && pin.queue !== queue);
    // An earlier move that is still under way has had nothing to wait for.
    if (this.owned.written(ENTRIES + group)) this.#guards.delete(group);
    else this.#guards.set(group, guards);
    this.owned.moveFlowGroup?.(group, queue, true);
  }

  #moved(group: number): void {
    for (const [key, pin] of this.#guards.get(group) ?? []) {
      const isSet = this.device.filterTable.get(key)?.queue === pin.queue;
      // What has been pinned anew since is no guard of this move.
      if (this.pins.get(key) === pin && !isSet) this.faults.push(`group ${group} moves without the pin ${key}`);
    }
    this.#guards.delete(group);
  }

  #refused(flows: readonly ReplyTuple[]): void {
    for (const tuple of flows) this.pins.delete(flowKey(tuple));
    const filters = [...this.device.filterTable.values()];
    const isLease = (tuple: ReplyTuple) => tuple.remotePort < PINS_FIRST;
    const unused = filters.filter(({ flow: lease, queue }) => isLease(lease) && !this.kernels[queue]?.isUsed(lease));
    this.refusals.push({ filters: filters.length, unused: unused.length });
  }

  get ownerId(): number {
    return this.#view.owner;
  }

  get owner(): WorldKernel | undefined {
    return this.kernels[this.#view.owner];
  }

  /** A new view. @param hears which kernels hear of it now; the others do with the next. */
  announce(hears: (id: number) => boolean): void {
    const members = this.kernels.flatMap((kernel) => (kernel ? [kernel.member] : []));
    const present = members.map(({ kernelId }) => kernelId);
    const { owner: last, ownerSince: since, members: before } = this.#view;
    const term = this.#view.term + 1;
    const lifeOf = (all: readonly Member[], id: number) => all.find(({ kernelId }) => kernelId === id)?.life;
    const lives = (id: number) => present.includes(id) && lifeOf(before, id) === lifeOf(members, id);
    const stays = lives(last);
    const owner = stays ? last : (present[0] ?? last);
    const former = [...new Set([...this.#view.former, last])].filter((id) => id !== owner && lives(id));
    this.#view = { term, owner, ownerSince: stays ? since : term, members, former };
    this.tell(hears);
    this.#attach();
  }

  /** Another kernel is to be the owner, although this one lives: it leaves. */
  abdicate(hears: (id: number) => boolean): void {
    const others = this.kernels.flatMap((kernel, id) => (kernel && id !== this.#view.owner ? [id] : []));
    if (others[0] === undefined) return;
    const [owner] = others;
    const term = this.#view.term + 1;
    const former = [...new Set([...this.#view.former, this.#view.owner])].filter((id) => id !== owner);
    this.#view = { ...this.#view, term, owner, ownerSince: term, former };
    this.tell(hears);
    this.#attach();
  }

  tell(hears: (id: number) => boolean): void {
    for (const [id, kernel] of this.kernels.entries()) if (hears(id)) kernel?.control.setView(this.#view, () => {});
  }

  /** The stack tells the owner's thread of the view before it writes. */
  #attach(): void {
    const { owner } = this;
    owner?.control.setView(this.#view, () => {});
    if (owner === this.#line) return;
    this.#line = owner;
    this.owned.attach(owner && ((payload, written) => owner.control.deviceOwner.write(payload, written)));
  }

  kill(id: number, hears: (id: number) => boolean): void {
    if (this.kernels.filter((kernel) => kernel).length < 2 || !this.kernels[id]) return;
    this.kernels[id]?.place.memory.fence();
    this.kernels[id] = undefined;
    this.owned.placement?.dropFilters?.(id);
    for (const [key, { queue }] of this.pins) if (queue === id) this.pins.delete(key);
    this.#rehome();
    this.announce(hears);
    this.owned.commitTables();
  }

  /** As Rehoming does. */
  #rehome(): void {
    const { placement } = this.owned;
    const standIn = this.kernels.findIndex((kernel) => kernel);
    for (let entry = 0; placement && entry < placement.entries; entry++) {
      if (!this.kernels[placement.queueOf(entry) ?? standIn]) placement.place(entry, standIn);
    }
  }

  revive(id: number, hears: (id: number) => boolean): void {
    if (this.kernels[id]) return;
    this.lives[id] = (this.lives[id] as number) + 1;
    const kernel = new WorldKernel(id, this.lives[id] as number, this.device);
    this.kernels[id] = kernel;
    this.announce((other) => other === id || hears(other));
    kernel.start();
  }

  async poll(id: number, budget?: number): Promise<number> {
    const endpoint = this.kernels[id]?.control.endpoint;
    const handled = endpoint?.poll(budget) ?? 0;
    endpoint?.flush();
    await Promise.resolve();
    return handled;
  }

  async settle(): Promise<void> {
    this.tell(() => true);
    this.owned.commitTables();
    for (let quiet = 0; quiet < 3; ) {
      let handled = 0;
      for (let id = 0; id < WORLD_KERNELS; id++) handled += await this.poll(id);
      await new Promise((resolve) => setImmediate(resolve));
      quiet = handled > 0 ? 0 : quiet + 1;
    }
  }
}
