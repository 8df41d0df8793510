/**
 * What an application has set on single connections that differs from the configuration: keep-alive times, user
 * timeout, cork, linger, MSS, TOS, TTL; and what is known of a path without ICMP (mtuProbe.ts). Few connections have
 * any, and it is looked up when a timer fires, a small segment is about to leave, or any where some connection has
 * some; so it lies in a table beside the TCBs: an idle connection without settings pays nothing for it.
 */
import { connectionsMax } from "../config.ts";
import { arenaAlloc } from "../mem/arena.ts";

/** Connections with settings of their own, at most; more are refused with ENOBUFS. */
const SETTINGS_MAX: u32 = 65536;
const BUCKETS_MAX: u32 = 4096;
const SETTINGS_SIZE_BYTES: u32 = 64;

export const SETTING_CORK: u8 = 1;
/** tcpClose resets: SO_LINGER with 0 seconds. */
export const SETTING_LINGER_RESET: u8 = 2;
/** userTimeoutTick is the instant from which the user timeout counts. */
export const SETTING_USER_TIMING: u8 = 4;

/** What is corked now goes out once (TCP_NODELAY on a corked socket). */
export const SETTING_PUSH: u8 = 8;
/** The user timeout option is sent and heeded; the application has set its own timeout (userTimeout.ts). */
export const SETTING_TIMEOUT_OPTION: u8 = 16;
export const SETTING_TIMEOUT_FIXED: u8 = 32;
/** sndUp is valid; the application wants to be told of urgent data (urgent.ts). */
export const SETTING_URGENT_SEND: u8 = 64;
export const SETTING_URGENT_TOLD: u8 = 128;

@unmanaged
export class Settings {
  /** Address of the next one in the bucket, or of the next free one. */
  next: u32;
  /** Of the TCB. */
  index: u32;
  /** 0: as configured. */
  keepIdleMs: u32;
  keepIntervalMs: u32;
  /** 0: none. */
  userTimeoutMs: u32;
  userTimeoutTick: u32;
  /** 0: as the MTU allows. */
  mssBytes: u16;
  keepProbesMax: u8;
  /** SETTING_*. */
  bits: u8;
  /** TOS or traffic class, without ECN. */
  tos: u8;
  /** 0: as configured. */
  hopLimit: u8;
  /** Segments that will still bring the user timeout option. */
  timeoutSegments: u8;
  /** 1: rcvUp is valid. */
  urgentPending: u8;
  // Path MTU probing (mtuProbe.ts): sizes are payload bytes.
  /** The probe in flight; probeBytes 0: there is none. */
  probeSeq: u32;
  /** When to search again. */
  probeTick: u32;
  probeBytes: u16;
  /** The largest that may work, as far as is known, and the largest that would be tried. */
  probeHigh: u16;
  probeTop: u16;
  /** 0: as configured. */
  synRetries: u8;
  /** What the peer is told of our user timeout; 0: nothing. */
  advertisedMs: u32;
  /** The octets behind the last urgent ones (SND.UP, RCV.UP). */
  sndUp: u32;
  rcvUp: u32;
}
/** Of its parts that belong to the connection and not to the slot, in bytes from `settingsPartAt`. */
export const SETTINGS_PART_BYTES: u32 = SETTINGS_SIZE_BYTES - 8;
if (offsetof<Settings>() > SETTINGS_SIZE_BYTES) ERROR("Settings does not fit its record");

let buckets: usize = 0;
let pool: usize = 0;
let poolSlots: u32 = 0;
let used: u32 = 0;
let freeHead: u32 = 0;
/** Connections that have settings: 0 makes every look-up free. */
export let settingsCount: u32 = 0;

export function settingsBoot(): bool {
  poolSlots = min<u32>(connectionsMax, SETTINGS_MAX);
  buckets = arenaAlloc((<usize>BUCKETS_MAX) << 2, 64);
  pool = arenaAlloc(<usize>poolSlots * SETTINGS_SIZE_BYTES, 64);
  return buckets != 0 && pool != 0;
}

function bucketOf(index: u32): usize {
  return buckets + ((<usize>(index & (BUCKETS_MAX - 1))) << 2);
}

/** The settings of the TCB with this index, or null. */
export function settingsFind(index: u32): Settings {
  if (settingsCount == 0) return changetype<Settings>(0);
  let at = <usize>load<u32>(bucketOf(index));
  while (at != 0 && changetype<Settings>(at).index != index) at = <usize>changetype<Settings>(at).next;
  return changetype<Settings>(at);
}

/** Likewise, made when there are none; null: SETTINGS_MAX connections have some. */
export function settingsOf(index: u32): Settings {
  const found = settingsFind(index);
  if (changetype<usize>(found) != 0) return found;
  let at = <usize>freeHead;
  if (at != 0) {
    freeHead = changetype<Settings>(at).next;
  } else if (used < poolSlots) {
    at = pool + <usize>used * SETTINGS_SIZE_BYTES;
    used++;
  } else {
    return changetype<Settings>(0);
  }
  memory.fill(at, 0, SETTINGS_SIZE_BYTES);
  const settings = changetype<Settings>(at);
  const bucket = bucketOf(index);
  settings.index = index;
  settings.next = load<u32>(bucket);
  store<u32>(bucket, <u32>at);
  settingsCount++;
  return settings;
}

/** The connection is gone. */
export function settingsDrop(index: u32): void {
  if (settingsCount == 0) return;
  let link = bucketOf(index);
  for (;;) {
    const at = <usize>load<u32>(link);
    if (at == 0) return;
    const settings = changetype<Settings>(at);
    if (settings.index == index) {
      store<u32>(link, settings.next);
      settings.next = freeHead;
      freeHead = <u32>at;
      settingsCount--;
      return;
    }
    link = at + offsetof<Settings>("next");
  }
}

/** Of a connection that has settings: may what is corked go out this once? */
export function settingsPushed(index: u32): bool {
  const settings = settingsFind(index);
  const pushed = (settings.bits & SETTING_PUSH) != 0;
  settings.bits &= ~SETTING_PUSH;
  return pushed;
}

/** Address of what travels with a connection (migration.ts). */
export function settingsPartAt(settings: Settings): usize {
  return changetype<usize>(settings) + offsetof<Settings>("keepIdleMs");
}

/** @returns true when any of these SETTING_* bits is set. */
export function settingsHas(index: u32, bits: u8): bool {
  if (settingsCount == 0) return false;
  const settings = settingsFind(index);
  return changetype<usize>(settings) != 0 && (settings.bits & bits) != 0;
}
