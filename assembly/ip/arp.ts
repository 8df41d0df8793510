/**
 * The Address Resolution Protocol on Ethernet (RFC 826): building and checking packets. Keeps no state; what is learnt
 * from a packet is decided in neighbor.ts.
 *
 * ```
 *  +14 u16 hardware type 1   +16 u16 protocol type 0x0800   +18 u8 6   +19 u8 4   +20 u16 operation
 *  +22 sender MAC   +28 sender IPv4   +32 target MAC   +38 target IPv4   (offsets in the frame)
 * ```
 */
import { isStationMac } from "../wire/addressKind.ts";
import { OWN_MAC } from "../config.ts";
import { txCommit, txReserve } from "../device/tx.ts";
import { isHostV4 } from "./address.ts";
import { loadBe16, storeBe16 } from "../wire/bytes.ts";
import { ETHERNET_TYPE, ETHERTYPE_ARP } from "../wire/headers.ts";

const ARP_FRAME_BYTES: u32 = 42;
export const ARP_REQUEST: u32 = 1;
export const ARP_REPLY: u32 = 2;

export const ARP_OPERATION: usize = 20;
export const ARP_SENDER_MAC: usize = 22;
export const ARP_SENDER_V4: usize = 28;
export const ARP_TARGET_MAC: usize = 32;
export const ARP_TARGET_V4: usize = 38;

/** Hardware type 1 and protocol type 0x0800, as they lie in memory; address lengths 6 and 4 likewise. */
const TYPES: u32 = 0x00080100;
const LENGTHS: u16 = 0x0406;

/**
 * Checks every field of a received ARP frame that has a fixed or restricted value. A sender address of 0.0.0.0 is
 * valid in a request: an address probe (RFC 5227 1.1).
 */
export function arpIsValid(frame: usize, frameBytes: u32): bool {
  if (frameBytes < ARP_FRAME_BYTES) return false;
  if (load<u32>(frame, 14) != TYPES || load<u16>(frame, 18) != LENGTHS) return false;
  const operation = loadBe16(frame + ARP_OPERATION);
  if (operation != ARP_REQUEST && operation != ARP_REPLY) return false;
  if (!isStationMac(frame + ARP_SENDER_MAC)) return false;
  const sender = load<u32>(frame, ARP_SENDER_V4);
  return isHostV4(sender) || (sender == 0 && operation == ARP_REQUEST);
}

/**
 * Sends an ARP packet.
 * @param destinationMac where the 6 bytes of the receiver's Ethernet address lie; 0: broadcast.
 * @param targetMac likewise for the target hardware address; 0: unknown, sent as zeros.
 * @returns false when the TX ring is full.
 */
export function arpSend(operation: u32, senderV4: u32, destinationMac: usize, targetMac: usize, targetV4: u32): bool {
  const frame = txReserve(ARP_FRAME_BYTES);
  if (frame == 0) return false;
  if (destinationMac != 0) memory.copy(frame, destinationMac, 6);
  else memory.fill(frame, 0xff, 6);
  memory.copy(frame + 6, OWN_MAC, 6);
  store<u16>(frame, <u16>ETHERTYPE_ARP, ETHERNET_TYPE);
  store<u32>(frame, TYPES, 14);
  store<u16>(frame, LENGTHS, 18);
  storeBe16(frame + ARP_OPERATION, operation);
  memory.copy(frame + ARP_SENDER_MAC, OWN_MAC, 6);
  store<u32>(frame, senderV4, ARP_SENDER_V4);
  if (targetMac != 0) memory.copy(frame + ARP_TARGET_MAC, targetMac, 6);
  else memory.fill(frame + ARP_TARGET_MAC, 0, 6);
  store<u32>(frame, targetV4, ARP_TARGET_V4);
  txCommit(ARP_FRAME_BYTES);
  return true;
}
