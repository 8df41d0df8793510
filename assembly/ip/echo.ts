/**
 * The asking side of echo (RFC 792, RFC 4443 4.1, RFC 1122 3.2.2.6): requests that the host sends, and what comes back
 * about them, kept until the host takes it (src/ip/pinger.ts). A card brings a reply to the queue of its addresses'
 * hash, so the kernel that gets it need not be the one that has asked: each keeps what comes while the host waits.
 *
 * ```
 *  +0 16 bytes who says it   +16 u16 identifier   +18 u16 sequence   +20 u32 payload bytes   +24 u8 TTL
 *  +28 i32 status
 * ```
 */
import { arenaAlloc } from "../mem/arena.ts";
import { count } from "../stats.ts";
import { loadBe16, storeBe16 } from "../wire/bytes.ts";
import { checksumOf, pseudoHeaderSumV6, sumAdd, sumBytes } from "../wire/checksum.ts";
import { DROP_ECHO_REPLY } from "../../src/layout/counters.ts";
import { EMSGSIZE, ENOMEM, OK } from "../../src/layout/status.ts";
import { isV4Mapped } from "../wire/addressKind.ts";
import { PROTOCOL_ICMP, PROTOCOL_ICMPV6, V4_MAPPED } from "../wire/headers.ts";
import { ipv4Route, ipv4RouteMark, ipv4SendRouted } from "./ipv4.ts";
import { ipv6Route, ipv6RouteMark, ipv6RouteSource, ipv6SendRouted } from "./ipv6.ts";

const SLOTS: u32 = 32;
const SLOT_SIZE_BYTES: u32 = 32;
const ECHO_HEADER_BYTES: u32 = 8;
const PAYLOAD_BYTES_MAX: u32 = 8192;
/** First byte of a request; its code is 0. */
const REQUEST_V4: u32 = 8;
const REQUEST_V6: u32 = 128;

let queue: usize = 0;
let scratch: usize = 0;
let head: u32 = 0;
let tail: u32 = 0;
let waits: bool = false;

/** Somebody waits for answers to echo requests of ours: what quotes one may be true. */
export function echoWaits(): bool {
  return waits;
}

/** See KernelExports.echoWait. */
export function echoWait(on: u32): i32 {
  if (on != 0 && queue == 0) {
    queue = arenaAlloc(SLOTS * SLOT_SIZE_BYTES, 64);
    scratch = arenaAlloc(ECHO_HEADER_BYTES + PAYLOAD_BYTES_MAX, 64);
    if (queue == 0 || scratch == 0) return ENOMEM;
  }
  waits = on != 0;
  if (!waits) head = tail;
  return OK;
}

/** See KernelExports.echoSend. */
export function echoSend(remote: usize, identifier: u32, sequence: u32, bytes: u32, hopLimit: u32): i32 {
  if (bytes > PAYLOAD_BYTES_MAX) return EMSGSIZE;
  if (scratch == 0) return ENOMEM;
  const isV4 = isV4Mapped(remote);
  const status = isV4 ? ipv4Route(-1, load<u32>(remote, 12)) : ipv6Route(-1, remote);
  if (status != OK) return status;
  store<u32>(scratch, isV4 ? REQUEST_V4 : REQUEST_V6);
  storeBe16(scratch + 4, identifier);
  storeBe16(scratch + 6, sequence);
  for (let i: u32 = 0; i < bytes; i++) store<u8>(scratch + ECHO_HEADER_BYTES + i, <u8>i);
  const whole = ECHO_HEADER_BYTES + bytes;
  let sum = sumBytes(scratch, whole);
  if (!isV4) sum = sumAdd(sum, pseudoHeaderSumV6(ipv6RouteSource(), remote, PROTOCOL_ICMPV6, whole));
  const checksum = checksumOf(sum);
  store<u16>(scratch, checksum == 0 ? 0xffff : checksum, 2);
  let sent: i32;
  if (isV4) {
    ipv4RouteMark(hopLimit, false);
    sent = ipv4SendRouted(PROTOCOL_ICMP, 0, scratch, whole);
  } else {
    ipv6RouteMark(hopLimit, false);
    sent = ipv6SendRouted(PROTOCOL_ICMPV6, 0, scratch, whole);
  }
  return sent < 0 ? sent : OK;
}

/**
 * Keeps what has come about a request.
 * @param echo where its header lies, of the reply or as quoted. @param from who says it, 16 bytes.
 * @param bytes of the payload. @param status 0: a reply, else what went wrong.
 */
function keep(echo: usize, from: usize, bytes: u32, ttl: u32, status: i32): void {
  if (!waits || tail - head == SLOTS) {
    count(DROP_ECHO_REPLY);
    return;
  }
  const slot = queue + (tail & (SLOTS - 1)) * SLOT_SIZE_BYTES;
  v128.store(slot, v128.load(from));
  store<u16>(slot, <u16>loadBe16(echo + 4), 16);
  store<u16>(slot, <u16>loadBe16(echo + 6), 18);
  store<u32>(slot, bytes, 20);
  store<u32>(slot, ttl, 24);
  store<i32>(slot, status, 28);
  tail++;
}

const mapped: usize = memory.data(16, 16);

/** An echo reply, or an error about a request of ours, over IPv4. @param from in memory order. */
export function echoHeard(echo: usize, from: u32, bytes: u32, ttl: u32, status: i32): void {
  store<u32>(mapped, V4_MAPPED, 8);
  store<u32>(mapped, from, 12);
  keep(echo, mapped, bytes, ttl, status);
}

/** Likewise over IPv6. @param from where its 16 bytes lie. */
export function echoHeardV6(echo: usize, from: usize, bytes: u32, ttl: u32, status: i32): void {
  keep(echo, from, bytes, ttl, status);
}

/** Is this what an error quotes a request of ours? */
export function isEchoRequest(echo: usize, isV6: bool): bool {
  return <u32>load<u16>(echo) == (isV6 ? REQUEST_V6 : REQUEST_V4);
}

/** See KernelExports.echoPeek. */
export function echoPeek(): u32 {
  return head == tail ? 0 : <u32>(queue + (head & (SLOTS - 1)) * SLOT_SIZE_BYTES);
}

/** See KernelExports.echoConsume. */
export function echoConsume(): void {
  if (head != tail) head++;
}
