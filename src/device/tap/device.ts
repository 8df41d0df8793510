/**
 * A multi-queue TAP device of Linux: one queue per kernel, steered by a program of ours, frames with a virtio header.
 * The owner opens all queues on one thread; ports drive them from any thread.
 *
 * A device that this process creates is not persistent: the host removes it when the process ends, however it ends.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { hostname } from "node:os";
import { checkKind, checkOptions, type Shape } from "../../checks.ts";
import { NetPopcornError } from "../../errors.ts";
import { parseCidr } from "../../ip/address.ts";
import { FLOW_GROUPS } from "../../layout/flowGroup.ts";
import { FRAME_BYTES_MAX } from "../../layout/frameRing.ts";
import { KernelMemory } from "../../views/kernelMemory.ts";
import type {
  Device,
  DeviceCapabilities,
  DevicePort,
  PlacedFilter,
  Placement,
  PortDescription,
  QueuePair,
} from "../device.ts";
import { LOCAL_PORTS_DEFAULT } from "../flowGroups.ts";
import type { ReplyTuple } from "../replySteering.ts";
import { FILTERS_MAX, flowGroupOf, type PortRange, queueLookup, SteeringTable } from "./ebpf.ts";
import {
  hostError,
  IFREQ_VALUE,
  INTERFACE_NAME_BYTES_MAX,
  interfaceRequest,
  NetworkInterface,
  requestBytes,
} from "./interface.ts";
import {
  openTapPort,
  STAT_CLOSED,
  STAT_LENT_TO,
  STAT_LOANS_VERSION,
  STAT_RX_BYTES,
  STAT_RX_ERRORS,
  STAT_RX_FRAMES,
  STAT_TX_BYTES,
  STAT_TX_ERRORS,
  STAT_TX_FRAMES,
  TAP_STATISTICS_SLOTS,
  type TapPortDescriptor,
} from "./port.ts";
import { Mailbox } from "./relay.ts";
import * as LINUX from "./syscalls.ts";
import { loadSyscalls, type Syscalls } from "./syscalls.ts";
import type { TapTablesDescriptor } from "./tables.ts";
import { Waker } from "./waker.ts";

const TUN_PATH = "/dev/net/tun";
const TUNSETIFF = 0x400454ca;
const TUNGETIFF = 0x800454d2;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const TUNSETSTEERINGEBPF = 0x800454e0;
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_PERSIST = 0x0800;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 1;
const TUN_F_TSO4 = 2;
const VNET_HEADER_BYTES = 12;
/** MAX_TAP_QUEUES of the Linux driver is 256, and one is the relay's. */
const QUEUES_MAX = 255;
/** Limits of the Linux driver: the MTU of IPv4 hosts (RFC 791), and 65535 less an Ethernet header. */
const MTU_BYTES_MIN = 576;
const MTU_BYTES_MAX = 65521;
const ETHERNET_BYTES = 14;
const VLAN_TAG_BYTES = 4;
/** Payload of the largest IPv4 packet with the longest TCP header and no IP options. */
const TSO_BYTES_MAX = 65535 - 20 - 60;

/** Options of openTap(). */
export type TapOptions = {
  /** Interface name, 1..15 bytes; the host numbers `%d`. A device of that name is taken, otherwise created. */
  readonly name: string;
  /** Queues, 1..255: one for each kernel. */
  readonly queues: number;
  /** 576..65521. @default what a taken device has, 1500 for a new one */
  readonly mtuBytes?: number;
  /** Exchange checksum-less and TSO frames of up to 64 KiB with the host. @default true */
  readonly offload?: boolean;
  /** Our Ethernet address (the host's end has its own), 6 bytes. @default made from host name and device name */
  readonly mac?: Uint8Array;
  /** Address for the host's end of the interface in CIDR form, e.g. "10.7.0.1/24". @default none is set */
  readonly hostAddress?: string | readonly string[];
  /** Network namespace in which the device is to be: a name from `ip netns`, or the path of a namespace file. */
  readonly netns?: string;
  /** Own ports that have a part in the flow group, best those of connect(). @default 32768..60999 */
  readonly localPorts?: PortRange;
  /** Groups in which packets are steered (docs/tap.md): a power of two. @default 4096 */
  readonly flowGroups?: number;
};

/** Numbers since opening, all queues together and each alone. */
export type TapStatistics = {
  readonly rxFrames: number;
  readonly rxBytes: number;
  readonly rxErrors: number;
  readonly txFrames: number;
  readonly txBytes: number;
  readonly txErrors: number;
};

/** A TAP interface of Linux. Made by openTap(). */
export interface TapDevice extends Device {
  /** Name of the interface on the host. */
  readonly name: string;
  /** Why packets are steered by learning and not by our program; undefined when they are. */
  readonly steeringRefusal: string | undefined;
  /** The statistics of one queue. */
  statistics(queue: number): TapStatistics;
  /** Queue of a flow group, 0..4095; undefined where the host steers by itself. */
  flowGroupQueue(group: number): number | undefined;
  /** Sends the next packets of a flow group to `queue`. @throws NetPopcornError EOPNOTSUPP, EINVAL. */
  moveFlowGroup(group: number, queue: number): void;
}

/**
 * Opens a TAP device, or takes an existing one.
 * @throws NetPopcornError EPERM, ENODEV (no /dev/net/tun, no such namespace), EBUSY (another program has the name),
 *   EINVAL (the device is not multi-queue, and more than one queue is wanted), ERR_OPTION_RANGE, ERR_ADDRESS_FORMAT,
 *   ERR_KOFFI_MISSING, ERR_PLATFORM.
 */
export async function openTap(options: TapOptions): Promise<TapDevice> {
  checkOptions("openTap", options, OPTIONS);
  checkKind("option name of openTap", "text", options.name);
  checkTapOptions(options);
  const syscalls = loadSyscalls();
  const queueFds: number[] = [];
  let steering: Steering = {};
  try {
    steering = loadSteering(syscalls, options);
    // The relay's queue comes after those of the kernels.
    const count = options.queues + (steering.table ? 1 : 0);
    // A thread is in one namespace at a time, so what happens there happens without giving way. The waker is started
    // outside: a new thread would inherit the namespace and keep it alive.
    const link = inNamespace(syscalls, options.netns, () => openQueues(syscalls, options, count, queueFds));
    steering = attachSteering(syscalls, steering, queueFds);
    return new LinuxTap(syscalls, options, { ...link, queueFds, steering });
  } catch (error) {
    for (const fd of queueFds) syscalls.close(fd);
    steering.table?.close();
    throw error;
  }
}

/** Who places packets: our program, or the host for the reason given, or neither with one queue. */
type Steering = { readonly table?: SteeringTable; readonly refusal?: string };

function loadSteering(syscalls: Syscalls, { flowGroups, localPorts, queues }: TapOptions): Steering {
  if (queues === 1) return {};
  const table = SteeringTable.load(syscalls, {
    queues,
    localPorts: localPorts ?? LOCAL_PORTS_DEFAULT,
    flowGroups: flowGroups ?? FLOW_GROUPS,
  });
  if (typeof table === "object") return { table };
  return { refusal: `bpf(2) is refused with errno ${-table}; it needs root or CAP_BPF` };
}

function attachSteering(syscalls: Syscalls, steering: Steering, queueFds: number[]): Steering {
  const { table } = steering;
  if (table === undefined) return steering;
  const programFd = new Uint8Array(new ArrayBuffer(4));
  new DataView(programFd.buffer).setInt32(0, table.programFd, true);
  const status = syscalls.ioctl(queueFds[0] as number, TUNSETSTEERINGEBPF, programFd);
  if (status >= 0) return steering;
  table.close();
  syscalls.close(queueFds.pop() as number);
  return { refusal: `the TAP driver refuses a steering program with errno ${-status}` };
}

function openQueues(
  syscalls: Syscalls,
  options: TapOptions,
  count: number,
  queueFds: number[],
): { readonly name: string; readonly mtuBytes: number } {
  const offload = options.offload ?? true;
  const existed = interfaceExists(syscalls, options.name);
  let name = options.name;
  for (let queue = 0; queue < count; queue += 1) {
    // One queue is all that a device has which was made without multi_queue.
    name = openQueue(syscalls, name, { offload, single: existed && options.queues === 1 }, queueFds);
  }
  if (existed) requireSoleUse(syscalls, name, queueFds);
  const link = new NetworkInterface(syscalls, name);
  try {
    if (!existed) link.raiseQueueLength();
    if (options.mtuBytes !== undefined && options.mtuBytes !== link.mtuBytes()) link.setMtu(options.mtuBytes);
    for (const text of [options.hostAddress ?? []].flat()) link.setAddress(parseCidr(text));
    link.bringUp();
    return { name, mtuBytes: link.mtuBytes() };
  } finally {
    link.close();
  }
}

function interfaceExists(syscalls: Syscalls, name: string): boolean {
  const link = new NetworkInterface(syscalls, name);
  const exists = link.index() !== 0;
  link.close();
  return exists;
}

type QueueTerms = {
  readonly offload: boolean;
  /** The device may be one without multi_queue. */
  readonly single: boolean;
};

/** Opens one more queue of `name`. @returns the name that the host has given. */
function openQueue(syscalls: Syscalls, name: string, { offload, single }: QueueTerms, queueFds: number[]): string {
  const fd = syscalls.open(TUN_PATH, LINUX.O_RDWR | LINUX.O_NONBLOCK | LINUX.O_CLOEXEC);
  if (fd < 0) throw openError(fd);
  queueFds.push(fd);
  const request = interfaceRequest(name);
  const attach = (flags: number): number => {
    request.setUint16(IFREQ_VALUE, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags, true);
    return syscalls.ioctl(fd, TUNSETIFF, requestBytes(request));
  };
  let status = attach(IFF_MULTI_QUEUE);
  if (status === -LINUX.EINVAL && single) status = attach(0);
  if (status < 0) throw attachError(name, status);
  const headerBytes = new Uint8Array(new ArrayBuffer(4));
  headerBytes[0] = VNET_HEADER_BYTES;
  const header = syscalls.ioctl(fd, TUNSETVNETHDRSZ, headerBytes);
  if (header < 0) throw hostError(`set the virtio header size of ${name}`, header);
  const offloads = syscalls.ioctlValue(fd, TUNSETOFFLOAD, offload ? TUN_F_CSUM | TUN_F_TSO4 : 0);
  if (offloads < 0) throw hostError(`set the offloads of ${name}`, offloads);
  const bytes = requestBytes(request).subarray(0, IFREQ_VALUE);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

function openError(status: number): NetPopcornError {
  if (status === -LINUX.EPERM || status === -LINUX.EACCES) return hostError(`open ${TUN_PATH}`, status);
  if (status === -LINUX.ENOENT || status === -LINUX.ENODEV || status === -LINUX.ENXIO) {
    return new NetPopcornError(
      "ENODEV",
      `no ${TUN_PATH}: load the driver (modprobe tun); in a container, start it with --device ${TUN_PATH}`,
      { errno: status },
    );
  }
  return hostError(`open ${TUN_PATH}`, status);
}

function attachError(name: string, status: number): NetPopcornError {
  if (status === -LINUX.EBUSY) return busyError(name, status);
  if (status === -LINUX.EINVAL) {
    return new NetPopcornError(
      "EINVAL",
      `${name} exists but is no multi-queue TAP device: make it again with ip tuntap add dev ${name} mode tap ` +
        "multi_queue, or take its one queue and steer in software (steerInSoftware, serve --steer software)",
      { errno: status },
    );
  }
  return hostError(`attach to ${name}`, status);
}

function busyError(name: string, errno: number): NetPopcornError {
  return new NetPopcornError("EBUSY", `${name} is in use by another program: end it or choose another name`, { errno });
}

/** Linux lets several programs hold queues of one device and would spread the packets over all of them. */
function requireSoleUse(syscalls: Syscalls, name: string, queueFds: readonly number[]): void {
  const request = interfaceRequest(name);
  const status = syscalls.ioctl(queueFds[0] as number, TUNGETIFF, requestBytes(request));
  if (status < 0) throw hostError(`read the flags of ${name}`, status);
  // A device that is not persistent exists only as long as somebody has it open.
  if ((request.getUint16(IFREQ_VALUE, true) & IFF_PERSIST) === 0) throw busyError(name, -LINUX.EBUSY);
  // For a persistent one count the queues attached, where this thread's /sys shows this namespace.
  const path = `/sys/class/net/${name}/queues`;
  if (!existsSync(path)) return;
  const attached = readdirSync(path).filter((entry) => entry.startsWith("tx-")).length;
  if (attached > queueFds.length) throw busyError(name, -LINUX.EBUSY);
}

/** Runs `action` with this thread in another network namespace. */
function inNamespace<Result>(syscalls: Syscalls, netns: string | undefined, action: () => Result): Result {
  if (netns === undefined) return action();
  const path = netns.includes("/") ? netns : `/run/netns/${netns}`;
  const home = syscalls.open("/proc/thread-self/ns/net", LINUX.O_CLOEXEC);
  if (home < 0) throw hostError("open this thread's network namespace", home);
  const there = syscalls.open(path, LINUX.O_CLOEXEC);
  try {
    if (there === -LINUX.ENOENT) {
      throw new NetPopcornError("ENODEV", `no network namespace ${path}; make it with ip netns add`, { errno: there });
    }
    if (there < 0) throw hostError(`open the network namespace ${path}`, there);
    enterNamespace(syscalls, there, path);
    try {
      return action();
    } finally {
      enterNamespace(syscalls, home, "this thread came from");
    }
  } finally {
    syscalls.close(home);
    if (there >= 0) syscalls.close(there);
  }
}

function enterNamespace(syscalls: Syscalls, fd: number, which: string): void {
  const status = syscalls.setNetworkNamespace(fd);
  if (status < 0) throw hostError(`enter the network namespace ${which}`, status);
}

function isPowerOfTwo(count: number): boolean {
  return (count & (count - 1)) === 0;
}

const OPTIONS: Shape<TapOptions> = {
  name: "text",
  queues: "any",
  mtuBytes: "any",
  offload: "boolean",
  mac: "bytes",
  hostAddress: "texts",
  netns: "text",
  localPorts: "object",
  flowGroups: "any",
};

function checkTapOptions({ name, queues, mtuBytes, mac, localPorts, flowGroups, hostAddress }: TapOptions): void {
  const refuse = (text: string): never => {
    throw new NetPopcornError("ERR_OPTION_RANGE", text);
  };
  if (!/^[^\s/:]+$/.test(name) || Buffer.byteLength(name) > INTERFACE_NAME_BYTES_MAX || name === "." || name === "..") {
    refuse(
      `name must be 1..${INTERFACE_NAME_BYTES_MAX} bytes without space, slash or colon, not ${JSON.stringify(name)}`,
    );
  }
  if (!Number.isInteger(queues) || queues < 1 || queues > QUEUES_MAX) {
    refuse(`queues must be 1..${QUEUES_MAX}, not ${queues}`);
  }
  if (
    mtuBytes !== undefined &&
    !(Number.isInteger(mtuBytes) && mtuBytes >= MTU_BYTES_MIN && mtuBytes <= MTU_BYTES_MAX)
  ) {
    refuse(`mtuBytes must be ${MTU_BYTES_MIN}..${MTU_BYTES_MAX}, not ${mtuBytes}`);
  }
  if (mac !== undefined && (mac.length !== 6 || ((mac[0] as number) & 1) !== 0)) {
    refuse("mac must be 6 bytes and not a group address (lowest bit of the first byte 0)");
  }
  if (
    localPorts !== undefined &&
    !(localPorts.first >= 1 && localPorts.first <= localPorts.last && localPorts.last < 65536)
  ) {
    refuse(`localPorts must be a range within 1..65535, not ${localPorts.first}..${localPorts.last}`);
  }
  if (
    flowGroups !== undefined &&
    !(Number.isInteger(flowGroups) && flowGroups >= 1 && flowGroups <= FLOW_GROUPS && isPowerOfTwo(flowGroups))
  ) {
    refuse(`flowGroups must be a power of two up to ${FLOW_GROUPS}, not ${flowGroups}`);
  }
  for (const text of [hostAddress ?? []].flat()) parseCidr(text);
}

type Opened = {
  readonly name: string;
  readonly mtuBytes: number;
  /** Of the kernels' queues and, with our steering, of the relay's. */
  readonly queueFds: readonly number[];
  readonly steering: Steering;
};

/** A kernel's memory, and how to wake it from the opener's thread. */
type QueueOwner = { readonly memory: WebAssembly.Memory; readonly ring: () => void };

class LinuxTap implements TapDevice {
  readonly capabilities: DeviceCapabilities;
  readonly mac: Uint8Array;
  readonly rxLanes = 1;
  readonly queueFor?: NonNullable<Device["queueFor"]>;
  readonly placement?: Placement;
  readonly name: string;
  readonly steeringRefusal: string | undefined;
  readonly #syscalls: Syscalls;
  /** Of the kernels' queues. */
  readonly #queueFds: readonly number[];
  readonly #tokens: readonly number[];
  readonly #relay: { readonly fd: number; readonly token: number } | undefined;
  readonly #mailboxes: readonly SharedArrayBuffer[];
  readonly #waker: Waker;
  /** Whom to wake for each queue, by its kernel. */
  readonly #owners: (QueueOwner | undefined)[];
  readonly #table: SteeringTable | undefined;
  readonly #frameBytesMax: number;
  readonly #statistics: SharedArrayBuffer;
  #closed: Promise<void> | undefined;

  constructor(syscalls: Syscalls, options: TapOptions, { name, mtuBytes, queueFds, steering }: Opened) {
    const offload = options.offload ?? true;
    const { queues } = options;
    this.#syscalls = syscalls;
    this.#queueFds = queueFds.slice(0, queues);
    this.#frameBytesMax = offload ? FRAME_BYTES_MAX : mtuBytes + ETHERNET_BYTES + VLAN_TAG_BYTES;
    this.#statistics = new SharedArrayBuffer(8 * TAP_STATISTICS_SLOTS * queues);
    this.name = name;
    this.mac = options.mac?.slice() ?? defaultMac(name);
    this.#table = steering.table;
    this.steeringRefusal = steering.refusal;
    if (this.#table) {
      this.queueFor = queueLookup(this.#table.view);
    } else if (queues === 1) {
      this.queueFor = () => 0;
    }
    this.capabilities = {
      queues,
      mtuBytes,
      checksumOffload: offload,
      receiveCoalescing: offload,
      tsoBytesMax: offload ? TSO_BYTES_MAX : 0,
      steering: queues === 1 ? "none" : this.#table ? "ebpf" : "learned",
      retaEntries: 0,
      flowGroups: this.#table?.view.flowGroups ?? 0,
      ...(this.#table && { localPorts: this.#table.view.localPorts }),
      exactFilters: this.#table ? FILTERS_MAX : 0,
      exactFiltersV6: false,
    };
    if (this.#table)
      this.placement = new GroupPlacement(this.#table, (group, queue) => this.moveFlowGroup(group, queue));
    this.#owners = new Array(queues).fill(undefined);
    this.#waker = Waker.acquire();
    this.#tokens = this.#queueFds.map((fd) => this.#waker.add(fd));
    const relayFd = queueFds[queues];
    this.#mailboxes = relayFd === undefined ? [] : this.#queueFds.map(() => new Mailbox().buffer);
    this.#relay = relayFd === undefined ? undefined : { fd: relayFd, token: this.#addRelay(relayFd) };
  }

  openPort(queue: number, pair: QueuePair): DevicePort {
    const descriptor = this.#descriptor(queue);
    this.#own(queue, { memory: pair.memory, ring: () => pair.ring() });
    return openTapPort(descriptor, pair);
  }

  describePort(queue: number, memory: WebAssembly.Memory): PortDescription {
    const descriptor = this.#descriptor(queue);
    const kernel = new KernelMemory(memory);
    this.#own(queue, { memory, ring: () => kernel.ringDoorbell() });
    return { descriptor, transfer: [] };
  }

  /** The host knows nothing of kernels: frames wait in its queue for the next, or for a port that it is lent to. */
  releaseQueue(queue: number): void {
    this.#requireQueue(queue);
    this.#owners[queue] = undefined;
  }

  lendQueue(queue: number, to: number | undefined): void {
    this.#requireQueue(queue);
    const before = (this.#slots(queue)[STAT_LENT_TO] as number) - 1;
    this.#slots(queue)[STAT_LENT_TO] = (to ?? -1) + 1;
    for (const borrower of [before, to ?? -1]) {
      if (borrower < 0) continue;
      const slots = this.#slots(borrower);
      slots[STAT_LOANS_VERSION] = (slots[STAT_LOANS_VERSION] as number) + 1;
    }
    this.#wake(queue, this.#owners[to ?? queue]);
    // It may be asleep, and does not wait for this queue yet.
    this.#owners[to ?? queue]?.ring();
  }

  queueFrames(): number[] {
    return this.#queueFds.map((_, queue) => this.statistics(queue).rxFrames);
  }

  statistics(queue: number): TapStatistics {
    const slots = this.#slots(queue);
    return {
      rxFrames: slots[STAT_RX_FRAMES] as number,
      rxBytes: slots[STAT_RX_BYTES] as number,
      rxErrors: slots[STAT_RX_ERRORS] as number,
      txFrames: slots[STAT_TX_FRAMES] as number,
      txBytes: slots[STAT_TX_BYTES] as number,
      txErrors: slots[STAT_TX_ERRORS] as number,
    };
  }

  flowGroupQueue(group: number): number | undefined {
    return this.#table?.get(group);
  }

  moveFlowGroup(group: number, queue: number): void {
    const groups = this.#table?.view.flowGroups ?? FLOW_GROUPS;
    if (!(Number.isInteger(group) && group >= 0 && group < groups)) {
      throw new NetPopcornError("EINVAL", `flow group must be 0..${groups - 1}, not ${group}`);
    }
    this.#requireQueue(queue);
    if (!this.#table) {
      throw new NetPopcornError(
        "EOPNOTSUPP",
        `${this.name} is not steered by us: ${this.steeringRefusal ?? "one queue"}`,
      );
    }
    const status = this.#table.set(group, queue);
    if (status < 0) throw hostError(`move flow group ${group} of ${this.name}`, status);
  }

  setFilter(flow: ReplyTuple, queue: number): boolean {
    this.#requireQueue(queue);
    return this.#table?.setFilter(flow, queue) ?? false;
  }

  clearFilter(flow: ReplyTuple): void {
    this.#table?.clearFilter(flow);
  }

  filters(): PlacedFilter[] {
    return this.#table?.filters() ?? [];
  }

  describeTables(): TapTablesDescriptor | undefined {
    if (!this.#table) return undefined;
    const { maps, view } = this.#table;
    return { kind: "tap", name: this.name, maps, view };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    for (let queue = 0; queue < this.#queueFds.length; queue += 1) this.#slots(queue)[STAT_CLOSED] = 1;
    this.#queueFds.forEach((fd, queue) => {
      this.#waker.remove(fd, this.#tokens[queue] as number);
    });
    if (this.#relay) this.#waker.remove(this.#relay.fd, this.#relay.token);
    await this.#waker.release();
    // The last descriptor to go removes a device that we created.
    for (const fd of this.#queueFds) this.#syscalls.close(fd);
    if (this.#relay) this.#syscalls.close(this.#relay.fd);
    this.#table?.close();
  }

  #own(queue: number, owner: QueueOwner): void {
    this.#owners[queue] = owner;
    // Until it is given back, a lent queue wakes the borrower.
    if (this.#slots(queue)[STAT_LENT_TO] === 0) this.#wake(queue, owner);
  }

  #wake(queue: number, owner: QueueOwner | undefined): void {
    if (owner) this.#waker.connect(this.#tokens[queue] as number, owner.memory, owner.ring);
  }

  #addRelay(fd: number): number {
    return this.#waker.addRelay(fd, this.#mailboxes, this.#tokens);
  }

  #descriptor(queue: number): TapPortDescriptor {
    if (this.#closed) throw new NetPopcornError("EBADF", `the device ${this.name} is closed; open it again`);
    this.#requireQueue(queue);
    return {
      kind: "tap",
      queue,
      queueFds: this.#queueFds,
      epollFd: this.#waker.epollFd,
      tokens: this.#tokens,
      frameBytesMax: this.#frameBytesMax,
      statistics: this.#statistics,
      queues: this.#queueFds.length,
      steering: this.#table?.view,
      mailbox: this.#mailboxes[queue],
    };
  }

  #slots(queue: number): Float64Array {
    this.#requireQueue(queue);
    const from = queue * TAP_STATISTICS_SLOTS;
    return new Float64Array(this.#statistics).subarray(from, from + TAP_STATISTICS_SLOTS);
  }

  #requireQueue(queue: number): void {
    if (this.#queueFds[queue] === undefined) {
      throw new NetPopcornError("EINVAL", `${this.name} has the queues 0..${this.#queueFds.length - 1}, not ${queue}`);
    }
  }
}

/** The table of flow groups as a placement. */
class GroupPlacement implements Placement {
  readonly entries: number;
  readonly #table: SteeringTable;
  readonly place: Placement["place"];

  constructor(table: SteeringTable, place: Placement["place"]) {
    this.entries = table.view.flowGroups;
    this.#table = table;
    this.place = place;
  }

  queueOf(group: number): number {
    return this.#table.get(group);
  }

  entryOfGroup(group: number): number {
    return group;
  }

  dropFilters(queue: number): void {
    this.#table.dropFilters(queue);
  }

  entryOf(_source: Uint8Array, sourcePort: number, _destination: Uint8Array, destinationPort: number): number {
    return this.entryOfPorts(sourcePort, destinationPort);
  }

  entryOfPorts(sourcePort: number, destinationPort: number): number {
    return flowGroupOf(sourcePort, destinationPort, this.#table.view);
  }
}

/** Locally administered, the same at each start, so that the host's neighbour cache stays right. */
function defaultMac(name: string): Uint8Array {
  const mac = Uint8Array.from(createHash("sha256").update(`${hostname()} ${name}`).digest().subarray(0, 6));
  mac[0] = ((mac[0] as number) & 0xfc) | 2;
  return mac;
}
