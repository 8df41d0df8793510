/** What an ARP frame does: answers for our addresses, conflicts, and probes of our own (RFC 826, RFC 5227). */
import { OWN_MAC } from "../config.ts";
import { count } from "../stats.ts";
import { isLoopbackV4, macEqual } from "../wire/addressKind.ts";
import { addressFindV4 } from "./address.ts";
import {
  ARP_OPERATION,
  ARP_REPLY,
  ARP_REQUEST,
  ARP_SENDER_MAC,
  ARP_SENDER_V4,
  ARP_TARGET_V4,
  arpIsValid,
  arpSend,
} from "./arp.ts";
import { neighborHeard } from "./neighbor.ts";
import { loadBe16 } from "../wire/bytes.ts";
import { ARP_CONFLICTS, ARP_REPLIES_SENT, ARP_REQUESTS_SENT, DROP_ARP_MALFORMED } from "../../src/layout/counters.ts";

/** The address that we probe for (RFC 5227 2.1), in memory order; 0: none. */
let probedV4: u32 = 0;
let probeAnswered: i32 = 0;

/**
 * An ARP frame has come in (EtherType 0x0806). Requests for our addresses are answered; a sender is learnt when we
 * know it already (RFC 826, also by gratuitous ARP) or when it asks for us.
 */
export function neighborInput(frame: usize, frameBytes: u32): void {
  if (!arpIsValid(frame, frameBytes)) {
    count(DROP_ARP_MALFORMED);
    return;
  }
  const senderMac = frame + ARP_SENDER_MAC;
  // Our own frame come back, or one of another kernel of this stack.
  if (macEqual(senderMac, OWN_MAC)) return;
  const sender = load<u32>(frame, ARP_SENDER_V4);
  const isRequest = loadBe16(frame + ARP_OPERATION) == ARP_REQUEST;
  // Somebody has it, or probes for it at the same time (RFC 5227 2.1.1).
  if (probedV4 != 0) {
    const probesToo = sender == 0 && isRequest && load<u32>(frame, ARP_TARGET_V4) == probedV4;
    if (sender == probedV4 || probesToo) probeAnswered = 1;
  }
  if (addressFindV4(sender) >= 0) {
    // Deviates: RFC 5227 2.4 lets a host defend its address or give it up; configured addresses are simply kept.
    count(ARP_CONFLICTS);
    return;
  }
  const target = load<u32>(frame, ARP_TARGET_V4);
  const forUs = addressFindV4(target) >= 0 && !isLoopbackV4(target);
  if (sender != 0) neighborHeard(sender, senderMac, forUs, isRequest);
  if (isRequest && forUs && arpSend(ARP_REPLY, target, senderMac, senderMac, sender)) count(ARP_REPLIES_SENT);
}

/** Tells all neighbours our Ethernet address for one of our addresses (gratuitous ARP, RFC 5227 1.1 "announcement"). */
export function neighborAnnounce(v4: u32): void {
  if (arpSend(ARP_REQUEST, v4, 0, 0, v4)) count(ARP_REQUESTS_SENT);
}

/** See KernelExports.arpProbe. @returns 1 when the frame was queued. */
export function arpProbe(address: usize): i32 {
  const v4 = address == 0 ? 0 : load<u32>(address, 12);
  if (v4 != probedV4) probeAnswered = 0;
  probedV4 = v4;
  if (v4 == 0 || !arpSend(ARP_REQUEST, 0, 0, 0, v4)) return 0;
  count(ARP_REQUESTS_SENT);
  return 1;
}

/** See KernelExports.arpProbeAnswered. */
export function arpProbeAnswered(): i32 {
  return probeAnswered;
}
