/**
 * What routers advertise about our link to all IPv6 hosts on it (RFC 4861 6.3.4). Which router is believed, and what of
 * it, is decided in src/ip/autoconfiguration.ts; 0 stands for what nobody has said: then our own options hold.
 */
import { hopLimit, mtuBytes } from "../config.ts";
import { IPV6_MTU_MIN } from "../wire/headers.ts";

let advertisedMtuBytes: u32 = 0;
let advertisedHopLimit: u32 = 0;

/** Largest IPv6 packet for our link. */
export function linkMtuV6(): u32 {
  return advertisedMtuBytes != 0 ? advertisedMtuBytes : mtuBytes;
}

/** Hop limit of what leaves over IPv6 and has no other. */
export function linkHopLimit(): u32 {
  return advertisedHopLimit != 0 ? advertisedHopLimit : hopLimit;
}

/** @param bytes 0, or what is advertised: wider than the device it cannot be, narrower than 1280 no IPv6 link is. */
export function linkAdvertise(bytes: u32, limit: u32): void {
  advertisedMtuBytes = bytes >= IPV6_MTU_MIN && bytes < mtuBytes ? bytes : 0;
  advertisedHopLimit = limit & 0xff;
}
