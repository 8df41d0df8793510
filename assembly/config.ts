/** The kernel's configuration, read once at boot from CONFIG_BASE (src/layout/config.ts has units and meaning). */
import * as C from "../src/layout/config.ts";
import { CONFIG_BASE } from "../src/layout/kernelMemory.ts";

export let kernelId: u32 = 0;
export let memoryBytes: usize = 0;
export let flags: u32 = 0;
export let mtuBytes: u32 = 0;
export let connectionsMax: u32 = 0;
export let eventSlots: u32 = 0;
export let rxLanes: u32 = 0;
export let rxRingBytes: u32 = 0;
export let txRingBytes: u32 = 0;
export let streamPoolBytes: u32 = 0;
export let tsoBytesMax: u32 = 0;
export let flowGroupMask: u32 = 0;
/** Own ports that have a part in the flow group. */
export let localPortFirst: u32 = 1;
export let localPortLast: u32 = 0;
export let timeWaitMs: u32 = 0;
export let rtoMinUs: u32 = 0;
export let rtoInitialUs: u32 = 0;
export let rtoMaxUs: u32 = 0;
export let delayedAckUs: u32 = 0;
export let rcvBufferBytesMax: u32 = 0;
export let sndBufferBytesMax: u32 = 0;
export let synRetriesMax: u32 = 0;
export let retriesMax: u32 = 0;
export let keepaliveIdleMs: u32 = 0;
export let keepaliveIntervalMs: u32 = 0;
export let keepaliveProbesMax: u32 = 0;
export let ephemeralPortFirst: u32 = 0;
export let ephemeralPortLast: u32 = 0;
export let listenersMax: u32 = 0;
export let udpSocketsMax: u32 = 0;
export let neighborsMax: u32 = 0;
export let reassemblyBytesMax: u32 = 0;
export let neighborExpiryMs: u32 = 0;
export let acceptRedirects: bool = false;
export let kernelsMax: u32 = 0;
export let messageRingBytes: u32 = 0;
/** CONGESTION_* of new connections. */
export let congestionDefault: u32 = 0;
export let ecnMode: u32 = 0;
export let hopLimit: u32 = 64;
export let quickAcks: u32 = 0;
/** 1: RFC 2861, 2: RFC 7661. */
export let slowStartAfterIdle: u32 = 0;
export let mtuProbing: u32 = 0;
export let sackEnabled: bool = false;
/** FAST_OPEN_*. */
export let fastOpenMode: u32 = 0;

/** The device fills and checks TCP/UDP checksums. */
export let checksumOffload: bool = false;
export let timestamps: bool = false;
export let nodelayDefault: bool = false;

/** Where the own Ethernet address lies (6 bytes). */
export const OWN_MAC: usize = CONFIG_BASE + C.CONFIG_MAC;

function word(offset: usize): u32 {
  return load<u32>(<usize>CONFIG_BASE + offset);
}

export function seedWord(index: u32): u32 {
  return load<u32>(CONFIG_BASE + C.CONFIG_SEED + (index << 2));
}

/** Of the secret that all kernels of a stack share; a kernel that was given none has its own seed. */
export function stackSeedWord(index: u32): u32 {
  const at: usize = CONFIG_BASE + C.CONFIG_STACK_SEED;
  const given = (load<u64>(at) | load<u64>(at, 8)) != 0;
  return given ? load<u32>(at + (index << 2)) : seedWord(index);
}

/** @param index 0..7: the present key, then the one before. */
export function fastOpenKeyWord(index: u32): u32 {
  return load<u32>(CONFIG_BASE + C.CONFIG_FAST_OPEN_KEYS + (index << 2));
}

export function configLoad(): void {
  sizesLoad();
  tuningReload();
}

/** What boot() has carved the memory by. */
function sizesLoad(): void {
  kernelId = word(C.CONFIG_KERNEL_ID);
  memoryBytes = word(C.CONFIG_MEMORY_BYTES);
  flags = word(C.CONFIG_FLAGS);
  mtuBytes = load<u16>(CONFIG_BASE + C.CONFIG_MTU_BYTES);
  connectionsMax = word(C.CONFIG_CONNECTIONS_MAX);
  eventSlots = word(C.CONFIG_EVENT_SLOTS);
  rxLanes = word(C.CONFIG_RX_LANES);
  rxRingBytes = word(C.CONFIG_RX_RING_BYTES);
  txRingBytes = word(C.CONFIG_TX_RING_BYTES);
  streamPoolBytes = word(C.CONFIG_STREAM_POOL_BYTES);
  tsoBytesMax = word(C.CONFIG_TSO_BYTES_MAX);
  flowGroupMask = word(C.CONFIG_FLOW_GROUP_MASK);
  localPortFirst = word(C.CONFIG_LOCAL_PORT_FIRST);
  localPortLast = word(C.CONFIG_LOCAL_PORT_LAST);
  rcvBufferBytesMax = word(C.CONFIG_RCV_BUFFER_BYTES_MAX);
  sndBufferBytesMax = word(C.CONFIG_SND_BUFFER_BYTES_MAX);
  ephemeralPortFirst = word(C.CONFIG_EPHEMERAL_PORT_FIRST);
  ephemeralPortLast = word(C.CONFIG_EPHEMERAL_PORT_LAST);
  listenersMax = word(C.CONFIG_LISTENERS_MAX);
  udpSocketsMax = word(C.CONFIG_UDP_SOCKETS_MAX);
  neighborsMax = word(C.CONFIG_NEIGHBORS_MAX);
  reassemblyBytesMax = word(C.CONFIG_REASSEMBLY_BYTES_MAX);
  kernelsMax = word(C.CONFIG_KERNELS_MAX);
  messageRingBytes = word(C.CONFIG_MESSAGE_RING_BYTES);
  checksumOffload = (flags & C.CONFIG_FLAG_CHECKSUM_OFFLOAD) != 0;
}

/** See KernelExports.tuningReload. What a connection has taken over when it was opened stays with it. */
export function tuningReload(): void {
  flags = word(C.CONFIG_FLAGS);
  timeWaitMs = word(C.CONFIG_TIME_WAIT_MS);
  rtoMinUs = word(C.CONFIG_RTO_MIN_US);
  rtoInitialUs = word(C.CONFIG_RTO_INITIAL_US);
  rtoMaxUs = word(C.CONFIG_RTO_MAX_US);
  delayedAckUs = word(C.CONFIG_DELAYED_ACK_US);
  synRetriesMax = word(C.CONFIG_SYN_RETRIES_MAX);
  retriesMax = word(C.CONFIG_RETRIES_MAX);
  keepaliveIdleMs = word(C.CONFIG_KEEPALIVE_IDLE_MS);
  keepaliveIntervalMs = word(C.CONFIG_KEEPALIVE_INTERVAL_MS);
  keepaliveProbesMax = word(C.CONFIG_KEEPALIVE_PROBES_MAX);
  neighborExpiryMs = word(C.CONFIG_NEIGHBOR_EXPIRY_MS);
  acceptRedirects = word(C.CONFIG_ACCEPT_REDIRECTS) != 0;
  congestionDefault = word(C.CONFIG_CONGESTION);
  ecnMode = word(C.CONFIG_ECN);
  hopLimit = word(C.CONFIG_HOP_LIMIT);
  quickAcks = word(C.CONFIG_QUICK_ACKS);
  slowStartAfterIdle = word(C.CONFIG_SLOW_START_AFTER_IDLE);
  mtuProbing = word(C.CONFIG_MTU_PROBING);
  sackEnabled = word(C.CONFIG_SACK) != 0;
  fastOpenMode = word(C.CONFIG_FAST_OPEN);
  timestamps = (flags & C.CONFIG_FLAG_TIMESTAMPS) != 0;
  nodelayDefault = (flags & C.CONFIG_FLAG_NODELAY) != 0;
}
