/** Messages of neighbour discovery (RFC 4861) that we send. Their form is in ndp.ts. */
import { OWN_MAC } from "../config.ts";
import { txCommit, txReserve } from "../device/tx.ts";
import { addressAt } from "./address.ts";
import { ipv6WriteHeader, writeEthernetSource } from "./ipv6Header.ts";
import { sourceForV6 } from "./nextHop.ts";
import { count } from "../stats.ts";
import { storeBe32 } from "../wire/bytes.ts";
import { checksumOf, pseudoHeaderSumV6, sumAdd, sumBytes } from "../wire/checksum.ts";
import {
  ETHERNET_BYTES,
  IPV6_HEADER_BYTES,
  PROTOCOL_ICMPV6,
  V6_DESTINATION,
  V6_HOP_LIMIT,
  V6_SOURCE,
} from "../wire/headers.ts";
import { ND_ADVERTISEMENTS_SENT, ND_SOLICITATIONS_SENT } from "../../src/layout/counters.ts";

export const ND_NEIGHBOR_SOLICITATION: u32 = 135;
export const ND_NEIGHBOR_ADVERTISEMENT: u32 = 136;
export const ND_TARGET: usize = 8;
export const ND_OPTIONS: u32 = 24;
export const ND_OPTION_SOURCE_MAC: u32 = 1;
export const ND_OPTION_TARGET_MAC: u32 = 2;
/** Message with one Ethernet address. */
const MESSAGE_BYTES: u32 = 32;
export const ND_FLAG_ROUTER: u32 = 0x80000000;
export const ND_FLAG_SOLICITED: u32 = 0x40000000;
export const ND_FLAG_OVERRIDE: u32 = 0x20000000;
export const ND_ALL_NODES: usize = memory.data<u8>([255, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const group: usize = memory.data(16, 8);
const UNSPECIFIED: usize = memory.data(16, 8);

/** @param mac where it goes; 0: to the group that `destination` is. */
export function ndpAdvertise(destination: usize, mac: usize, target: usize, flags: u32): void {
  if (send(ND_NEIGHBOR_ADVERTISEMENT, flags, target, destination, mac, target)) count(ND_ADVERTISEMENTS_SENT);
}

/**
 * Asks for the Ethernet address of the neighbour whose 16 bytes lie at `target`.
 * @param mac its Ethernet address as we know it, to have it confirmed (RFC 4861 7.3.3); 0: unknown, all that might be
 *   it are asked.
 */
export function ndpSolicit(target: usize, mac: usize): void {
  const index = sourceForV6(target);
  const source = index >= 0 ? addressAt(index) : UNSPECIFIED;
  let destination = target;
  if (mac == 0) {
    memory.copy(group, ND_ALL_NODES, 16);
    store<u8>(group, 1, 11);
    store<u32>(group, load<u32>(target, 12) | 0xff, 12);
    destination = group;
  }
  if (send(ND_NEIGHBOR_SOLICITATION, 0, source, destination, mac, target)) count(ND_SOLICITATIONS_SENT);
}

/** @returns false when the TX ring is full. */
function send(type: u32, flags: u32, source: usize, destination: usize, mac: usize, target: usize): bool {
  const frameBytes = ETHERNET_BYTES + IPV6_HEADER_BYTES + MESSAGE_BYTES;
  const frame = txReserve(frameBytes);
  if (frame == 0) return false;
  if (mac != 0) memory.copy(frame, mac, 6);
  else {
    store<u16>(frame, 0x3333);
    store<u32>(frame, load<u32>(destination, 12), 2);
  }
  writeEthernetSource(frame);
  const packet = frame + ETHERNET_BYTES;
  ipv6WriteHeader(packet, MESSAGE_BYTES, PROTOCOL_ICMPV6, source, destination, 0);
  store<u8>(packet, 255, V6_HOP_LIMIT);
  const message = packet + IPV6_HEADER_BYTES;
  store<u32>(message, type);
  storeBe32(message + 4, flags);
  memory.copy(message + ND_TARGET, target, 16);
  const option = type == ND_NEIGHBOR_SOLICITATION ? ND_OPTION_SOURCE_MAC : ND_OPTION_TARGET_MAC;
  store<u16>(message, <u16>(option | (1 << 8)), ND_OPTIONS);
  memory.copy(message + ND_OPTIONS + 2, OWN_MAC, 6);
  const pseudo = pseudoHeaderSumV6(packet + V6_SOURCE, packet + V6_DESTINATION, PROTOCOL_ICMPV6, MESSAGE_BYTES);
  store<u16>(message, checksumOf(sumAdd(pseudo, sumBytes(message, MESSAGE_BYTES))), 2);
  txCommit(frameBytes);
  return true;
}
