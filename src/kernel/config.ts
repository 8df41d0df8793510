/**
 * A kernel's tuning: names, defaults, ranges, units; and writing the configuration record (layout/config.ts) that the
 * kernel reads once at boot. Defaults are Linux's where Linux has one.
 */
import { groupRuleOf } from "../device/flowGroups.ts";
import { NetPopcornError } from "../errors.ts";
import { ADDRESS_BYTES, type Cidr, parseCidr } from "../ip/address.ts";
import * as C from "../layout/config.ts";
import { HANDLE_INDEX_MASK } from "../layout/event.ts";
import { CONFIG_BASE, LAYOUT_VERSION, RX_LANES_MAX } from "../layout/kernelMemory.ts";
import { MESSAGE_KERNELS_MAX } from "../layout/message.ts";
import { CONGESTION_BBR, CONGESTION_CUBIC, CONGESTION_RENO } from "../layout/option.ts";
import { checkInteger, optionError } from "../optionRange.ts";
import type { PortRange } from "../rss/toeplitz.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import type { NetworkOptions } from "./networkPlan.ts";

/** All options that are numbers. Integers; the unit is the name's ending. */
export type Tuning = {
  /** Memory of one kernel, reserved at start, provided when used; a multiple of 64 KiB. */
  readonly memoryBytes: number;
  /** TCP connections of one kernel, those in TIME_WAIT too. */
  readonly connectionsMax: number;
  /** Events that one poll can publish; the rest waits for the next. */
  readonly eventSlots: number;
  /** Size of each RX lane, a power of two. Default 1 MiB with one lane, otherwise 256 KiB. */
  readonly rxRingBytes: number;
  /** A power of two. */
  readonly txRingBytes: number;
  /** Memory for send and receive buffers together. Default: half of memoryBytes. */
  readonly streamPoolBytes: number;
  /** Frames that one poll takes. Not part of the kernel's memory: the host passes it to poll. */
  readonly pollBudgetFrames: number;
  /** 2 MSL (RFC 9293 3.4.2); Linux keeps TIME_WAIT for 60 s. 0: none. */
  readonly timeWaitMs: number;
  /** Floor of the retransmission timeout. RFC 6298 (2.4) asks for 1 s; Linux has 200 ms. */
  readonly rtoMinUs: number;
  /** RFC 6298 (2.1). */
  readonly rtoInitialUs: number;
  /** RFC 6298 (2.5): at least 60 s. */
  readonly rtoMaxUs: number;
  /** RFC 9293 3.8.6.3: below 500 ms. 0: acknowledge at once. */
  readonly delayedAckUs: number;
  /**
   * Limit of one connection's receive buffer: the window that can be offered. It begins with 1 MiB and grows with what
   * is read in a round trip; the send buffer grows with the congestion window (assembly/socket/autoTuning.ts).
   */
  readonly rcvBufferBytesMax: number;
  readonly sndBufferBytesMax: number;
  /** SYN and SYN-ACK retransmissions before giving up. */
  readonly synRetriesMax: number;
  /** Retransmissions of data before giving up. */
  readonly retriesMax: number;
  readonly keepaliveIdleMs: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveProbesMax: number;
  /**
   * First and last local port drawn for sockets that name none (RFC 6335: the dynamic ports begin at 49152; Linux:
   * 32768..60999).
   */
  readonly ephemeralPortFirst: number;
  readonly ephemeralPortLast: number;
  readonly listenersMax: number;
  readonly udpSocketsMax: number;
  /** Entries of the neighbour (ARP) table. */
  readonly neighborsMax: number;
  /** When an entry that nothing has confirmed is forgotten; it is asked for again long before, when it is used. */
  readonly neighborExpiryMs: number;
  /** 1: act on ICMP redirects, as a host must (RFC 1122 3.2.2.2); 0: ignore them (Linux: accept_redirects). */
  readonly acceptRedirects: number;
  /** Fragments waiting for the rest of their packet, all together. */
  readonly reassemblyBytesMax: number;
  /**
   * Size of each ring for messages from another kernel, a power of two. Default 64 KiB, less where all of a kernel's
   * would take more than a sixteenth of its memory.
   */
  readonly messageRingBytes: number;
  /** 1: permit selective acknowledgments (RFC 2018), 0: do not. */
  readonly sack: number;
  /** Congestion control of new connections: 0 NewReno, 1 CUBIC (RFC 9438), 2 BBR. */
  readonly congestionControl: number;
  /**
   * ECN (RFC 3168), by Linux's numbers: 0 off, 1 ask for it and agree to it, 2 agree when the peer asks. With accurate
   * ECN (RFC 9768), where the peer knows it, too: 3 ask and agree, 4 agree, and ask for RFC 3168's, 5 agree.
   */
  readonly ecn: number;
  /** TTL (IPv4) and hop limit (IPv6) of what is sent, unless a socket says otherwise (RFC 9293, MUST-49). */
  readonly hopLimit: number;
  /** The first so many delayed ACKs of a connection that only receives wait 1 ms, not delayedAckUs. 0: none. */
  readonly quickAcks: number;
  /** 1: the congestion window shrinks while a connection is idle (RFC 2861, as in Linux); 2: RFC 7661; 0: neither. */
  readonly slowStartAfterIdle: number;
  /**
   * TCP Fast Open (RFC 7413), the sum of Linux's numbers: 1 connections may ask for it, 2 listeners may offer it,
   * 4 and 512 without cookies, 1024 all listeners do.
   */
  readonly fastOpen: number;
  /** 1: find the path MTU where routers are silent (RFC 4821), 0: rely on ICMP. */
  readonly mtuProbing: number;
  /** How long an idle thread looks for new work before it sleeps. Shared memories only. */
  readonly spinUs: number;
};

type Range = { readonly default: number; readonly min: number; readonly max: number };

const KIB = 1024;
const MIB = 1024 * KIB;

/** Defaults and ranges. rxRingBytes and streamPoolBytes have computed defaults, see resolveTuning. */
export const TUNING_RANGES: { readonly [Name in keyof Tuning]: Range } = {
  memoryBytes: { default: 512 * MIB, min: 4 * MIB, max: 65535 * 65536 },
  connectionsMax: { default: 65536, min: 1, max: HANDLE_INDEX_MASK },
  eventSlots: { default: 4096, min: 1, max: 65536 },
  rxRingBytes: { default: MIB, min: 16 * KIB, max: 256 * MIB },
  txRingBytes: { default: MIB, min: 16 * KIB, max: 256 * MIB },
  streamPoolBytes: { default: 256 * MIB, min: 64 * KIB, max: 65535 * 65536 },
  pollBudgetFrames: { default: 256, min: 1, max: 65536 },
  timeWaitMs: { default: 60_000, min: 0, max: 600_000 },
  rtoMinUs: { default: 200_000, min: 1000, max: 60_000_000 },
  rtoInitialUs: { default: 1_000_000, min: 1000, max: 60_000_000 },
  rtoMaxUs: { default: 120_000_000, min: 1000, max: 600_000_000 },
  delayedAckUs: { default: 40_000, min: 0, max: 499_999 },
  rcvBufferBytesMax: { default: 4 * MIB, min: 2048, max: 16 * MIB },
  sndBufferBytesMax: { default: 4 * MIB, min: 2048, max: 16 * MIB },
  synRetriesMax: { default: 6, min: 0, max: 127 },
  retriesMax: { default: 15, min: 1, max: 127 },
  keepaliveIdleMs: { default: 7_200_000, min: 1000, max: 32_767_000 },
  keepaliveIntervalMs: { default: 75_000, min: 1000, max: 32_767_000 },
  keepaliveProbesMax: { default: 9, min: 1, max: 127 },
  ephemeralPortFirst: { default: 32768, min: 1, max: 65535 },
  ephemeralPortLast: { default: 60999, min: 1, max: 65535 },
  listenersMax: { default: 256, min: 1, max: 65535 },
  udpSocketsMax: { default: 1024, min: 0, max: 65536 },
  neighborsMax: { default: 1024, min: 1, max: 65535 },
  neighborExpiryMs: { default: 1_200_000, min: 60_000, max: 86_400_000 },
  acceptRedirects: { default: 1, min: 0, max: 1 },
  reassemblyBytesMax: { default: MIB, min: 0, max: 64 * MIB },
  messageRingBytes: { default: 2 * MIB, min: 4 * KIB, max: 16 * MIB },
  sack: { default: 1, min: 0, max: 1 },
  congestionControl: { default: CONGESTION_CUBIC, min: CONGESTION_RENO, max: CONGESTION_BBR },
  ecn: { default: C.ECN_AGREE, min: C.ECN_OFF, max: C.ECN_ACCURATE_AGREE },
  hopLimit: { default: 64, min: 1, max: 255 },
  quickAcks: { default: 16, min: 0, max: 16 },
  slowStartAfterIdle: { default: 1, min: 0, max: 2 },
  fastOpen: { default: C.FAST_OPEN_CLIENT + C.FAST_OPEN_SERVER, min: 0, max: C.FAST_OPEN_MAX },
  mtuProbing: { default: 1, min: 0, max: 1 },
  spinUs: { default: 50, min: 0, max: 1_000_000 },
};

/** Where each number stands in the configuration record; what is not here is the host's. */
const TUNING_OFFSETS: { readonly [Name in keyof Tuning]?: number } = {
  memoryBytes: C.CONFIG_MEMORY_BYTES,
  connectionsMax: C.CONFIG_CONNECTIONS_MAX,
  eventSlots: C.CONFIG_EVENT_SLOTS,
  rxRingBytes: C.CONFIG_RX_RING_BYTES,
  txRingBytes: C.CONFIG_TX_RING_BYTES,
  streamPoolBytes: C.CONFIG_STREAM_POOL_BYTES,
  timeWaitMs: C.CONFIG_TIME_WAIT_MS,
  rtoMinUs: C.CONFIG_RTO_MIN_US,
  rtoInitialUs: C.CONFIG_RTO_INITIAL_US,
  rtoMaxUs: C.CONFIG_RTO_MAX_US,
  delayedAckUs: C.CONFIG_DELAYED_ACK_US,
  rcvBufferBytesMax: C.CONFIG_RCV_BUFFER_BYTES_MAX,
  sndBufferBytesMax: C.CONFIG_SND_BUFFER_BYTES_MAX,
  synRetriesMax: C.CONFIG_SYN_RETRIES_MAX,
  retriesMax: C.CONFIG_RETRIES_MAX,
  keepaliveIdleMs: C.CONFIG_KEEPALIVE_IDLE_MS,
  keepaliveIntervalMs: C.CONFIG_KEEPALIVE_INTERVAL_MS,
  keepaliveProbesMax: C.CONFIG_KEEPALIVE_PROBES_MAX,
  ephemeralPortFirst: C.CONFIG_EPHEMERAL_PORT_FIRST,
  ephemeralPortLast: C.CONFIG_EPHEMERAL_PORT_LAST,
  listenersMax: C.CONFIG_LISTENERS_MAX,
  udpSocketsMax: C.CONFIG_UDP_SOCKETS_MAX,
  neighborsMax: C.CONFIG_NEIGHBORS_MAX,
  neighborExpiryMs: C.CONFIG_NEIGHBOR_EXPIRY_MS,
  acceptRedirects: C.CONFIG_ACCEPT_REDIRECTS,
  reassemblyBytesMax: C.CONFIG_REASSEMBLY_BYTES_MAX,
  messageRingBytes: C.CONFIG_MESSAGE_RING_BYTES,
  sack: C.CONFIG_SACK,
  congestionControl: C.CONFIG_CONGESTION,
  ecn: C.CONFIG_ECN,
  hopLimit: C.CONFIG_HOP_LIMIT,
  quickAcks: C.CONFIG_QUICK_ACKS,
  slowStartAfterIdle: C.CONFIG_SLOW_START_AFTER_IDLE,
  fastOpen: C.CONFIG_FAST_OPEN,
  mtuProbing: C.CONFIG_MTU_PROBING,
};

/** Everything that a kernel is told at boot. Structured-clonable. */
export type KernelConfig = {
  readonly kernelId: number;
  /** Kernels that the stack can have, this one included; 1: it exchanges no messages. Default 1. */
  readonly kernelsMax?: number;
  /** Four 32-bit words. */
  readonly seed: Uint32Array;
  /** Likewise, the same for all kernels of a stack. Default: the kernel's own seed. */
  readonly stackSeed?: Uint32Array;
  /** Four words each, one or two keys: of the cookies of TCP Fast Open. Default: drawn from the stack's seed. */
  readonly fastOpenKeys?: Uint32Array;
  /** What is to be configured by others than the user; missing: nothing. */
  readonly network?: NetworkOptions;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** Own addresses, at most ADDRESSES_MAX. */
  readonly addresses: readonly Cidr[];
  /** 16 bytes, all zero: no gateway. */
  readonly gateway: Uint8Array;
  /** IP packet size. */
  readonly mtuBytes: number;
  readonly rxLanes: number;
  /** 0: no TSO. */
  readonly tsoBytesMax: number;
  readonly checksumOffload: boolean;
  /** Flow groups of the device, a power of two. Default: as many as there can be. */
  readonly flowGroups?: number;
  /** Own ports that have a part in the group (device/flowGroups.ts). Default: none. */
  readonly localPorts?: PortRange;
  /** RFC 7323 timestamps, when the peer sends them too. */
  readonly timestamps: boolean;
  /** Nagle's algorithm off for new connections. */
  readonly noDelay: boolean;
  readonly tuning: Tuning;
};

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}

/**
 * Defaults filled in and everything checked.
 * @param rxLanes of the device: many lanes get smaller rings. @param kernelsMax that the stack can have.
 * @throws NetPopcornError ERR_OPTION_RANGE, ERR_OPTION_UNKNOWN.
 */
export function resolveTuning(given: Partial<Tuning>, rxLanes: number, kernelsMax = 1): Tuning {
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(TUNING_RANGES, name)) {
      throw new NetPopcornError("ERR_OPTION_UNKNOWN", `there is no tuning option ${name}; docs/api.md lists them`);
    }
  }
  const tuning: Record<string, number> = {};
  for (const [name, range] of Object.entries(TUNING_RANGES)) {
    const value = given[name as keyof Tuning];
    tuning[name] = value === undefined ? range.default : checkInteger(name, value, range.min, range.max);
  }
  const resolved = tuning as Record<keyof Tuning, number>;
  if (given.rxRingBytes === undefined && rxLanes > 1) resolved.rxRingBytes = 256 * KIB;
  if (given.messageRingBytes === undefined) {
    const { min } = TUNING_RANGES.messageRingBytes;
    while (resolved.messageRingBytes * kernelsMax * 16 > resolved.memoryBytes && resolved.messageRingBytes > min) {
      resolved.messageRingBytes /= 2;
    }
  }
  if (given.streamPoolBytes === undefined) resolved.streamPoolBytes = resolved.memoryBytes / 2;
  if (resolved.memoryBytes % 65536 !== 0) {
    throw optionError("memoryBytes", resolved.memoryBytes, "a multiple of 65536 (a WebAssembly page)");
  }
  for (const name of ["rxRingBytes", "txRingBytes", "messageRingBytes"] as const) {
    if (!isPowerOfTwo(resolved[name])) throw optionError(name, resolved[name], "a power of two");
  }
  const ordered = [
    ["ephemeralPortFirst", "ephemeralPortLast"],
    ["rtoMinUs", "rtoMaxUs"],
    ["rtoInitialUs", "rtoMaxUs"],
    ["streamPoolBytes", "memoryBytes"],
  ] as const;
  for (const [low, high] of ordered) {
    if (resolved[low] > resolved[high]) throw optionError(low, resolved[low], `at most ${high} (${resolved[high]})`);
  }
  return resolved;
}

const LOOPBACK: readonly Cidr[] = [parseCidr("127.0.0.1/32"), parseCidr("::1/128")];

/** Behind the own addresses, so that those keep their indexes: the loopback address of each family that is spoken. */
function withLoopback({ addresses, network }: KernelConfig): readonly Cidr[] {
  const families = new Set(addresses.map(({ family }) => family));
  if (network?.dhcp) families.add(4);
  return [...addresses, ...LOOPBACK.filter(({ family }) => families.has(family))].slice(0, C.ADDRESSES_MAX);
}

/** Writes the configuration record. Call once, before boot(). */
export function writeConfig(memory: KernelMemory, config: KernelConfig): void {
  checkInteger("address (number of them)", config.addresses.length, config.network?.dhcp ? 0 : 1, C.ADDRESSES_MAX);
  checkInteger("rxLanes", config.rxLanes, 1, RX_LANES_MAX);
  checkInteger("mtuBytes", config.mtuBytes, 576, 65535);
  checkInteger("kernelsMax", config.kernelsMax ?? 1, 1, MESSAGE_KERNELS_MAX);
  const record = new DataView(memory.memory.buffer, CONFIG_BASE, C.CONFIG_SIZE_BYTES);
  const setU32 = (offset: number, value: number) => record.setUint32(offset, value, true);
  setU32(C.CONFIG_LAYOUT_VERSION, LAYOUT_VERSION);
  setU32(C.CONFIG_KERNEL_ID, config.kernelId);
  setU32(C.CONFIG_KERNELS_MAX, config.kernelsMax ?? 1);
  config.seed.forEach((word, index) => {
    setU32(C.CONFIG_SEED + 4 * index, word);
  });
  config.stackSeed?.forEach((word, index) => {
    setU32(C.CONFIG_STACK_SEED + 4 * index, word);
  });
  config.fastOpenKeys?.forEach((word, index) => {
    setU32(C.CONFIG_FAST_OPEN_KEYS + 4 * index, word);
  });
  memory.bytes.set(config.mac, CONFIG_BASE + C.CONFIG_MAC);
  record.setUint16(C.CONFIG_MTU_BYTES, config.mtuBytes, true);
  setU32(C.CONFIG_RX_LANES, config.rxLanes);
  setU32(C.CONFIG_TSO_BYTES_MAX, config.tsoBytesMax);
  const { first, last, groups } = groupRuleOf(config);
  setU32(C.CONFIG_FLOW_GROUP_MASK, groups - 1);
  setU32(C.CONFIG_LOCAL_PORT_FIRST, first);
  setU32(C.CONFIG_LOCAL_PORT_LAST, last);
  setU32(
    C.CONFIG_FLAGS,
    (config.checksumOffload ? C.CONFIG_FLAG_CHECKSUM_OFFLOAD : 0) |
      (config.timestamps ? C.CONFIG_FLAG_TIMESTAMPS : 0) |
      (config.noDelay ? C.CONFIG_FLAG_NODELAY : 0),
  );
  for (const [name, offset] of Object.entries(TUNING_OFFSETS)) setU32(offset, config.tuning[name as keyof Tuning]);
  const addresses = withLoopback(config);
  setU32(C.CONFIG_ADDRESS_COUNT, addresses.length);
  addresses.forEach(({ address, prefixLength }, index) => {
    const at = CONFIG_BASE + C.CONFIG_ADDRESSES + index * C.ADDRESS_SIZE_BYTES;
    memory.bytes.set(address, at);
    memory.bytes[at + C.ADDRESS_PREFIX_LENGTH] = prefixLength;
  });
  memory.bytes.set(config.gateway.subarray(0, ADDRESS_BYTES), CONFIG_BASE + C.CONFIG_GATEWAY);
}
