/**
 * The transmission control block and its pool. A connection that idles costs its two hot cache lines (128 B), its cold
 * record (48 B) and its share of the flow table; buffers and the extension block exist only while they hold something,
 * and what only TCP_INFO asks for is written from the first byte of data on (64 B, account.ts), or in trouble (64 B,
 * history.ts).
 * Names are those of RFC 9293 3.3.1.
 *
 * Fields that hold addresses, all of blocks from the stream pool that hold none themselves: sndBuf, rcvBuf (sizes in
 * sndBufOrder, rcvBufOrder), ext (its size at +12, reassembly.ts), flight (Flight.order, flight.ts).
 */
import { connectionsMax } from "../config.ts";
import { GAUGE_CONNECTIONS } from "../../src/layout/counters.ts";
import { HANDLE_GENERATION_MASK, HANDLE_GENERATION_SHIFT, HANDLE_INDEX_MASK } from "../../src/layout/event.ts";
import { MAP_BASE, MAP_TCB_HIGH_WATER, MAP_TCBS } from "../../src/layout/kernelMemory.ts";
import { STATE_FREE } from "../../src/layout/option.ts";
import * as LAYOUT from "../../src/layout/tcb.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { clearBytes } from "../mem/copy.ts";
import { counterSet } from "../stats.ts";
import { settingsDrop } from "./settings.ts";

export const TCB_NONE: u32 = 0xffffffff;
export const TCB_SIZE_BYTES: u32 = LAYOUT.TCB_SIZE_BYTES;
export const TCB_COLD_SIZE_BYTES: u32 = 48;

/** Stands in the output queue: something may have to be sent. Survives the connection, like F_READY. */
export const F_DIRTY: u32 = 1;
/** Stands in the ready queue. */
export const F_READY: u32 = 2;
/** The application knows the handle (accepted, or active open). */
export const F_APP: u32 = 4;
/** The application has closed: no more events but EVENT_CLOSED. */
export const F_APP_CLOSED: u32 = 8;
/** In-order data or FIN has arrived that is not acknowledged yet. */
export const F_ACK_PENDING: u32 = 16;
/** An ACK must go out with the next output. */
export const F_ACK_NOW: u32 = 32;
/** FIN is queued behind the send buffer's bytes. */
export const F_FIN_QUEUED: u32 = 64;
/** The peer's FIN has been received in order. */
export const F_FIN_RECEIVED: u32 = 128;
/** Timestamps are in use (RFC 7323). */
export const F_TIMESTAMPS: u32 = 256;
export const F_NODELAY: u32 = 512;
/** A send was cut short: EVENT_WRITABLE is owed. */
export const F_WANT_WRITABLE: u32 = 1024;
/** Fast recovery until `recover` is acknowledged (RFC 6582). */
export const F_RECOVERY: u32 = 2048;
/** timerTick is armed for a tail loss probe (RFC 8985 7). */
export const F_TIMER_TLP: u32 = 1 << 19;
/** timerTick is armed for the end of RACK's reordering window (RFC 8985 6.2, step 5). */
export const F_TIMER_REO: u32 = 1 << 22;
/** An RTT sample is being taken. */
export const F_RTT_TIMING: u32 = 4096;
/** timerTick is armed for: retransmission or persist. All of F_TIMER_* but DELACK exclude each other. */
export const F_TIMER_RTO: u32 = 8192;
export const F_TIMER_DELACK: u32 = 16384;
export const F_TIMER_PERSIST: u32 = 32768;
/** Linked into the timer wheel. */
export const F_IN_WHEEL: u32 = 65536;
export const F_KEEPALIVE: u32 = 131072;
export const F_QUICKACK: u32 = 262144;
/** One retransmission of the segment at SND.UNA is due (fast retransmit, partial ACK). */
export const F_RETRANSMIT: u32 = 1 << 20;
/** timerTick counts the end of TIME_WAIT, of FIN_WAIT_2, or keep-alive. */
export const F_TIMER_LINGER: u32 = 1 << 21;
/** A SYN or SYN-ACK is to be sent with the next output. */
export const F_SYN_DUE: u32 = 1 << 23;
/** Counted in its listener's SYN queue. */
export const F_IN_SYN_QUEUE: u32 = 1 << 24;
/** Stands in its listener's accept queue. */
export const F_IN_ACCEPT_QUEUE: u32 = 1 << 25;
/** After an RTO: what lies below `recover` is being sent again, slow start applies. */
export const F_RTO_RECOVERY: u32 = 1 << 26;
/** A keep-alive or window probe is due with the next output. */
export const F_PROBE: u32 = 1 << 27;
/** Stands in the flow table. */
export const F_IN_FLOW_TABLE: u32 = 1 << 28;
/** More than a quarter of the present receive (send) ring has been in use: the next one need not be smaller. */
export const F_RCV_RING_USED: u32 = 1 << 29;
export const F_SND_RING_USED: u32 = 1 << 30;
/** We opened it. */
export const F_ACTIVE_OPEN: u32 = 1 << 31;

@unmanaged
export class Tcb {
  // First line: what every arriving segment needs.
  /** Remote address, 16 bytes, IPv4-mapped. */
  remoteHigh: u64;
  remoteMid: u32;
  /** The IPv4 address, in memory order. */
  remoteV4: u32;
  /** Both ports as they stand in a received segment: remote in the low half, local in the high half, network order. */
  ports: u32;
  /** Flow hash. */
  hash: u32;
  /** F_*. */
  flags: u32;
  /** Index of the local address. */
  localIndex: u8;
  private stateByte: u8;
  generation: u8;
  /** Pending EVENT_*. */
  events: u8;
  rcvNxt: u32;
  sndUna: u32;
  sndNxt: u32;
  /** Bytes, scaled. */
  sndWnd: u32;
  sndWl1: u32;
  /** Flight block (flight.ts): 0 while there is no more in flight than one burst. */
  flight: u32;
  /** Highest right edge of the receive window that was ever offered. */
  rcvAdv: u32;
  tsRecent: u32;
  // Second line: buffers, sending, timers.
  /** Send ring: byte with sequence number s lies at sndBuf + (s & (2^order - 1)); 0: none. */
  sndBuf: u32;
  rcvBuf: u32;
  /** Sequence number after the last byte in the send buffer (the FIN's number when one is queued). */
  sndBufEnd: u32;
  /** Sequence number of the next byte that the application will read. */
  rcvRead: u32;
  /** Sizes as powers of two; of the last buffer when there is none now. */
  sndBufOrder: u8;
  rcvBufOrder: u8;
  /** Retransmissions or probes in a row: the exponent of the back-off. */
  backoff: u8;
  dupAcks: u8;
  /** Payload bytes of a full segment, without options. */
  sndMss: u16;
  neighbor: u16;
  cwnd: u32;
  ssthresh: u32;
  /** Smoothed RTT times 8, in microseconds (RFC 6298 with Jacobson's scaling); 0: no sample yet. */
  srttUs8: u32;
  /** RTT variation times 4. */
  rttvarUs4: u32;
  timerNext: u32;
  timerPrev: u32;
  /** Tick under which the TCB is linked in the wheel; its true deadline may be later. */
  wheelTick: u32;
  /** Deadline of the retransmission, persist or linger timer (F_TIMER_*). */
  timerTick: u32;
  /** Highest sequence number sent so far, plus one. */
  sndMax: u32;
  /** Extension block (reassembly.ts): 0 when all data has come in order. */
  ext: u32;

  /** STATE_*. */
  get state(): i32 {
    return <i32>this.stateByte;
  }

  set state(value: i32) {
    this.stateByte = <u8>value;
  }
}

if (offsetof<Tcb>("remoteHigh") != LAYOUT.TCB_REMOTE_ADDRESS) ERROR("layout/tcb.ts: TCB_REMOTE_ADDRESS");
if (offsetof<Tcb>("ports") != LAYOUT.TCB_PORTS) ERROR("layout/tcb.ts: TCB_PORTS");
if (offsetof<Tcb>("flags") != LAYOUT.TCB_FLAGS) ERROR("layout/tcb.ts: TCB_FLAGS");
if (offsetof<Tcb>("localIndex") != LAYOUT.TCB_LOCAL_INDEX) ERROR("layout/tcb.ts: TCB_LOCAL_INDEX");
if (offsetof<Tcb>("stateByte") != LAYOUT.TCB_STATE) ERROR("layout/tcb.ts: TCB_STATE");
if (offsetof<Tcb>("generation") != LAYOUT.TCB_GENERATION) ERROR("layout/tcb.ts: TCB_GENERATION");
if (offsetof<Tcb>("rcvNxt") != LAYOUT.TCB_RCV_NXT) ERROR("layout/tcb.ts: TCB_RCV_NXT");
if (offsetof<Tcb>("sndUna") != LAYOUT.TCB_SND_UNA) ERROR("layout/tcb.ts: TCB_SND_UNA");
if (F_APP != LAYOUT.TCB_FLAG_APP) ERROR("layout/tcb.ts: TCB_FLAG_APP");
if (F_IN_FLOW_TABLE != LAYOUT.TCB_FLAG_IN_FLOW_TABLE) ERROR("layout/tcb.ts: TCB_FLAG_IN_FLOW_TABLE");
if (TCB_SIZE_BYTES != LAYOUT.TCB_SIZE_BYTES) ERROR("layout/tcb.ts: TCB_SIZE_BYTES");

/** What is needed at set-up, in trouble, and once in a while. */
@unmanaged
export class TcbCold {
  /** Before ESTABLISHED the ISS; then SND.MAX when loss recovery began (RFC 6582). */
  recover: u32;
  delackTick: u32;
  /** TRAIT_*. */
  traits: u32;
  /**
   * Next in the accept queue. Once the connection is accepted: CUBIC's W_max while there is no flight block. Nothing
   * may reduce a window, or make a flight block, before that: such a connection has nothing in flight.
   */
  acceptNext: u32;
  /** When tsRecent was taken, ms. */
  tsRecentMs: u32;
  /** Last sign of life from the peer, tick. */
  lastRcvTick: u32;
  /** Largest window the peer has offered (RFC 9293 3.8.6.2.1). */
  sndWndMax: u32;
  rttSeq: u32;
  /** When what is, or was last, being timed was sent. In the accept queue: since when it waits (listener.ts). */
  rttStartUs: u32;
  retransmits: u16;
  /** Status for the application. */
  error: i16;
  /** Limits of the buffers, powers of two; socket/autoTuning.ts raises them. */
  rcvLimitOrder: u8;
  sndLimitOrder: u8;
  /** Listener's index until the connection is accepted; then the period of the last answer to a pure ACK. */
  listener: u16;
  /** Sending in the lower half, receiving in the upper. */
  private wscales: u8;
  /** The part of a stream pool that runs short which reading has earned, a power of two (window.ts); 0: none yet. */
  rcvEarnedOrder: u8;
  /** Keep-alive or window probes since the last sign of life. Before ESTABLISHED: ackRefused. */
  unanswered: u8;
  synOptions: u8;

  get sndWscale(): u8 {
    return this.wscales & 15;
  }

  set sndWscale(value: u8) {
    this.wscales = (this.wscales & 0xf0) | value;
  }

  get rcvWscale(): u8 {
    return this.wscales >> 4;
  }

  set rcvWscale(value: u8) {
    this.wscales = (this.wscales & 15) | (value << 4);
  }

  get waitsSinceUs(): u32 {
    return this.rttStartUs;
  }

  set waitsSinceUs(value: u32) {
    this.rttStartUs = value;
  }

  /** We have refused an ACK of the handshake: what ends it now may have waited for long (established.ts). */
  get ackRefused(): bool {
    return this.unanswered != 0;
  }

  set ackRefused(value: bool) {
    this.unanswered = value ? 1 : 0;
  }

  /** Bytes; 0: none yet. */
  get wMaxBytes(): u32 {
    return this.acceptNext;
  }

  set wMaxBytes(value: u32) {
    this.acceptNext = value;
  }
}

if (offsetof<TcbCold>() != TCB_COLD_SIZE_BYTES) ERROR("TcbCold does not fill its record");

/** Both sides permit SACK (RFC 2018). */
export const TRAIT_SACK: u32 = 1;
/** Both sides do ECN (RFC 3168). */
export const TRAIT_ECN: u32 = 2;
/** A packet with CE has come: ECE goes with every ACK until CWR comes. */
export const TRAIT_ECE: u32 = 4;
/** The window has been reduced: CWR goes with the next new data of a connection with ECN. */
export const TRAIT_CWR: u32 = 8;
/** The window is being reduced for ECE until `recover` is acknowledged: Linux's state CWR. */
export const TRAIT_CWR_STATE: u32 = 16;
/** With TRAIT_ECN: accurate ECN (RFC 9768), and the connection has a record in accurateEcn.ts. */
export const TRAIT_ACCURATE_ECN: u32 = 128;
/** At the last output it was the congestion window that held data back. */
export const TRAIT_LIMITED: u32 = 64;
/** A packet with ECT has come. */
export const TRAIT_ECN_SEEN: u32 = 32;
/** Quick ACKs that were spent, four bits; above them: there are none left, ACKs wait delayedAckUs (timers.ts). */
export const TRAIT_QUICK_ACK: u32 = 1 << 24;
export const TRAIT_DELAYS_ACKS: u32 = 16 << 24;
/** Fast open (RFC 7413), passive: opened by its SYN alone; the handshake is not over. */
export const TRAIT_FAST_OPEN_CHILD: u32 = 1 << 10;
/** The SYN-ACK offers a cookie. */
export const TRAIT_FAST_OPEN_OFFER: u32 = 1 << 11;
/** Active: the SYN asks for a cookie or brings one; and it waits for the first bytes where one is known. */
export const TRAIT_FAST_OPEN_ASK: u32 = 1 << 12;
export const TRAIT_FAST_OPEN_WAIT: u32 = 1 << 13;
/** The option in its experimental form. */
export const TRAIT_FAST_OPEN_EXPERIMENTAL: u32 = 1 << 14;
/** The application has set the limit of the buffer: it stays (socket/autoTuning.ts). */
export const TRAIT_RCV_BUFFER_SET: u32 = 1 << 16;
export const TRAIT_SND_BUFFER_SET: u32 = 1 << 17;
/** The next data to come is to be timed, for the receive buffer's size. */
export const TRAIT_RCV_RTT: u32 = 1 << 18;
/** Data in a SYN has been taken. */
export const TRAIT_SYN_DATA: u32 = 1 << 15;
/** Has met a black hole and looks for the path's MTU (mtuProbe.ts). */
export const TRAIT_MTU_SEARCH: u32 = 1 << 19;
/** SOFT_*, three bits (softError.ts). */
export const TRAIT_SOFT_ERROR: u32 = 1 << 20;
export const TRAIT_SOFT_ERROR_MASK: u32 = 7 << 20;
/** Since all was acknowledged last a segment smaller than the MSS was sent; more than one (output.ts: Nagle). */
export const TRAIT_SMALL_SENT: u32 = 1 << 23;
export const TRAIT_SMALLS_SENT: u32 = 1 << 29;
/** It has moved data: there is a record in account.ts. */
export const TRAIT_ACCOUNT: u32 = 1 << 30;
/** There is a record in history.ts. */
export const TRAIT_HISTORY: u32 = 1 << 31;
/** CONGESTION_*, two bits. */
export const TRAIT_CONGESTION_SHIFT: u32 = 8;
export const TRAIT_CONGESTION_MASK: u32 = 3 << 8;

/** Bits must not mean two things: the sum of them all is their union. */
const TRAITS_UNION: u32 =
  TRAIT_SACK |
  TRAIT_ECN |
  TRAIT_ECE |
  TRAIT_CWR |
  TRAIT_CWR_STATE |
  TRAIT_ACCURATE_ECN |
  TRAIT_LIMITED |
  TRAIT_ECN_SEEN |
  TRAIT_FAST_OPEN_CHILD |
  TRAIT_FAST_OPEN_OFFER |
  TRAIT_FAST_OPEN_ASK |
  TRAIT_FAST_OPEN_WAIT |
  TRAIT_FAST_OPEN_EXPERIMENTAL |
  TRAIT_RCV_BUFFER_SET |
  TRAIT_SND_BUFFER_SET |
  TRAIT_RCV_RTT |
  TRAIT_SYN_DATA |
  TRAIT_MTU_SEARCH |
  TRAIT_SOFT_ERROR_MASK |
  TRAIT_SMALL_SENT |
  TRAIT_SMALLS_SENT |
  TRAIT_ACCOUNT |
  TRAIT_HISTORY |
  (15 * TRAIT_QUICK_ACK) |
  TRAIT_DELAYS_ACKS |
  TRAIT_CONGESTION_MASK;
const TRAITS_SUM: u64 =
  <u64>TRAIT_SACK +
  TRAIT_ECN +
  TRAIT_ECE +
  TRAIT_CWR +
  TRAIT_CWR_STATE +
  TRAIT_ACCURATE_ECN +
  TRAIT_LIMITED +
  TRAIT_ECN_SEEN +
  TRAIT_FAST_OPEN_CHILD +
  TRAIT_FAST_OPEN_OFFER +
  TRAIT_FAST_OPEN_ASK +
  TRAIT_FAST_OPEN_WAIT +
  TRAIT_FAST_OPEN_EXPERIMENTAL +
  TRAIT_RCV_BUFFER_SET +
  TRAIT_SND_BUFFER_SET +
  TRAIT_RCV_RTT +
  TRAIT_SYN_DATA +
  TRAIT_MTU_SEARCH +
  TRAIT_SOFT_ERROR_MASK +
  TRAIT_SMALL_SENT +
  TRAIT_SMALLS_SENT +
  TRAIT_ACCOUNT +
  TRAIT_HISTORY +
  15 * TRAIT_QUICK_ACK +
  TRAIT_DELAYS_ACKS +
  TRAIT_CONGESTION_MASK;
if (<u64>TRAITS_UNION != TRAITS_SUM) ERROR("two traits have one bit");

let hotBase: usize = 0;
let coldBase: usize = 0;
/** Free slots whose handles have been stale for long, the last one first: it is in the cache. */
let freeHead: u32 = TCB_NONE;
/**
 * Slots that have become free lately, the first one first. A handle has few bits for its generation, so a slot rests
 * until RESTING_MAX others have become free after it, and an application that still uses the handle of a connection
 * that has ended does not reach another one.
 */
let restingHead: u32 = TCB_NONE;
let restingTail: u32 = TCB_NONE;
let restingCount: u32 = 0;
const RESTING_MAX: u32 = 256;
let highWater: u32 = 0;
export let tcbCount: u32 = 0;

export function tcbBoot(): bool {
  hotBase = arenaAlloc(<usize>connectionsMax * TCB_SIZE_BYTES, 4096);
  coldBase = arenaAlloc(<usize>connectionsMax * TCB_COLD_SIZE_BYTES, 64);
  store<u32>(MAP_BASE, <u32>hotBase, MAP_TCBS);
  return hotBase != 0 && coldBase != 0;
}

/** Slots below this have been in use. */
export function tcbHighWater(): u32 {
  return highWater;
}

export function tcbAt(index: u32): Tcb {
  return changetype<Tcb>(hotBase + ((<usize>index) << 7));
}

export function tcbIndex(tcb: Tcb): u32 {
  return <u32>((changetype<usize>(tcb) - hotBase) >> 7);
}

export function coldOf(tcb: Tcb): TcbCold {
  return changetype<TcbCold>(coldBase + <usize>tcbIndex(tcb) * TCB_COLD_SIZE_BYTES);
}

/**
 * Brings a connection into the cache, so that the misses overlap: both lines of its hot record and the one in which its
 * cold record begins. That one takes 48 bytes of lines of 64, so half of them reach into the next line, which is left.
 */
export function tcbTouch(index: u32): void {
  const tcb = tcbAt(index);
  load<u8>(changetype<usize>(tcb));
  load<u8>(changetype<usize>(tcb), 64);
  load<u8>(changetype<usize>(coldOf(tcb)));
}

export function handleOf(tcb: Tcb): u32 {
  return tcbIndex(tcb) | ((<u32>tcb.generation) << HANDLE_GENERATION_SHIFT);
}

/** The application's connection of this handle, or null when it is stale, foreign or closed. */
export function tcbOfHandle(handle: i32): Tcb {
  const tcb = tcbOfAnyHandle(handle);
  return changetype<usize>(tcb) == 0 || tcb.flags & F_APP_CLOSED ? changetype<Tcb>(0) : tcb;
}

/** Likewise, also after tcpClose, until its EVENT_CLOSED has been told. */
export function tcbOfAnyHandle(handle: i32): Tcb {
  const index = <u32>handle & HANDLE_INDEX_MASK;
  if (index >= highWater || handle < 0) return changetype<Tcb>(0);
  const tcb = tcbAt(index);
  if (<u32>tcb.generation != <u32>handle >> HANDLE_GENERATION_SHIFT) return changetype<Tcb>(0);
  return tcb.state == STATE_FREE || !(tcb.flags & F_APP) ? changetype<Tcb>(0) : tcb;
}

/** A zeroed TCB with a fresh generation, or null when connectionsMax are in use. */
export function tcbAlloc(): Tcb {
  let index = freeHead;
  if (index != TCB_NONE) {
    freeHead = tcbAt(index).timerNext;
    // Whoever comes next finds its slot in the cache.
    if (freeHead != TCB_NONE) tcbTouch(freeHead);
  } else if (highWater < connectionsMax) {
    index = highWater++;
    store<u32>(MAP_BASE, highWater, MAP_TCB_HIGH_WATER);
  } else {
    index = restingShift();
    if (index == TCB_NONE) return changetype<Tcb>(0);
  }
  const tcb = tcbAt(index);
  const generation = (tcb.generation + 1) & HANDLE_GENERATION_MASK;
  // The slot may still stand in a queue from its last life; it must not stand there twice.
  const queued = tcb.flags & (F_DIRTY | F_READY);
  clearBytes(changetype<usize>(tcb), TCB_SIZE_BYTES);
  clearBytes(changetype<usize>(coldOf(tcb)), TCB_COLD_SIZE_BYTES);
  tcb.generation = <u8>generation;
  tcb.flags = queued;
  tcbCount++;
  counterSet(GAUGE_CONNECTIONS, tcbCount);
  return tcb;
}

/** Handles to this connection are stale from now on. */
export function tcbRenew(tcb: Tcb): void {
  tcb.generation = <u8>((tcb.generation + 1) & HANDLE_GENERATION_MASK);
}

/**
 * Ends a connection's life: its handle is stale, its slot is not used again before tcbReturn.
 * Preconditions: in no list, table or wheel, without buffers. It may stand in the output and ready queues: they skip
 * it.
 */
export function tcbRetire(tcb: Tcb): void {
  if (!ASC_NO_ASSERT) assert(tcb.state != STATE_FREE && !(tcb.flags & (F_IN_WHEEL | F_IN_FLOW_TABLE)), "TCB in use");
  tcb.state = STATE_FREE;
  settingsDrop(tcbIndex(tcb));
  tcbCount--;
  counterSet(GAUGE_CONNECTIONS, tcbCount);
}

/** The slot of a retired connection may be used again, but rather later than sooner. */
export function tcbReturn(tcb: Tcb): void {
  const index = tcbIndex(tcb);
  tcb.timerNext = TCB_NONE;
  if (restingTail == TCB_NONE) restingHead = index;
  else tcbAt(restingTail).timerNext = index;
  restingTail = index;
  if (++restingCount <= RESTING_MAX) return;
  const rested = restingShift();
  tcbAt(rested).timerNext = freeHead;
  freeHead = rested;
}

/** The slot that has been free for longest, of those that rest. */
function restingShift(): u32 {
  const index = restingHead;
  if (index == TCB_NONE) return index;
  restingHead = tcbAt(index).timerNext;
  if (restingHead == TCB_NONE) restingTail = TCB_NONE;
  restingCount--;
  return index;
}
