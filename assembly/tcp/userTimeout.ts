/**
 * The user timeout option (RFC 5482): telling the peer how long data may stay unacknowledged here, and waiting as long
 * as it does. Off unless an application asks for it (OPTION_USER_TIMEOUT_OPTION_MS). The timeout itself is in
 * timeouts.ts.
 *
 * The RFC's names: ADV_UTO is `advertisedMs`, ENABLED is SETTING_TIMEOUT_OPTION, CHANGEABLE the absence of
 * SETTING_TIMEOUT_FIXED, USER_TIMEOUT `userTimeoutMs`.
 */
import { loadBe16, storeBe32 } from "../wire/bytes.ts";
import * as S from "./segment.ts";
import { Settings, SETTING_TIMEOUT_FIXED, SETTING_TIMEOUT_OPTION, settingsFind } from "./settings.ts";
import { Tcb, tcbIndex } from "./tcb.ts";

/** L_LIMIT and U_LIMIT (RFC 5482 3.1): no peer makes us give up sooner, or wait longer. */
const TIMEOUT_MS_MIN: u32 = 100000;
const TIMEOUT_MS_MAX: u32 = 86400000;
/** Nothing acknowledges the option: it goes with so many segments. */
const SEGMENTS: u8 = 3;
const SECONDS_MAX: u32 = 0x7fff;
const MINUTES_FLAG: u32 = 0x8000;
export const USER_TIMEOUT_OPTION_BYTES: u32 = 4;

/** The application has set ADV_UTO; 0: no option from now on. */
export function userTimeoutAdvertise(settings: Settings, ms: u32): void {
  settings.advertisedMs = ms;
  settings.timeoutSegments = ms != 0 ? SEGMENTS : 0;
  if (ms != 0) settings.bits |= SETTING_TIMEOUT_OPTION;
  else {
    settings.bits &= ~SETTING_TIMEOUT_OPTION;
    // What the peer has told is not heeded any more.
    if (!(settings.bits & SETTING_TIMEOUT_FIXED)) settings.userTimeoutMs = 0;
  }
}

/** The option as it goes out: seconds as far as they reach, then minutes; rounded up. */
function optionWord(ms: u32): u32 {
  const seconds = (ms + 999) / 1000;
  const value = seconds <= SECONDS_MAX ? seconds : MINUTES_FLAG | ((seconds + 59) / 60);
  return (S.OPTION_USER_TIMEOUT << 24) | (USER_TIMEOUT_OPTION_BYTES << 16) | value;
}

/** The option for a SYN or SYN-ACK, which goes until it is acknowledged; 0: none. */
export function userTimeoutSynWord(tcb: Tcb): u32 {
  const settings = settingsFind(tcbIndex(tcb));
  if (changetype<usize>(settings) == 0 || !(settings.bits & SETTING_TIMEOUT_OPTION)) return 0;
  settings.timeoutSegments = 0;
  return optionWord(settings.advertisedMs);
}

/**
 * Bytes of the option in a segment that leaves, 0: none. Payload is not made shorter for it.
 * @param usedBytes of the other options. @param roomBytes that the payload leaves of a full segment.
 */
export function userTimeoutOptionBytes(tcb: Tcb, usedBytes: u32, roomBytes: u32): u32 {
  const settings = settingsFind(tcbIndex(tcb));
  if (changetype<usize>(settings) == 0 || settings.timeoutSegments == 0) return 0;
  return usedBytes + USER_TIMEOUT_OPTION_BYTES <= 40 && USER_TIMEOUT_OPTION_BYTES <= roomBytes
    ? USER_TIMEOUT_OPTION_BYTES
    : 0;
}

/** Writes it. Preconditions: userTimeoutOptionBytes has said that there is one. */
export function userTimeoutWrite(tcb: Tcb, at: usize): void {
  const settings = settingsFind(tcbIndex(tcb));
  settings.timeoutSegments--;
  storeBe32(at, optionWord(settings.advertisedMs));
}

/** The option has come with an acceptable segment (RFC 5482 3.1). */
export function userTimeoutReceived(settings: Settings): void {
  if ((settings.bits & (SETTING_TIMEOUT_OPTION | SETTING_TIMEOUT_FIXED)) != SETTING_TIMEOUT_OPTION) return;
  const word = loadBe16(S.segUserTimeout);
  const value = word & SECONDS_MAX;
  // RFC 5482 3.3: a value of zero is to be ignored.
  if (value == 0) return;
  const ms = <u32>min<u64>(<u64>value * (word & MINUTES_FLAG ? 60000 : 1000), TIMEOUT_MS_MAX);
  settings.userTimeoutMs = min(TIMEOUT_MS_MAX, max(max(settings.advertisedMs, ms), TIMEOUT_MS_MIN));
}
