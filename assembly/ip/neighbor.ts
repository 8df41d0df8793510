/**
 * Neighbours: which Ethernet address a next hop has (RFC 826 and RFC 1122 2.3.2 for IPv4; RFC 4861 7 for IPv6). Sending
 * through an entry that is resolved copies a ready-made Ethernet header and nothing else.
 *
 * ```
 *               find            reply                    30 s unconfirmed, then used
 *   (free) ──────────► INCOMPLETE ─────► REACHABLE ◄──────────────────────► PROBE
 *      ▲                   │ 3 requests        │ 20 min unconfirmed  reply      │ 3 requests
 *      │      3 s          ▼                   ▼                                ▼
 *      └──────────────── FAILED              (free)                           (free)
 * ```
 * An IPv6 entry goes by way of DELAY, 5 s in which traffic may confirm it, to PROBE (RFC 4861 7.3.3); what RFC 4861
 * calls STALE is REACHABLE that is no longer confirmed.
 *
 * Keys are 16 bytes, IPv4 as ::ffff:a.b.c.d: ARP (here) and neighbour discovery (ndp.ts) fill the same entries.
 *
 * Each state with a timer waits a fixed time, so each has a FIFO list whose head is the next due: no wheel, no scan.
 */
import { NEIGHBOR_ETHERNET, Neighbor, NEIGHBOR_SIZE_BYTES, writeEthernet } from "./neighborRecord.ts";
import { neighborExpiryMs, neighborsMax, OWN_MAC, seedWord } from "../config.ts";
import { txCommit } from "../device/tx.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { count } from "../stats.ts";
import { nowTick, tickReached, ticksOfMs } from "../time.ts";
import { isHostV6, isLinkLocalV6, isStationMac, isV4Mapped, macEqual } from "../wire/addressKind.ts";
import { ETHERNET_TYPE, ETHERTYPE_IPV4, ETHERTYPE_IPV6, V4_MAPPED } from "../wire/headers.ts";
import { nextHopV4, nextHopV6, sourceForV4 } from "./nextHop.ts";
import { addressFindV4, addressFindV6, addressV4, firstV4, isHostV4 } from "./address.ts";
import { ARP_REQUEST, arpSend } from "./arp.ts";
import {
  ARP_REQUESTS_SENT,
  DROP_NEIGHBOR_UNRESOLVED,
  NEIGHBOR_EVICTED,
  NEIGHBOR_REFUSED,
} from "../../src/layout/counters.ts";
import { ndpSolicit } from "./ndpSend.ts";
import { gatewayHeard, gatewayLost, gatewaysDue, gatewayTakeDue } from "./gateways.ts";
import { dropHeld, hold, holdBoot, holdSlots, sendHeld } from "./neighborHold.ts";

const FREE: u8 = 0;
const INCOMPLETE: u8 = 1;
const REACHABLE: u8 = 2;
const PROBE: u8 = 3;
const FAILED: u8 = 4;
const DELAY: u8 = 5;

/** RFC 1122 2.3.2.1 asks for at most one request per second and destination. */
const RETRY_MS: u32 = 1000;
const REQUESTS_MAX: u8 = 3;
const FAILED_MS: u32 = 3000;
/** RFC 4861 10 REACHABLE_TIME: how long a confirmation is good. */
const REACHABLE_MS: u32 = 30000;
/** What has been confirmed just now is good for as long as its family says. */
const CONFIRMED_MS: u32 = 0xffffffff;
/** RFC 4861 10 DELAY_FIRST_PROBE_TIME: what an unsolicited packet is worth, so that traffic can confirm it first. */
const UNSOLICITED_MS: u32 = 5000;
/** Found instead of an entry for an address of our own: frames to it do not leave the kernel (device/loop.ts). */
export const NEIGHBOR_OWN: i32 = -2;
/** Entries looked at to find the one that was used longest ago. */
const EVICTION_SAMPLE: u32 = 16;

const NONE: i32 = -1;

/** A list of entries with the same waiting time, oldest deadline first. */
@unmanaged
class DeadlineList {
  head: i32;
  tail: i32;
}
const LIST_RETRY = changetype<DeadlineList>(memory.data(8, 8));
/** That of IPv6, whose time routers may set. */
const LIST_RETRY_V6 = changetype<DeadlineList>(memory.data(8, 8));
const LIST_FAILED = changetype<DeadlineList>(memory.data(8, 8));
const LIST_AGING = changetype<DeadlineList>(memory.data(8, 8));
const LIST_DELAY = changetype<DeadlineList>(memory.data(8, 8));

let entries: usize = 0;
let entriesUsed: u32 = 0;
/** First of the free entries that were in use before, chained by chainNext. */
let freeHead: i32 = NONE;
let buckets: usize = 0;
let bucketMask: u32 = 0;
let incompleteCount: u32 = 0;
let incompleteMax: u32 = 0;
/** Of those, how many may be for packets that answer others. */
let answersMax: u32 = 0;
let evictionHand: u32 = 0;

let reachableTicksV4: u32 = 0;
/** RFC 4861 6.3.2 ReachableTime and RetransTimer. */
let reachableTicksV6: u32 = 0;
let retryMsV6: u32 = RETRY_MS;
/** Unconfirmed entries go after neighborExpiryMs; they are looked at twice in that time. */
let agingMs: u32 = 0;

/** Carves neighborsMax entries and the buffers for held frames. @returns false when the arena is too small. */
export function neighborBoot(): bool {
  if (neighborsMax == 0) return false;
  let slots: u32 = 16;
  while (slots < neighborsMax) slots <<= 1;
  bucketMask = slots - 1;
  entries = arenaAlloc(<usize>neighborsMax * NEIGHBOR_SIZE_BYTES, 64);
  buckets = arenaAlloc((<usize>slots) << 2, 64);
  // Half of the table at most waits for answers: whoever makes us look for hosts that are not there cannot push out
  // those that are.
  incompleteMax = max<u32>(1, neighborsMax / 2);
  if (!holdBoot()) return false;
  answersMax = max<u32>(1, min(incompleteMax, holdSlots()) / 2);
  if (entries == 0 || buckets == 0) return false;
  memory.fill(buckets, 0xff, (<usize>slots) << 2);
  const seed = <u64>seedWord(2) | ((<u64>seedWord(3)) << 32);
  mixLow = (seed * 0x9e3779b97f4a7c15) | 1;
  mixHigh = ((seed ^ 0x5851f42d4c957f2d) * 0x9fb21c651e98df25) | 1;
  listClear(LIST_RETRY);
  listClear(LIST_RETRY_V6);
  listClear(LIST_FAILED);
  listClear(LIST_AGING);
  listClear(LIST_DELAY);
  reachableTicksV4 = ticksOfMs(REACHABLE_MS);
  reachableTicksV6 = reachableTicksV4;
  retryMsV6 = RETRY_MS;
  agingMs = neighborExpiryMs / 2;
  return true;
}

function at(index: i32): Neighbor {
  return changetype<Neighbor>(entries + <usize>index * NEIGHBOR_SIZE_BYTES);
}

// Lists.

function listClear(list: DeadlineList): void {
  list.head = NONE;
  list.tail = NONE;
}

function listOf(entry: Neighbor, state: u8): DeadlineList {
  if (state == REACHABLE) return LIST_AGING;
  if (state == DELAY) return LIST_DELAY;
  if (state == FAILED) return LIST_FAILED;
  return isV4(entry) ? LIST_RETRY : LIST_RETRY_V6;
}

function listAppend(list: DeadlineList, index: i32, delayMs: u32): void {
  const entry = at(index);
  entry.deadlineTick = nowTick + ticksOfMs(delayMs);
  entry.listPrevious = list.tail;
  entry.listNext = NONE;
  if (list.tail == NONE) list.head = index;
  else at(list.tail).listNext = index;
  list.tail = index;
}

function listRemove(list: DeadlineList, index: i32): void {
  const entry = at(index);
  if (entry.listPrevious == NONE) list.head = entry.listNext;
  else at(entry.listPrevious).listNext = entry.listNext;
  if (entry.listNext == NONE) list.tail = entry.listPrevious;
  else at(entry.listNext).listPrevious = entry.listPrevious;
}

/** The one place where an entry changes state: lists and the count of unresolved entries stay in step. */
function setState(index: i32, state: u8, delayMs: u32): void {
  const entry = at(index);
  if (entry.state != FREE) listRemove(listOf(entry, entry.state), index);
  if (entry.state == INCOMPLETE) incompleteCount--;
  if (state == INCOMPLETE) incompleteCount++;
  entry.state = state;
  if (state != FREE) listAppend(listOf(entry, state), index, delayMs);
}

// Table.

function keyOf(v4: u32): u64 {
  return <u64>V4_MAPPED | ((<u64>v4) << 32);
}

function isV4(entry: Neighbor): bool {
  return entry.keyHigh == 0 && <u32>entry.keyLow == V4_MAPPED;
}

function reachableTicks(entry: Neighbor): u32 {
  return isV4(entry) ? reachableTicksV4 : reachableTicksV6;
}

function retryMs(entry: Neighbor): u32 {
  return isV4(entry) ? RETRY_MS : retryMsV6;
}

function isResolved(entry: Neighbor): bool {
  return entry.state == REACHABLE || entry.state == PROBE || entry.state == DELAY;
}

/** Odd multipliers that nobody else knows: whoever chooses addresses cannot choose chains. */
let mixLow: u64 = 0;
let mixHigh: u64 = 0;

/** Where the head of the chain for a key lies. */
function bucketOf(keyHigh: u64, keyLow: u64): usize {
  // Folded first: a bit of a product depends on the lower bits of its factors only, and an IPv4 address lies high up.
  const hash = (keyLow ^ (keyLow >> 32)) * mixLow + (keyHigh ^ (keyHigh >> 32)) * mixHigh;
  return buckets + ((<usize>(hash >> 40) & bucketMask) << 2);
}

function lookUp(keyHigh: u64, keyLow: u64): i32 {
  let index = load<i32>(bucketOf(keyHigh, keyLow));
  while (index != NONE) {
    const entry = at(index);
    if (entry.keyLow == keyLow && entry.keyHigh == keyHigh) return index;
    index = entry.chainNext;
  }
  return NONE;
}

/** Entries in the chain that the 16 bytes at `address` belong to: what a look-up costs at most. */
export function neighborChainLength(address: usize): u32 {
  let length: u32 = 0;
  let index = load<i32>(bucketOf(load<u64>(address), load<u64>(address, 8)));
  for (; index != NONE; index = at(index).chainNext) length++;
  return length;
}

/** A new entry in state FREE but in the table, or NONE when nothing can be evicted. */
function create(keyHigh: u64, keyLow: u64): i32 {
  let index: i32;
  if (freeHead != NONE) {
    index = freeHead;
    freeHead = at(index).chainNext;
  } else if (entriesUsed < neighborsMax) {
    index = <i32>entriesUsed;
    entriesUsed++;
  } else {
    const victim = oldestEvictable();
    if (victim == NONE) return NONE;
    count(NEIGHBOR_EVICTED);
    release(victim);
    index = freeHead;
    freeHead = at(index).chainNext;
  }
  memory.fill(changetype<usize>(at(index)), 0, NEIGHBOR_SIZE_BYTES);
  const entry = at(index);
  entry.keyHigh = keyHigh;
  entry.keyLow = keyLow;
  entry.usedTick = nowTick;
  const bucket = bucketOf(keyHigh, keyLow);
  entry.chainNext = load<i32>(bucket);
  store<i32>(bucket, index);
  return index;
}

/** Takes an entry out of the table; what it holds is dropped. */
function release(index: i32): void {
  const entry = at(index);
  dropHeld(entry);
  setState(index, FREE, 0);
  let link = bucketOf(entry.keyHigh, entry.keyLow);
  while (load<i32>(link) != index) {
    link = changetype<usize>(at(load<i32>(link))) + offsetof<Neighbor>("chainNext");
  }
  store<i32>(link, entry.chainNext);
  entry.keyHigh = 0;
  entry.keyLow = 0;
  entry.chainNext = freeHead;
  freeHead = index;
}

/**
 * Of a sample that starts where the last one ended, the entry that was used longest ago; failed ones first, proven
 * ones last. Exact for tables up to the sample's size. Entries that wait for an answer are never taken.
 * Preconditions: no entry is free.
 */
function oldestEvictable(): i32 {
  let best: i32 = NONE;
  let bestRank: u32 = 0;
  for (let seen: u32 = 0; seen < neighborsMax; seen++) {
    if (seen >= EVICTION_SAMPLE && best != NONE) break;
    const index = <i32>evictionHand;
    evictionHand = evictionHand + 1 == neighborsMax ? 0 : evictionHand + 1;
    const entry = at(index);
    if (entry.state == INCOMPLETE) continue;
    // Failed ones go first, proven ones last.
    const rank: u32 = entry.state == FAILED ? 3 : entry.proven == 0 ? 2 : 1;
    if (rank < bestRank) continue;
    if (rank > bestRank || nowTick - entry.usedTick > nowTick - at(best).usedTick) {
      best = index;
      bestRank = rank;
    }
  }
  return best;
}

// Sending.

/**
 * The entry of a next hop; a new one is INCOMPLETE and a request for it is on its way.
 * Call it before txReserve: it may send a frame itself.
 * @param nextHop IPv4 address on our link, in memory order.
 * @param isAnswer the packet answers one whose sender may not exist: only part of the unresolved entries, and of the
 *   frames that wait, is for such.
 * @returns its index, NEIGHBOR_OWN, or -1 when no entry can be had (NEIGHBOR_REFUSED) or the address cannot be a
 *   host's.
 */
export function neighborFind(nextHop: u32, isAnswer: bool): i32 {
  const found = lookUp(0, keyOf(nextHop));
  if (found != NONE) return found;
  if (addressFindV4(nextHop) >= 0) return NEIGHBOR_OWN;
  return isHostV4(nextHop) ? begin(0, keyOf(nextHop), isAnswer) : NONE;
}

/** Likewise for the IPv6 address of 16 bytes at `nextHop`. */
export function neighborFindV6(nextHop: usize, isAnswer: bool): i32 {
  const high = load<u64>(nextHop);
  const low = load<u64>(nextHop, 8);
  const found = lookUp(high, low);
  if (found != NONE) return found;
  if (addressFindV6(nextHop) >= 0) return NEIGHBOR_OWN;
  return isHostV6(nextHop) ? begin(high, low, isAnswer) : NONE;
}

function begin(keyHigh: u64, keyLow: u64, isAnswer: bool): i32 {
  const limit = isAnswer ? answersMax : incompleteMax;
  const index = incompleteCount < limit ? create(keyHigh, keyLow) : NONE;
  if (index == NONE) {
    count(NEIGHBOR_REFUSED);
    return NONE;
  }
  setState(index, INCOMPLETE, retryMs(at(index)));
  solicit(at(index));
  return index;
}

/** IPv4 address of entry `index`, in memory order; 0 when it is no IPv4 entry, free, or no entry at all. */
export function neighborAddress(index: i32): u32 {
  return <u32>index < entriesUsed && isV4(at(index)) ? <u32>(at(index).keyLow >> 32) : 0;
}

/** True when entry `index` is that of the IPv6 address of 16 bytes at `address`. */
export function neighborIsV6(index: i32, address: usize): bool {
  if (<u32>index >= entriesUsed) return false;
  const entry = at(index);
  return entry.keyLow == load<u64>(address, 8) && entry.keyHigh == load<u64>(address);
}

/** True when frames to it can leave at once. */
export function neighborIsResolved(index: i32): bool {
  return isResolved(at(index));
}

/** True while the neighbour is known not to answer: what is sent to it is dropped. */
export function neighborIsFailed(index: i32): bool {
  return at(index).state == FAILED;
}

/**
 * Sends the packet that lies behind room for an Ethernet header at the place that txReserve gave.
 * Resolved: the header is written and the frame committed. Unresolved: a copy waits, at most HELD_FRAMES_MAX per
 * neighbour, the oldest is dropped (RFC 1122 2.3.2.2). Failed: dropped. Preconditions: neighborAddress(index) is the
 * next hop.
 */
export function neighborSend(index: i32, frame: usize, frameBytes: u32): void {
  const entry = at(index);
  if (entry.state == REACHABLE && nowTick - entry.confirmedTick < reachableTicks(entry)) {
    entry.usedTick = nowTick;
    writeEthernet(entry, frame);
    txCommit(frameBytes);
    return;
  }
  sendSlowly(index, frame, frameBytes);
}

function sendSlowly(index: i32, frame: usize, frameBytes: u32): void {
  const entry = at(index);
  entry.usedTick = nowTick;
  if (entry.state == INCOMPLETE) {
    hold(entry, frame, frameBytes);
    return;
  }
  if (!isResolved(entry)) {
    count(DROP_NEIGHBOR_UNRESOLVED);
    return;
  }
  writeEthernet(entry, frame);
  txCommit(frameBytes);
  if (entry.state != REACHABLE) return;
  if (isV4(entry)) probe(index);
  else setState(index, DELAY, UNSOLICITED_MS);
}

/** The neighbour is asked itself whether it is still there. */
function probe(index: i32): void {
  at(index).requests = 0;
  setState(index, PROBE, retryMs(at(index)));
  solicit(at(index));
}

/** Asks for the address of an entry: everybody when it is unknown, the neighbour itself when it is to be confirmed. */
function solicit(entry: Neighbor): void {
  entry.requests++;
  const mac = entry.state == PROBE ? changetype<usize>(entry) + NEIGHBOR_ETHERNET : 0;
  if (!isV4(entry)) {
    ndpSolicit(changetype<usize>(entry), mac);
    return;
  }
  const v4 = <u32>(entry.keyLow >> 32);
  const near = sourceForV4(v4);
  const source = near >= 0 ? near : firstV4();
  const senderV4 = source >= 0 ? addressV4(source) : 0;
  if (arpSend(ARP_REQUEST, senderV4, mac, mac, v4)) count(ARP_REQUESTS_SENT);
}

// Learning.

/**
 * Writes a neighbour's Ethernet address, sends what waited for it.
 * @param validMs how long it counts as confirmed at most, or CONFIRMED_MS.
 */
function learn(index: i32, mac: usize, validMs: u32): void {
  const entry = at(index);
  const header = changetype<usize>(entry) + NEIGHBOR_ETHERNET;
  memory.copy(header, mac, 6);
  memory.copy(header + 6, OWN_MAC, 6);
  store<u16>(header, <u16>(isV4(entry) ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6), ETHERNET_TYPE);
  const reachable = reachableTicks(entry);
  const valid = validMs == CONFIRMED_MS ? reachable : min(ticksOfMs(validMs), reachable);
  entry.confirmedTick = nowTick - (reachable - valid);
  entry.requests = 0;
  if (validMs == CONFIRMED_MS) {
    entry.proven = 1;
    gatewayHeard(changetype<usize>(entry));
  }
  setState(index, REACHABLE, agingMs);
  sendHeld(entry);
}

/**
 * An ARP packet names the Ethernet address of `sender` (in memory order).
 * @param forUs it asks for an address of ours, or answers us.
 */
export function neighborHeard(sender: u32, mac: usize, forUs: bool, isRequest: bool): void {
  let index = lookUp(0, keyOf(sender));
  if (index == NONE) {
    if (!forUs || !isRequest || !isOnLink(sender)) return;
    index = create(0, keyOf(sender));
    if (index == NONE) return;
  }
  // A reply to us proves both directions; anything else only that the neighbour is there.
  if (forUs && !isRequest) learn(index, mac, CONFIRMED_MS);
  else refresh(index, mac);
}

/** What an unsolicited packet says: a new address counts, the confirmation of a known one is left as it is. */
function refresh(index: i32, mac: usize): void {
  const entry = at(index);
  if (isResolved(entry) && macEqual(changetype<usize>(entry) + NEIGHBOR_ETHERNET, mac)) return;
  learn(index, mac, UNSOLICITED_MS);
}

function isOnLink(v4: u32): bool {
  const source = sourceForV4(v4);
  return source >= 0 && nextHopV4(source, v4) == v4;
}

/**
 * A packet whose next hop back is `nextHop` came in a frame with this source Ethernet address: good enough to answer
 * without asking first. Never changes an address that is known.
 * Why: a card delivers ARP replies to one queue, and the kernel that needs one may have another (src/device).
 * @returns index of the entry, or -1.
 */
export function neighborSeen(nextHop: u32, sourceMac: usize): i32 {
  const index = lookUp(0, keyOf(nextHop));
  if (index != NONE && isResolved(at(index))) return index;
  if (index == NONE && (!isHostV4(nextHop) || addressFindV4(nextHop) >= 0 || !isOnLink(nextHop))) return NONE;
  return seen(index, 0, keyOf(nextHop), sourceMac);
}

/** Likewise for IPv6. @param nextHop where its 16 bytes lie; 0: there is none. */
export function neighborSeenV6(nextHop: usize, sourceMac: usize): i32 {
  if (nextHop == 0) return NONE;
  const high = load<u64>(nextHop);
  const low = load<u64>(nextHop, 8);
  const index = lookUp(high, low);
  if (index != NONE && isResolved(at(index))) return index;
  if (index == NONE && (!isHostV6(nextHop) || addressFindV6(nextHop) >= 0)) return NONE;
  return seen(index, high, low, sourceMac);
}

function seen(known: i32, keyHigh: u64, keyLow: u64, sourceMac: usize): i32 {
  if (!isStationMac(sourceMac) || macEqual(sourceMac, OWN_MAC)) return known;
  const index = known != NONE ? known : create(keyHigh, keyLow);
  if (index == NONE) {
    count(NEIGHBOR_REFUSED);
    return NONE;
  }
  learn(index, sourceMac, UNSOLICITED_MS);
  return index;
}

/**
 * A neighbour has told its Ethernet address in a solicitation (RFC 4861 7.2.3): an entry for it, STALE when the address
 * is new. @param address where its 16 bytes lie.
 */
export function neighborSolicited(address: usize, mac: usize): void {
  if (!isHostV6(address) || addressFindV6(address) >= 0 || !isNeighborV6(address)) return;
  const high = load<u64>(address);
  const low = load<u64>(address, 8);
  let index = lookUp(high, low);
  if (index == NONE) index = create(high, low);
  if (index != NONE && !(isResolved(at(index)) && macEqual(changetype<usize>(at(index)) + NEIGHBOR_ETHERNET, mac))) {
    learn(index, mac, 0);
  }
}

function isNeighborV6(address: usize): bool {
  return isLinkLocalV6(address) || nextHopV6(address) == address;
}

/**
 * A neighbour advertisement (RFC 4861 7.2.5) about an address that we know.
 * @param mac the target's Ethernet address; 0: none was told.
 * @returns whether the rest of what it says counts. True where this kernel has no entry: another one may.
 */
export function neighborAdvertised(address: usize, mac: usize, solicited: bool, overrides: bool): bool {
  const index = lookUp(load<u64>(address), load<u64>(address, 8));
  if (index == NONE) return true;
  const entry = at(index);
  if (!isResolved(entry)) {
    if (mac != 0) learn(index, mac, solicited ? CONFIRMED_MS : 0);
    return mac != 0;
  }
  const differs = mac != 0 && !macEqual(changetype<usize>(entry) + NEIGHBOR_ETHERNET, mac);
  if (differs && !overrides) {
    // Two say that they have it: the one we know is asked with the next packet.
    if (entry.state == REACHABLE) entry.confirmedTick = nowTick - reachableTicks(entry);
    return false;
  }
  if (differs) learn(index, mac, solicited ? CONFIRMED_MS : 0);
  else if (solicited) neighborConfirm(index);
  return true;
}

/**
 * A higher layer doubts the way: nothing answers (RFC 1122 2.3.2.1 (4); Linux: dst_negative_advice). The next packet
 * has the neighbour asked whether it is still there. @param index any number.
 */
export function neighborDoubt(index: i32): void {
  if (<u32>index >= entriesUsed || at(index).state != REACHABLE) return;
  at(index).confirmedTick = nowTick - reachableTicks(at(index));
}

/** Has the neighbour asked now whether it is there; one that is being asked, or is not known, is left alone. */
function neighborAsk(index: i32): void {
  if (<u32>index < entriesUsed && (at(index).state == REACHABLE || at(index).state == DELAY)) probe(index);
}

/** True when a confirmation now would change nothing. @param index any number. */
export function neighborIsFresh(index: i32): bool {
  return <u32>index < entriesUsed && at(index).state == REACHABLE && at(index).confirmedTick == nowTick;
}

/**
 * A higher layer knows that the neighbour receives from us (an acknowledgement of new data; RFC 4861 7.3.1).
 * Preconditions: neighborAddress(index) is the next hop.
 */
export function neighborConfirm(index: i32): void {
  const entry = at(index);
  entry.proven = 1;
  if (entry.state == REACHABLE) entry.confirmedTick = nowTick;
  else if (entry.state == PROBE || entry.state == DELAY) {
    entry.confirmedTick = nowTick;
    setState(index, REACHABLE, agingMs);
    gatewayHeard(changetype<usize>(entry));
  }
}

/**
 * What routers advertise for neighbours of IPv6 (RFC 4861 6.3.4); 0: RFC 4861 10. What is left of a confirmation
 * stays, as far as the new time allows; solicitations that are due earlier by the new one are.
 */
export function neighborTimes(reachableMs: u32, retransMs: u32): void {
  const reachable = ticksOfMs(reachableMs != 0 ? reachableMs : REACHABLE_MS);
  for (let i: u32 = 0; i < entriesUsed && reachable != reachableTicksV6; i++) {
    const entry = at(i);
    if (entry.state == FREE || isV4(entry)) continue;
    const past = nowTick - entry.confirmedTick;
    const left = past < reachableTicksV6 ? min(reachableTicksV6 - past, reachable) : 0;
    if (left != 0 || past < reachable) entry.confirmedTick = nowTick - (reachable - left);
  }
  reachableTicksV6 = reachable;
  retryMsV6 = retransMs != 0 ? retransMs : RETRY_MS;
  const untilTick = nowTick + ticksOfMs(retryMsV6);
  for (let index = LIST_RETRY_V6.head; index != NONE; index = at(index).listNext) {
    if (tickReached(untilTick, at(index).deadlineTick)) at(index).deadlineTick = untilTick;
  }
}

// Timers.

export function neighborHasDeadline(): bool {
  if (gatewaysDue != 0) return true;
  if (LIST_RETRY.head != NONE || LIST_RETRY_V6.head != NONE) return true;
  return LIST_FAILED.head != NONE || LIST_AGING.head != NONE || LIST_DELAY.head != NONE;
}

/** Preconditions: neighborHasDeadline(). */
export function neighborNextDeadlineTick(): u32 {
  if (gatewaysDue != 0) return nowTick;
  // Half the range: a deadline that has passed must still be told from one that is far.
  let next: u32 = nowTick + 0x3fffffff;
  next = earlier(next, LIST_RETRY.head);
  next = earlier(next, LIST_RETRY_V6.head);
  next = earlier(next, LIST_FAILED.head);
  next = earlier(next, LIST_DELAY.head);
  return earlier(next, LIST_AGING.head);
}

function earlier(tick: u32, index: i32): u32 {
  return index != NONE && tickReached(at(index).deadlineTick, tick) ? at(index).deadlineTick : tick;
}

/** Does what is due: at most one step per entry and call. */
export function neighborTimers(): void {
  while (gatewaysDue != 0) askGateway(gatewayTakeDue());
  while (isDue(LIST_RETRY.head)) retry(LIST_RETRY.head);
  while (isDue(LIST_RETRY_V6.head)) retry(LIST_RETRY_V6.head);
  while (isDue(LIST_FAILED.head)) release(LIST_FAILED.head);
  while (isDue(LIST_DELAY.head)) probe(LIST_DELAY.head);
  while (isDue(LIST_AGING.head)) age(LIST_AGING.head);
}

/** A dead gateway may have asked for us meanwhile, and be known by that; but does it answer? */
function askGateway(address: usize): void {
  neighborAsk(isV4Mapped(address) ? neighborFind(load<u32>(address, 12), false) : neighborFindV6(address, false));
}

function isDue(index: i32): bool {
  return index != NONE && tickReached(at(index).deadlineTick, nowTick);
}

function retry(index: i32): void {
  const entry = at(index);
  if (entry.requests < REQUESTS_MAX) {
    setState(index, entry.state, retryMs(entry));
    solicit(entry);
  } else if (entry.state == PROBE) {
    // RFC 1122 2.3.2.1 (2): the next packet to it asks everybody.
    gatewayLost(changetype<usize>(entry));
    release(index);
  } else {
    dropHeld(entry);
    gatewayLost(changetype<usize>(entry));
    setState(index, FAILED, FAILED_MS);
  }
}

function age(index: i32): void {
  if (nowTick - at(index).confirmedTick >= ticksOfMs(neighborExpiryMs)) release(index);
  else setState(index, REACHABLE, agingMs);
}
