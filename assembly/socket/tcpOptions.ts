/** Socket options: of a connection, and of a listener for the connections that it will accept. */
import { listenersMax } from "../config.ts";
import * as O from "../../src/layout/option.ts";
import { EBADF, EINVAL, ENOBUFS } from "../../src/layout/status.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { STREAM_ORDER_MAX, streamOrderFor } from "../mem/streamPool.ts";
import { congestionChoose } from "../tcp/algorithm.ts";
import { fastOpenAsk } from "../tcp/fastOpenClient.ts";
import { listenerAt, listenerIndexOf } from "../tcp/listener.ts";
import { outputMark } from "../tcp/outputQueue.ts";
import { seqLt } from "../tcp/seq.ts";
import {
  Settings,
  SETTING_CORK,
  SETTING_LINGER_RESET,
  SETTING_PUSH,
  SETTING_TIMEOUT_FIXED,
  SETTING_URGENT_TOLD,
  SETTING_USER_TIMING,
  settingsFind,
  settingsHas,
  settingsOf,
} from "../tcp/settings.ts";
import * as T from "../tcp/tcb.ts";
import { Tcb, coldOf, tcbOfHandle } from "../tcp/tcb.ts";
import { MAIN_TIMERS, keepaliveArm } from "../tcp/timers.ts";
import { urgentQueued } from "../tcp/urgent.ts";
import { userTimeoutAdvertise } from "../tcp/userTimeout.ts";

/** The two bits of TOS that are ECN's (RFC 3168 5). */
const ECN_MASK: u8 = 3;
/** As for keepaliveIdleMs in the configuration. */
const KEEPALIVE_MS_MAX: u32 = 32767000;
/** Keep-alive probes, SYNs. */
const PROBES_MAX: u32 = 127;
/** RFC 879's smallest that makes sense; less is an attack on oneself. */
const MAXSEG_MIN: u32 = 64;
/** 39 hours is what a timer reaches. */
const USER_TIMEOUT_MS_MAX: u32 = 86400000;

/** Values of a listener's options, u32 each, indexed by OPTION_*. */
const LISTENER_OPTIONS_BYTES: u32 = (<u32>O.OPTION_COUNT) << 2;
let inherited: usize = 0;

export function tcpOptionsBoot(): bool {
  inherited = arenaAlloc(<usize>listenersMax * LISTENER_OPTIONS_BYTES, 64);
  return inherited != 0;
}

/** See KernelExports.tcpSetOption. */
export function tcpSetOption(handle: i32, option: i32, value: u32): i32 {
  const tcb = tcbOfHandle(handle);
  if (changetype<usize>(tcb) == 0) return EBADF;
  return optionSet(tcb, option, value);
}

/** See KernelExports.tcpListenSetOption. */
export function tcpListenSetOption(handle: i32, option: i32, value: u32): i32 {
  const index = listenerIndexOf(handle);
  if (index < 0) return EBADF;
  if (!optionIsValid(option, value)) return EINVAL;
  store<u32>(inherited + <u32>index * LISTENER_OPTIONS_BYTES + ((<u32>option) << 2), value);
  const listener = listenerAt(index);
  listener.optionMask |= (<u32>1) << option;
  if (option == O.OPTION_DEFER_ACCEPT_MS) listener.deferAcceptMs = value;
  if (option == O.OPTION_FAST_OPEN) listener.fastOpenMax = value;
  return 0;
}

/** Gives a connection what its listener has been set to. @param mask bits of the options set. */
export function optionsInherit(tcb: Tcb, listenerIndex: u32, mask: u32): void {
  const values = inherited + listenerIndex * LISTENER_OPTIONS_BYTES;
  for (let option: i32 = 1; option < O.OPTION_COUNT; option++) {
    // Where there is no room for settings the connection has the configured ones.
    if (mask & ((<u32>1) << option)) optionSet(tcb, option, load<u32>(values + ((<u32>option) << 2)));
  }
}

function optionIsValid(option: i32, value: u32): bool {
  switch (option) {
    case O.OPTION_NODELAY:
    case O.OPTION_QUICKACK:
    case O.OPTION_KEEPALIVE:
    case O.OPTION_CORK:
    case O.OPTION_LINGER_RESET:
      return true;
    case O.OPTION_RCV_BUFFER_BYTES:
    case O.OPTION_SND_BUFFER_BYTES:
      return value >= 2048;
    case O.OPTION_KEEPALIVE_IDLE_MS:
    case O.OPTION_KEEPALIVE_INTERVAL_MS:
      return value >= 1 && value <= KEEPALIVE_MS_MAX;
    case O.OPTION_KEEPALIVE_PROBES:
    case O.OPTION_SYN_RETRIES:
      return value >= 1 && value <= PROBES_MAX;
    case O.OPTION_USER_TIMEOUT_MS:
      return value <= USER_TIMEOUT_MS_MAX;
    case O.OPTION_MSS_BYTES:
      return value >= MAXSEG_MIN && value <= 65535;
    case O.OPTION_CONGESTION:
      return value == O.CONGESTION_RENO || value == O.CONGESTION_CUBIC || value == O.CONGESTION_BBR;
    case O.OPTION_DEFER_ACCEPT_MS:
    case O.OPTION_FAST_OPEN:
      return true;
    case O.OPTION_TOS:
    case O.OPTION_HOP_LIMIT:
      return value <= 255;
    case O.OPTION_FAST_OPEN_CONNECT:
      return value <= 2;
    case O.OPTION_USER_TIMEOUT_OPTION_MS:
      return value == 0 || (value >= 1000 && value <= USER_TIMEOUT_MS_MAX);
    case O.OPTION_URGENT:
    case O.OPTION_URGENT_TOLD:
      return true;
    default:
      return false;
  }
}

function optionSet(tcb: Tcb, option: i32, value: u32): i32 {
  if (!optionIsValid(option, value)) return EINVAL;
  switch (option) {
    case O.OPTION_NODELAY:
      setFlag(tcb, T.F_NODELAY, value != 0);
      // As in Linux: pushes what is corked now, though the cork stays.
      if (value != 0 && seqLt(tcb.sndNxt, tcb.sndBufEnd) && settingsHas(T.tcbIndex(tcb), SETTING_CORK)) {
        setBit(settingsFind(T.tcbIndex(tcb)), SETTING_PUSH, true);
      }
      outputMark(tcb);
      return 0;
    case O.OPTION_QUICKACK:
      setFlag(tcb, T.F_QUICKACK, value != 0);
      return 0;
    case O.OPTION_KEEPALIVE:
      setFlag(tcb, T.F_KEEPALIVE, value != 0);
      keepaliveRestart(tcb);
      return 0;
    case O.OPTION_RCV_BUFFER_BYTES:
    case O.OPTION_SND_BUFFER_BYTES: {
      const order = <u8>min(streamOrderFor(value), STREAM_ORDER_MAX);
      const cold = coldOf(tcb);
      if (option == O.OPTION_RCV_BUFFER_BYTES) cold.rcvLimitOrder = order;
      else cold.sndLimitOrder = order;
      cold.traits |= option == O.OPTION_RCV_BUFFER_BYTES ? T.TRAIT_RCV_BUFFER_SET : T.TRAIT_SND_BUFFER_SET;
      return 0;
    }
    case O.OPTION_CONGESTION:
      return congestionChoose(tcb, value) ? 0 : EINVAL;
    case O.OPTION_DEFER_ACCEPT_MS:
    case O.OPTION_FAST_OPEN:
      // Of a listener only.
      return 0;
    case O.OPTION_FAST_OPEN_CONNECT:
      return fastOpenAsk(tcb, value);
    default:
      return settingSet(tcb, option, value);
  }
}

/** Options that are kept in the connection's settings. */
function settingSet(tcb: Tcb, option: i32, value: u32): i32 {
  const settings = settingsOf(T.tcbIndex(tcb));
  if (changetype<usize>(settings) == 0) return ENOBUFS;
  switch (option) {
    case O.OPTION_CORK:
      setBit(settings, SETTING_CORK, value != 0);
      outputMark(tcb);
      return 0;
    case O.OPTION_LINGER_RESET:
      setBit(settings, SETTING_LINGER_RESET, value != 0);
      return 0;
    case O.OPTION_KEEPALIVE_IDLE_MS:
      settings.keepIdleMs = value;
      keepaliveRestart(tcb);
      return 0;
    case O.OPTION_KEEPALIVE_INTERVAL_MS:
      settings.keepIntervalMs = value;
      return 0;
    case O.OPTION_KEEPALIVE_PROBES:
      settings.keepProbesMax = <u8>value;
      return 0;
    case O.OPTION_SYN_RETRIES:
      settings.synRetries = <u8>value;
      return 0;
    case O.OPTION_TOS:
      settings.tos = <u8>value & ~ECN_MASK;
      return 0;
    case O.OPTION_HOP_LIMIT:
      settings.hopLimit = <u8>value;
      return 0;
    case O.OPTION_USER_TIMEOUT_MS:
      settings.userTimeoutMs = value;
      settings.bits &= ~SETTING_USER_TIMING;
      // What the application has chosen no peer changes (RFC 5482 3.1).
      setBit(settings, SETTING_TIMEOUT_FIXED, value != 0);
      return 0;
    case O.OPTION_USER_TIMEOUT_OPTION_MS:
      userTimeoutAdvertise(settings, value);
      if (value != 0 && tcb.state >= O.STATE_ESTABLISHED) {
        tcb.flags |= T.F_ACK_NOW;
        outputMark(tcb);
      }
      return 0;
    case O.OPTION_URGENT:
      urgentQueued(tcb, settings);
      return 0;
    case O.OPTION_URGENT_TOLD:
      setBit(settings, SETTING_URGENT_TOLD, value != 0);
      return 0;
    case O.OPTION_MSS_BYTES:
      settings.mssBytes = <u16>value;
      // Once the handshake is over, segments become no larger than this; not larger than they were.
      if (tcb.state >= O.STATE_ESTABLISHED) tcb.sndMss = min(tcb.sndMss, <u16>value);
      return 0;
    default:
      return EINVAL;
  }
}

/** The keep-alive timer counts anew, where it is the one that may run. */
function keepaliveRestart(tcb: Tcb): void {
  const isOpen = tcb.state >= O.STATE_ESTABLISHED && tcb.state < O.STATE_TIME_WAIT;
  if (tcb.flags & T.F_KEEPALIVE && isOpen && !(tcb.flags & (MAIN_TIMERS & ~T.F_TIMER_LINGER))) keepaliveArm(tcb);
}

function setFlag(tcb: Tcb, flag: u32, on: bool): void {
  if (on) tcb.flags |= flag;
  else tcb.flags &= ~flag;
}

function setBit(settings: Settings, bit: u8, on: bool): void {
  if (on) settings.bits |= bit;
  else settings.bits &= ~bit;
}
