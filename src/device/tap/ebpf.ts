/**
 * Steering by a program of ours in the host's kernel: which TAP queue a frame goes to is looked up in a table of
 * 4,096 flow groups. The table is a BPF array map, so a flow group moves with one map update. Single TCP flows over
 * IPv4 can be kept apart from their group by exact filters, in a BPF hash map; an entry of the table says whether its
 * group has any, so that the others do not pay for a look-up.
 *
 * The group is 12 bits of the port that a *client* chose: of the source port, or, where the destination port is one of
 * our ephemeral range, so that either end may have chosen, of both, XORed (flowGroups.ts). The rules, in order:
 *
 * ```
 *  TCP over IPv4 with a filter      the filter's queue
 *  TCP, UDP, not a fragment         group(destination port ephemeral ? source ^ destination : source)
 *  ICMP error about TCP or UDP      the group of the flow whose packet it quotes (RFC 792, 4443; PMTUD needs it there)
 *  fragments, other IP protocols    hash of the two addresses, modulo queues
 *  ARP replies and announcements,   the relay queue, from which all kernels get them (relay.ts)
 *    neighbour advertisements
 *  anything else (ARP requests, …)  queue 0: other neighbour discovery, broadcasts and multicasts, DHCP replies
 * ```
 * IPv6 extension headers are not walked: such packets go by their addresses. Docs: Linux bpf(2), tun.c.
 */
import type { Device, PlacedFilter } from "../device.ts";
import { groupOfPorts, initialQueue } from "../flowGroups.ts";
import type { ReplyTuple } from "../replySteering.ts";
import type { Syscalls } from "./syscalls.ts";

/** Destination ports that are our own, chosen for active opens: first and last, both included. */
export type PortRange = { readonly first: number; readonly last: number };

const BPF_MAP_CREATE = 0;
const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_MAP_UPDATE_ELEM = 2;
const BPF_MAP_DELETE_ELEM = 3;
const BPF_MAP_GET_NEXT_KEY = 4;
/** Flag of an update: the key must not be there. */
const BPF_NOEXIST = 1;
const EEXIST = 17;
const BPF_PROG_LOAD = 5;
const BPF_MAP_TYPE_HASH = 1;
const BPF_MAP_TYPE_ARRAY = 2;
const BPF_PROG_TYPE_SOCKET_FILTER = 1;
const BPF_PSEUDO_MAP_FD = 1;
const BPF_FUNC_MAP_LOOKUP_ELEM = 1;

/** Numbers of eBPF registers: R0 is the result, R6..R9 survive calls, R10 is the frame pointer. */
type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

const ALU_ADD = 0x00;
const ALU_MUL = 0x20;
const ALU_AND = 0x50;
const ALU_LSH = 0x60;
const ALU_RSH = 0x70;
const ALU_MOD = 0x90;
const ALU_XOR = 0xa0;
const JUMP_EQUAL = 0x15;
const JUMP_NOT_EQUAL = 0x55;
const JUMP_ALWAYS = 0x05;
const JUMP_SET = 0x45;
const JUMP_GREATER = 0x25;
const JUMP_LESS = 0xa5;

const WORD = 0x00;
const HALF = 0x08;
const BYTE = 0x10;
type Width = typeof WORD | typeof HALF | typeof BYTE;

/** Assembles eBPF instructions, with labels for forward jumps. */
export class BpfAssembler {
  readonly #code: { op: number; registers: number; offset: number; immediate: number; target: string | undefined }[] =
    [];
  readonly #labels = new Map<string, number>();

  #emit(op: number, to: Register, from: Register, offset: number, immediate: number, target?: string): this {
    this.#code.push({ op, registers: to | (from << 4), offset, immediate, target });
    return this;
  }

  label(name: string): this {
    this.#labels.set(name, this.#code.length);
    return this;
  }

  /** to = from */
  move(to: Register, from: Register): this {
    return this.#emit(0xbf, to, from, 0, 0);
  }

  /** to = immediate */
  set(to: Register, immediate: number): this {
    return this.#emit(0xb7, to, 0, 0, immediate);
  }

  /** 64-bit arithmetic with a constant: to = to OP immediate */
  compute(operation: number, to: Register, immediate: number): this {
    return this.#emit(0x07 | operation, to, 0, 0, immediate);
  }

  /** 64-bit arithmetic with a register: to = to OP from */
  combine(operation: number, to: Register, from: Register): this {
    return this.#emit(0x0f | operation, to, from, 0, 0);
  }

  /** R0 = packet[offset] in host order; past the end the program ends with 0. The context is in R6; clobbers R1..R5. */
  loadPacket(width: Width, offset: number): this {
    return this.#emit(0x20 | width, 0, 0, 0, offset);
  }

  /** R0 = packet[index + offset], as loadPacket(). */
  loadPacketAt(width: Width, index: Register, offset: number): this {
    return this.#emit(0x40 | width, 0, index, 0, offset);
  }

  /** 32-bit store to the stack frame. */
  storeStack(offset: number, from: Register): this {
    return this.#emit(0x63, 10, from, offset, 0);
  }

  /** to = 32 bits at [from]. */
  load(to: Register, from: Register): this {
    return this.#emit(0x61, to, from, 0, 0);
  }

  loadMap(to: Register, mapFd: number): this {
    this.#emit(0x18, to, BPF_PSEUDO_MAP_FD, 0, mapFd);
    return this.#emit(0, 0, 0, 0, 0);
  }

  call(helper: number): this {
    return this.#emit(0x85, 0, 0, 0, helper);
  }

  /** @param operation JUMP_*; compares `register` with the constant. */
  jumpIf(operation: number, register: Register, immediate: number, target: string): this {
    return this.#emit(operation, register, 0, 0, immediate, target);
  }

  /** Jumps when two registers are equal. */
  jumpIfSame(one: Register, other: Register, target: string): this {
    return this.#emit(0x1d, one, other, 0, 0, target);
  }

  jump(target: string): this {
    return this.#emit(JUMP_ALWAYS, 0, 0, 0, 0, target);
  }

  exit(): this {
    return this.#emit(0x95, 0, 0, 0, 0);
  }

  /** The instructions, 8 bytes each. */
  assemble(): Uint8Array {
    const bytes = new Uint8Array(new ArrayBuffer(this.#code.length * 8));
    const view = new DataView(bytes.buffer);
    this.#code.forEach((instruction, index) => {
      let offset = instruction.offset;
      if (instruction.target !== undefined) {
        const at = this.#labels.get(instruction.target);
        if (at === undefined) throw new RangeError(`eBPF: no label ${instruction.target}`);
        offset = at - index - 1;
      }
      view.setUint8(index * 8, instruction.op);
      view.setUint8(index * 8 + 1, instruction.registers);
      view.setInt16(index * 8 + 2, offset, true);
      view.setInt32(index * 8 + 4, instruction.immediate, true);
    });
    return bytes;
  }
}

// Offsets from the Ethernet header: tun runs the program with the packet data there.
const ETHERTYPE = 12;
const IP = 14;
const IPV4_FRAGMENT = IP + 6;
const IPV4_PROTOCOL = IP + 9;
const IPV4_SOURCE = IP + 12;
const IPV4_DESTINATION = IP + 16;
const IPV6_NEXT_HEADER = IP + 6;
const IPV6_PORTS = IP + 40;
const PROTOCOL_ICMPV6 = 58;
/** Port of a DHCP client: there is one for all kernels. */
const DHCP_CLIENT = 68;
/** ICMPv6 types of neighbour discovery, from router solicitation to redirect. */
const ND_FIRST = 133;
const ND_LAST = 137;
const ND_ADVERTISEMENT = 136;
const ARP_OPERATION = 14 + 6;
const ARP_SENDER_V4 = 14 + 14;
const ARP_TARGET_V4 = 14 + 24;
const PROTOCOL_ICMP = 1;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
/** Low 32 bits of the golden ratio: Knuth's multiplicative hash. Below 2^31, because immediates are signed. */
const HASH_MULTIPLIER = 0x1e3779b1;

/** Exact filters at most. */
export const FILTERS_MAX = 4096;
/** Bit of an entry of the group table: the group has exact filters. The queue is in the low 16 bits. */
const HAS_FILTERS = 0x10000;
const QUEUE_MASK = 0xffff;
/** Source address, destination address, both ports, as the program reads them: words in host order. */
const FILTER_KEY_BYTES = 12;

/** File descriptors of the program's maps. */
export type SteeringMaps = {
  /** Array of u32, one per group: queue, and HAS_FILTERS. */
  readonly groups: number;
  /** Hash of FILTER_KEY_BYTES to u32 queue. */
  readonly filters: number;
};

export type SteeringOptions = {
  /** Queues of kernels. The relay's queue is the next. */
  readonly queues: number;
  readonly localPorts: PortRange;
  /** A power of two, at most FLOW_GROUPS. */
  readonly flowGroups: number;
};

/** The steering program. */
export function assembleSteering(maps: SteeringMaps, { queues, localPorts, flowGroups }: SteeringOptions): Uint8Array {
  const program = new BpfAssembler();
  program
    .move(6, 1)
    .loadPacket(HALF, ETHERTYPE)
    .jumpIf(JUMP_EQUAL, 0, 0x0800, "ipv4")
    .jumpIf(JUMP_EQUAL, 0, 0x86dd, "ipv6")
    .jumpIf(JUMP_EQUAL, 0, 0x0806, "arp")
    .label("queue0")
    .set(0, 0)
    .exit();
  assembleArp(program, queues);
  // R7 = offset of the ports; R8 = source port; R9 = destination port.
  program
    .label("ipv4")
    .loadPacket(BYTE, 0)
    .jumpIf(JUMP_SET, 0, 1, "queue0 end")
    .loadPacket(HALF, IPV4_FRAGMENT)
    // More fragments, or a fragment offset: the ports are in the first fragment only, so all go by address.
    .jumpIf(JUMP_SET, 0, 0x3fff, "addresses4")
    .loadPacket(BYTE, IP)
    .move(7, 0)
    .compute(ALU_AND, 7, 15)
    .compute(ALU_LSH, 7, 2)
    .compute(ALU_ADD, 7, IP)
    .loadPacket(BYTE, IPV4_PROTOCOL)
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_TCP, "ports")
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_UDP, "ports")
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_ICMP, "icmp")
    .label("addresses4")
    .loadPacket(WORD, IPV4_SOURCE)
    .move(8, 0)
    .loadPacket(WORD, IPV4_DESTINATION)
    .combine(ALU_XOR, 0, 8)
    .jump("hash");
  assembleIcmp(program);
  assembleIpv6(program, queues);
  program
    .label("ports")
    .loadPacketAt(HALF, 7, 0)
    .move(8, 0)
    .loadPacketAt(HALF, 7, 2)
    .jumpIf(JUMP_EQUAL, 0, DHCP_CLIENT, "queue0 end")
    .move(9, 0)
    .label("group")
    .jumpIf(JUMP_LESS, 9, localPorts.first, "look up")
    .jumpIf(JUMP_GREATER, 9, localPorts.last, "look up")
    .combine(ALU_XOR, 8, 9)
    .label("look up")
    .compute(ALU_AND, 8, flowGroups - 1)
    .storeStack(-4, 8)
    .loadMap(1, maps.groups)
    .move(2, 10)
    .compute(ALU_ADD, 2, -4)
    .call(BPF_FUNC_MAP_LOOKUP_ELEM)
    .jumpIf(JUMP_EQUAL, 0, 0, "queue0 end")
    .load(0, 0)
    .jumpIf(JUMP_SET, 0, HAS_FILTERS, "filtered")
    .exit()
    .label("queue0 end")
    .set(0, 0)
    .exit();
  assembleFilter(program, maps.filters);
  program
    .label("hash")
    .compute(ALU_MUL, 0, HASH_MULTIPLIER)
    .compute(ALU_RSH, 0, 16)
    .compute(ALU_AND, 0, 0xffff)
    .compute(ALU_MOD, 0, queues)
    .exit();
  return program.assemble();
}

/** R0 is the entry of a group that has filters; R7 is the offset of the ports where the packet is TCP over IPv4. */
function assembleFilter(program: BpfAssembler, mapFd: number): void {
  program
    .label("filtered")
    .move(8, 0)
    .compute(ALU_AND, 8, QUEUE_MASK)
    .loadPacket(HALF, ETHERTYPE)
    .jumpIf(JUMP_NOT_EQUAL, 0, 0x0800, "by group")
    .loadPacket(BYTE, IPV4_PROTOCOL)
    .jumpIf(JUMP_NOT_EQUAL, 0, PROTOCOL_TCP, "by group")
    .loadPacket(WORD, IPV4_SOURCE)
    .storeStack(-16, 0)
    .loadPacket(WORD, IPV4_DESTINATION)
    .storeStack(-12, 0)
    .loadPacketAt(WORD, 7, 0)
    .storeStack(-8, 0)
    .loadMap(1, mapFd)
    .move(2, 10)
    .compute(ALU_ADD, 2, -16)
    .call(BPF_FUNC_MAP_LOOKUP_ELEM)
    .jumpIf(JUMP_EQUAL, 0, 0, "by group")
    .load(0, 0)
    .exit()
    .label("by group")
    .move(0, 8)
    .exit();
}

/** What answers a question or announces goes to all kernels by way of the queue after theirs. */
function assembleArp(program: BpfAssembler, queues: number): void {
  program
    .label("arp")
    .loadPacket(HALF, ARP_OPERATION)
    .jumpIf(JUMP_EQUAL, 0, 2, "relay")
    // An announcement asks for the sender's own address (RFC 5227 3).
    .loadPacket(WORD, ARP_SENDER_V4)
    .move(7, 0)
    .loadPacket(WORD, ARP_TARGET_V4)
    .jumpIfSame(0, 7, "relay")
    .set(0, 0)
    .exit()
    .label("relay")
    .set(0, queues)
    .exit();
}

/** Neighbour discovery: advertisements to all kernels, the rest (and all other groups) to the first (RFC 4861 4). */
function assembleGroupsV6(program: BpfAssembler, queues: number): void {
  program
    .loadPacket(BYTE, IPV6_NEXT_HEADER)
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_ICMPV6, "icmp6")
    .jump("group6")
    .label("icmp6")
    .loadPacket(BYTE, IPV6_PORTS)
    .jumpIf(JUMP_EQUAL, 0, ND_ADVERTISEMENT, "relay6")
    .jumpIf(JUMP_LESS, 0, ND_FIRST, "group6")
    .jumpIf(JUMP_GREATER, 0, ND_LAST, "group6")
    .jump("queue0 v6")
    .label("relay6")
    .set(0, queues)
    .exit()
    .label("group6")
    .loadPacket(BYTE, 0)
    .jumpIf(JUMP_SET, 0, 1, "queue0 v6")
    .jump("unicast6")
    .label("queue0 v6")
    .set(0, 0)
    .exit()
    .label("unicast6");
}

/** ICMP errors go where the quoted packet's flow lives: we sent that packet, so its source port is ours. */
function assembleIcmp(program: BpfAssembler): void {
  const quote = 8;
  program
    .label("icmp")
    .loadPacketAt(BYTE, 7, 0)
    .jumpIf(JUMP_EQUAL, 0, 3, "icmp error")
    .jumpIf(JUMP_EQUAL, 0, 11, "icmp error")
    .jumpIf(JUMP_EQUAL, 0, 12, "icmp error")
    .jump("addresses4")
    .label("icmp error")
    .loadPacketAt(HALF, 7, quote + 6)
    .jumpIf(JUMP_SET, 0, 0x1fff, "addresses4")
    .loadPacketAt(BYTE, 7, quote + 9)
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_TCP, "quoted ports")
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_UDP, "quoted ports")
    .jump("addresses4")
    .label("quoted ports")
    .loadPacketAt(BYTE, 7, quote)
    .compute(ALU_AND, 0, 15)
    .compute(ALU_LSH, 0, 2)
    .combine(ALU_ADD, 7, 0)
    .loadPacketAt(HALF, 7, quote)
    .move(9, 0)
    .loadPacketAt(HALF, 7, quote + 2)
    .move(8, 0)
    .jump("group");
}

function assembleIpv6(program: BpfAssembler, queues: number): void {
  const quote = IPV6_PORTS + 8;
  program.label("ipv6");
  assembleGroupsV6(program, queues);
  program
    .set(7, IPV6_PORTS)
    .loadPacket(BYTE, IPV6_NEXT_HEADER)
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_TCP, "ports")
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_UDP, "ports")
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_ICMPV6, "icmp6 type")
    .jump("addresses6")
    .label("icmp6 type")
    .loadPacket(BYTE, IPV6_PORTS)
    // Informational messages have the high bit (RFC 4443 2.1).
    .jumpIf(JUMP_SET, 0, 0x80, "addresses6")
    .loadPacket(BYTE, quote + 6)
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_TCP, "quoted ports6")
    .jumpIf(JUMP_EQUAL, 0, PROTOCOL_UDP, "quoted ports6")
    .jump("addresses6")
    .label("quoted ports6")
    .loadPacket(HALF, quote + 40)
    .move(9, 0)
    .loadPacket(HALF, quote + 42)
    .move(8, 0)
    .jump("group")
    .label("addresses6")
    .set(9, 0);
  for (let offset = IP + 8; offset < IPV6_PORTS; offset += 4) program.loadPacket(WORD, offset).combine(ALU_XOR, 9, 0);
  program.move(0, 9).jump("hash");
}

/** What a thread needs to know where packets go. */
export type SteeringView = {
  /** u16 each: the queue of each group; as many: its exact filters. Kept up to date by the owner. */
  readonly queues: SharedArrayBuffer;
  readonly localPorts: PortRange;
  readonly flowGroups: number;
};

/** The queue to which a TCP or UDP packet would go now, as Device.queueFor. */
export function queueLookup(view: SteeringView): NonNullable<Device["queueFor"]> {
  const queues = new Uint16Array(view.queues);
  return (_source, sourcePort, _destination, destinationPort) =>
    queues[flowGroupOf(sourcePort, destinationPort, view)] as number;
}

/** What the program does, for one TCP or UDP packet that would arrive: its flow group. */
export function flowGroupOf(
  sourcePort: number,
  destinationPort: number,
  { flowGroups, localPorts }: Pick<SteeringView, "flowGroups" | "localPorts">,
): number {
  return groupOfPorts(sourcePort, destinationPort, { ...localPorts, groups: flowGroups });
}

/** One map in the host's kernel with a u32 value: an update is one system call over attributes, key and value. */
class BpfMap {
  readonly fd: number;
  readonly key: DataView;
  readonly #syscalls: Syscalls;
  readonly #value: DataView;
  readonly #attributes: Uint8Array;

  constructor(syscalls: Syscalls, fd: number, keyBytes: number) {
    this.#syscalls = syscalls;
    this.fd = fd;
    const entry = new Uint8Array(new ArrayBuffer(keyBytes + 4));
    this.key = new DataView(entry.buffer, 0, keyBytes);
    this.#value = new DataView(entry.buffer, keyBytes);
    const address = syscalls.addressOf(entry);
    this.#attributes = new Uint8Array(new ArrayBuffer(32));
    const view = new DataView(this.#attributes.buffer);
    view.setUint32(0, fd, true);
    view.setBigUint64(8, BigInt(address), true);
    view.setBigUint64(16, BigInt(address + keyBytes), true);
  }

  /** Sets the value under `key`. @param flags 0, or BPF_NOEXIST. @returns 0 or the negative errno. */
  update(value: number, flags = 0): number {
    this.#value.setUint32(0, value, true);
    this.#attributes[24] = flags;
    return this.#syscalls.bpf(BPF_MAP_UPDATE_ELEM, this.#attributes);
  }

  /** All keys with their values. */
  entries(): { readonly key: DataView; readonly value: number }[] {
    const found: { key: DataView; value: number }[] = [];
    const keyBytes = this.key.byteLength;
    const next = new Uint8Array(new ArrayBuffer(keyBytes));
    const view = new DataView(this.#attributes.slice().fill(0).buffer);
    view.setUint32(0, this.fd, true);
    const attributes = new Uint8Array(view.buffer);
    const own = new Uint8Array(this.key.buffer, 0, keyBytes);
    // Without a key the first one follows.
    view.setBigUint64(16, BigInt(this.#syscalls.addressOf(next)), true);
    while (this.#syscalls.bpf(BPF_MAP_GET_NEXT_KEY, attributes) >= 0) {
      own.set(next);
      const lookUp = this.#attributes.slice();
      lookUp.fill(0, 24);
      if (this.#syscalls.bpf(BPF_MAP_LOOKUP_ELEM, lookUp) >= 0) {
        found.push({ key: new DataView(next.slice().buffer), value: this.#value.getUint32(0, true) });
      }
      view.setBigUint64(8, BigInt(this.#syscalls.addressOf(own)), true);
    }
    return found;
  }

  /** Removes what is under `key`. @returns 0 or the negative errno. */
  remove(): number {
    // What a call does not use must be zero.
    const attributes = this.#attributes.slice();
    attributes.fill(0, 16);
    return this.#syscalls.bpf(BPF_MAP_DELETE_ELEM, attributes);
  }

  close(): void {
    this.#syscalls.close(this.fd);
  }
}

/**
 * The flow-group table and the exact filters in the host's kernel, and the program that reads them. Any thread can
 * have a SteeringTable on the same maps; one at a time writes. What is counted lies in the shared view.
 */
export class SteeringTable {
  /** -1 on other threads than the one that has loaded it. */
  readonly programFd: number;
  readonly view: SteeringView;
  readonly maps: SteeringMaps;
  readonly #syscalls: Syscalls;
  readonly #groups: BpfMap;
  readonly #filterMap: BpfMap;
  readonly #queues: Uint16Array;
  /** Filters of each group. */
  readonly #filterCounts: Uint16Array;

  constructor(syscalls: Syscalls, maps: SteeringMaps, view: SteeringView, programFd = -1) {
    this.#syscalls = syscalls;
    this.view = view;
    this.maps = maps;
    const { flowGroups, queues } = view;
    this.#queues = new Uint16Array(queues, 0, flowGroups);
    this.#filterCounts = new Uint16Array(queues, 2 * flowGroups, flowGroups);
    this.programFd = programFd;
    this.#groups = new BpfMap(syscalls, maps.groups, 4);
    this.#filterMap = new BpfMap(syscalls, maps.filters, FILTER_KEY_BYTES);
  }

  /**
   * Creates the tables, with the groups dealt out by initialQueue(), and loads the program.
   * @returns the negative errno where bpf(2) is refused: EPERM without CAP_BPF, ENOSYS without bpf(2).
   */
  static load(syscalls: Syscalls, options: SteeringOptions): SteeringTable | number {
    const { flowGroups, localPorts, queues } = options;
    const groups = createMap(syscalls, BPF_MAP_TYPE_ARRAY, 4, flowGroups);
    if (groups < 0) return groups;
    const filters = createMap(syscalls, BPF_MAP_TYPE_HASH, FILTER_KEY_BYTES, FILTERS_MAX);
    const programFd = filters < 0 ? filters : loadProgram(syscalls, assembleSteering({ groups, filters }, options));
    if (programFd < 0) {
      for (const fd of [groups, filters]) if (fd >= 0) syscalls.close(fd);
      return programFd;
    }
    const view = { queues: new SharedArrayBuffer(2 * 2 * flowGroups), localPorts, flowGroups };
    const table = new SteeringTable(syscalls, { groups, filters }, view, programFd);
    for (let group = 0; group < flowGroups; group += 1) {
      const status = table.set(group, initialQueue(group, queues));
      if (status < 0) {
        table.close();
        return status;
      }
    }
    return table;
  }

  /** Queue of a flow group. */
  get(group: number): number {
    return this.#queues[group] as number;
  }

  /** Moves a flow group. The next packet of the group goes to `queue`. @returns 0 or the negative errno. */
  set(group: number, queue: number): number {
    this.#groups.key.setUint32(0, group, true);
    const status = this.#groups.update(queue | (this.#filterCounts[group] === 0 ? 0 : HAS_FILTERS));
    if (status >= 0) this.#queues[group] = queue;
    return status;
  }

  get filterCount(): number {
    return this.#filterCounts.reduce((sum, count) => sum + count, 0);
  }

  /** Sends one TCP flow to `queue`, whatever its group. @returns false: no room, or not IPv4. */
  setFilter(flow: ReplyTuple, queue: number): boolean {
    if (!this.#writeKey(flow)) return false;
    const status = this.#filterMap.update(queue, BPF_NOEXIST);
    if (status === -EEXIST) return this.#filterMap.update(queue) >= 0;
    if (status < 0) return false;
    this.#countFilter(flow, 1);
    return true;
  }

  clearFilter(flow: ReplyTuple): void {
    if (this.#writeKey(flow) && this.#filterMap.remove() >= 0) this.#countFilter(flow, -1);
  }

  /** Removes the filters that name `queue`. */
  dropFilters(queue: number): void {
    for (const filter of this.filters()) if (filter.queue === queue) this.clearFilter(filter.flow);
  }

  /** Asked of the host, one system call or two for each. */
  filters(): PlacedFilter[] {
    if (this.filterCount === 0) return [];
    return this.#filterMap.entries().map(({ key, value }) => ({
      flow: {
        remote: mappedV4(key.getUint32(0, true)),
        local: mappedV4(key.getUint32(4, true)),
        remotePort: key.getUint32(8, true) >>> 16,
        localPort: key.getUint32(8, true) & 0xffff,
      },
      queue: value,
    }));
  }

  close(): void {
    if (this.programFd >= 0) this.#syscalls.close(this.programFd);
    this.#groups.close();
    this.#filterMap.close();
  }

  #countFilter({ remotePort, localPort }: ReplyTuple, change: number): void {
    const group = flowGroupOf(remotePort, localPort, this.view);
    const before = this.#filterCounts[group] as number;
    this.#filterCounts[group] = before + change;
    if (before === 0 || before + change === 0) this.set(group, this.get(group));
  }

  /** @returns false for what the program has no filters for. */
  #writeKey({ remote, remotePort, local, localPort }: ReplyTuple): boolean {
    if (!isV4Mapped(remote) || !isV4Mapped(local)) return false;
    const { key } = this.#filterMap;
    key.setUint32(0, wordAt(remote, 12), true);
    key.setUint32(4, wordAt(local, 12), true);
    key.setUint32(8, ((remotePort << 16) | localPort) >>> 0, true);
    return true;
  }
}

function mappedV4(word: number): Uint8Array {
  const bytes = new Uint8Array(16).fill(0xff, 10, 12);
  new DataView(bytes.buffer).setUint32(12, word);
  return bytes;
}

function isV4Mapped(address: Uint8Array): boolean {
  return address[10] === 0xff && address[11] === 0xff && address.subarray(0, 10).every((byte) => byte === 0);
}

function wordAt(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);
}

function createMap(syscalls: Syscalls, type: number, keyBytes: number, entries: number): number {
  const attributes = new Uint8Array(new ArrayBuffer(72));
  const view = new DataView(attributes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, keyBytes, true);
  view.setUint32(8, 4, true);
  view.setUint32(12, entries, true);
  return syscalls.bpf(BPF_MAP_CREATE, attributes);
}

function loadProgram(syscalls: Syscalls, program: Uint8Array): number {
  const license = new Uint8Array(new ArrayBuffer(4));
  license.set([0x4d, 0x49, 0x54, 0]);
  const attributes = new Uint8Array(new ArrayBuffer(72));
  const view = new DataView(attributes.buffer);
  view.setUint32(0, BPF_PROG_TYPE_SOCKET_FILTER, true);
  view.setUint32(4, program.length / 8, true);
  view.setBigUint64(8, BigInt(syscalls.addressOf(program)), true);
  view.setBigUint64(16, BigInt(syscalls.addressOf(license)), true);
  return syscalls.bpf(BPF_PROG_LOAD, attributes);
}
