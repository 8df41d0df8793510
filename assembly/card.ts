/**
 * card.wasm: the switching and steering stage of an in-memory Ethernet segment (src/layout/card.ts has the memory).
 * A sending port puts a run of frame-ring records into its region and calls classify(), which finds the receiving card
 * and queue of each and sorts the records into one run per receiving port, so that a run moves in one copy.
 */
import { filterClearAt, filterSetAt } from "./card/filters.ts";
import { cutLargeFrame, fillChecksum } from "./card/gso.ts";
import { steer } from "./card/steer.ts";
import { toeplitzBuild } from "./rss/toeplitz.ts";
import {
  CARDS_BASE,
  CARD_FLAGS,
  CARD_FLAG_CHECKSUM_OFFLOAD,
  CARD_FLAG_LARGE_RECEIVE,
  CARD_MACS_BASE,
  CARD_QUEUES,
  CARD_QUEUE_PORTS,
  CARD_RSS_KEY,
  CARD_RSS_TABLES,
  CARD_SCRATCH,
  CARD_SIZE_BYTES,
  PORTS_BASE,
  PORT_NONE,
  PORT_OPEN,
  PORT_RECORD_SIZE_BYTES,
  REGION_CUT,
  REGION_CUT_BYTES,
  REGION_DROP_GSO,
  REGION_DROP_NO_PORT,
  REGION_DROP_OWN_CARD,
  REGION_OUTPUT,
  REGION_RECORDS_MAX,
  REGION_SECTIONS,
  REGION_STOP,
  REGION_TALLY_BYTES,
  REGION_TALLY_FILL,
  REGION_TALLY_FRAMES,
  REGION_TARGETS,
  SECTION_ADDRESS,
  SECTION_BYTES,
  SECTION_FRAMES,
  SECTION_PORT,
  SECTION_SIZE_BYTES,
  SEGMENT_BASE,
  SEGMENT_CARD_COUNT,
  SEGMENT_PORT_REGIONS,
  SEGMENT_PORT_REGION_BYTES,
  TARGET_ALL_QUEUES,
  TARGET_FLOOD,
} from "../src/layout/card.ts";
import {
  FRAME_ALIGN_BYTES,
  FRAME_LENGTH,
  FRAME_OFFSET,
  FRAME_QUEUE,
  FRAME_VNET_FLAGS,
  FRAME_VNET_GSO_TYPE,
  VNET_GSO_NONE,
  VNET_NEEDS_CSUM,
} from "../src/layout/frameRing.ts";
import { loadOrdered } from "./mem/ordered.ts";
import {
  ETHERNET_BYTES,
  ETHERNET_TYPE,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV6,
  IPV6_HEADER_BYTES,
  PROTOCOL_ICMPV6,
  V6_NEXT_HEADER,
} from "./wire/headers.ts";

/** classify(): the first record is a large frame that its receiver does not take; call cut(), classify the result. */
const CUT_FIRST: i32 = -1;

/** No card: the frame is for the card that sent it. */
const CARD_OWN: u32 = 255;
/** All cards but the sender's. */
const CARD_ALL: u32 = 254;
const MAC_MASK: u64 = 0xffffffffffff;
const RECORDS_MAX: u32 = REGION_RECORDS_MAX;

/** The last address found and its card: runs of frames mostly go to one card. Cards keep both for life. */
let macSeen: u64 = 0;
let cardSeen: u32 = 0;

/** Receiving ports met in this run, and whether the records can stay where they are. */
let ports: u64 = 0;
let inPlace: bool = false;

function cardAt(card: u32): usize {
  return CARDS_BASE + <usize>(card * CARD_SIZE_BYTES);
}

function regionAt(port: u32): usize {
  return load<u32>(SEGMENT_BASE, SEGMENT_PORT_REGIONS) + port * load<u32>(SEGMENT_BASE, SEGMENT_PORT_REGION_BYTES);
}

function recordBytes(frameBytes: u32): u32 {
  return (FRAME_OFFSET + frameBytes + FRAME_ALIGN_BYTES - 1) & -FRAME_ALIGN_BYTES;
}

/** Makes the Toeplitz tables of a card from the key in its registers. */
export function buildRssTables(card: u32): void {
  toeplitzBuild(cardAt(card) + CARD_RSS_TABLES, cardAt(card) + CARD_RSS_KEY);
}

/** Adds the filter record at CARD_SCRATCH, or changes its queue. @returns OK, EINVAL or ENOBUFS. */
export function filterSet(card: u32, queue: u32): i32 {
  return filterSetAt(cardAt(card), cardAt(card) + CARD_SCRATCH, queue);
}

/** Removes the filter at CARD_SCRATCH. @returns 1, or 0: there was none. */
export function filterClear(card: u32): i32 {
  return filterClearAt(cardAt(card), cardAt(card) + CARD_SCRATCH);
}

/** Queue of the card that takes a frame of `bytes` bytes at `frame`. */
export function queueOf(card: u32, frame: usize, bytes: u32): u32 {
  return steer(cardAt(card), frame, bytes);
}

/** Fills in the checksum that a record asks for. */
export function fill(record: usize): void {
  if (load<u8>(record, FRAME_VNET_FLAGS) & VNET_NEEDS_CSUM) fillChecksum(record);
}

/**
 * Cuts the large frame of `record` into segments at REGION_CUT of port `port`.
 * @returns bytes of records there; 0: dropped and counted.
 */
export function cut(port: u32, record: usize): u32 {
  const region = regionAt(port);
  const bytes = cutLargeFrame(record, region + REGION_CUT, REGION_CUT_BYTES);
  if (bytes == 0) countIn(region, REGION_DROP_GSO);
  return bytes;
}

/**
 * Sorts the records at `from` by receiving port.
 * @param port sending port. @param card sending card. @param bytes at `from`; a record cut off at the end is left.
 * @returns number of sections at REGION_SECTIONS, or CUT_FIRST; REGION_STOP: bytes of the run that were worked off.
 */
export function classify(port: u32, card: u32, from: usize, bytes: u32): i32 {
  const region = regionAt(port);
  const outputMax = load<u32>(SEGMENT_BASE, SEGMENT_PORT_REGION_BYTES) - REGION_OUTPUT;
  let outputBytes: u32 = 0;
  let at: u32 = 0;
  let records: u32 = 0;
  ports = 0;
  inPlace = true;
  store<u32>(region, 0, REGION_STOP);
  while (at + FRAME_ALIGN_BYTES <= bytes && records < RECORDS_MAX) {
    const record = from + at;
    const length = load<i32>(record, FRAME_LENGTH);
    if (length < 0) {
      // A pad stands at the end of a ring only, so at the end of a run; it may reach beyond what was taken of it.
      at -= length;
      break;
    }
    const size = recordBytes(length);
    if (size > bytes - at) break;
    const to = receivingCard(card, record + FRAME_OFFSET, length);
    if (load<u8>(record, FRAME_VNET_GSO_TYPE) != VNET_GSO_NONE && !takesLarge(to)) {
      if (records == 0) return CUT_FIRST;
      break;
    }
    const copies =
      to == CARD_ALL
        ? load<u32>(SEGMENT_BASE, SEGMENT_CARD_COUNT)
        : to != CARD_OWN && isForAllQueues(record + FRAME_OFFSET, length)
          ? load<u32>(cardAt(to), CARD_QUEUES)
          : 1;
    if (outputBytes + size * copies > outputMax) break;
    outputBytes += size * copies;
    store<u8>(region + records, <u8>target(region, card, to, record, length, size), REGION_TARGETS);
    records++;
    at += size;
  }
  store<u32>(region, at, REGION_STOP);
  if (inPlace && popcnt<u64>(ports) == 1) {
    section(region, 0, <u32>ctz<u64>(ports), from, outputBytes, records);
    return 1;
  }
  layOut(region);
  scatter(region, card, from, records);
  return publishSections(region);
}

/** Number of the card that a frame goes to, CARD_ALL or CARD_OWN. */
function receivingCard(own: u32, frame: usize, bytes: u32): u32 {
  const cards = load<u32>(SEGMENT_BASE, SEGMENT_CARD_COUNT);
  // Two cards are a cable: everything goes to the other end.
  if (cards == 2) return own ^ 1;
  if (bytes < 6 || load<u8>(frame) & 1) return CARD_ALL;
  const mac = load<u64>(frame) & MAC_MASK;
  if (mac != macSeen) {
    let card: u32 = 0;
    while (card < cards && load<u64>(CARD_MACS_BASE + (card << 3)) != mac) card++;
    if (card == cards) return CARD_ALL;
    macSeen = mac;
    cardSeen = card;
  }
  return cardSeen == own ? CARD_OWN : cardSeen;
}

function takesLarge(card: u32): bool {
  // What goes to several cards is cut for the weakest of them.
  return card < CARD_ALL && (load<u32>(cardAt(card), CARD_FLAGS) & CARD_FLAG_LARGE_RECEIVE) != 0;
}

/** Steers one record and tallies it. @returns its receiving port, TARGET_FLOOD or PORT_NONE. */
function target(region: usize, own: u32, to: u32, record: usize, length: u32, size: u32): u32 {
  if (to == CARD_OWN) {
    countIn(region, REGION_DROP_OWN_CARD);
    inPlace = false;
    return PORT_NONE;
  }
  const offload = to != CARD_ALL && (load<u32>(cardAt(to), CARD_FLAGS) & CARD_FLAG_CHECKSUM_OFFLOAD) != 0;
  if (load<u8>(record, FRAME_VNET_FLAGS) & VNET_NEEDS_CSUM && !offload) fillChecksum(record);
  if (to == CARD_ALL) {
    inPlace = false;
    const cards = load<u32>(SEGMENT_BASE, SEGMENT_CARD_COUNT);
    for (let card: u32 = 0; card < cards; card++) {
      if (card != own) tally(region, openPort(card, steer(cardAt(card), record + FRAME_OFFSET, length)), size);
    }
    return TARGET_FLOOD;
  }
  if (isForAllQueues(record + FRAME_OFFSET, length)) {
    inPlace = false;
    const queues = load<u32>(cardAt(to), CARD_QUEUES);
    for (let queue: u32 = 0; queue < queues; queue++) tally(region, openPort(to, queue), size);
    return TARGET_ALL_QUEUES;
  }
  const queue = steer(cardAt(to), record + FRAME_OFFSET, length);
  store<u16>(record, <u16>queue, FRAME_QUEUE);
  const port = openPort(to, queue);
  if (port == PORT_NONE) {
    countIn(region, REGION_DROP_NO_PORT);
    inPlace = false;
  } else {
    tally(region, port, size);
  }
  return port;
}

/** Operation of an ARP packet (RFC 826), where it stands in it, and a reply as it lies in memory. */
const ARP_OPERATION: usize = 6;
const ARP_REPLY: u32 = 0x0200;
const ND_NEIGHBOR_ADVERTISEMENT: u32 = 136;

/**
 * ARP replies and neighbour advertisements (RFC 4861 4.4) are copied to every queue, as cards in a virtual-machine mode
 * copy broadcasts to every pool: any kernel may have asked. Requests go to one queue, so that they are answered once.
 */
function isForAllQueues(frame: usize, bytes: u32): bool {
  // Larger ones are none, and would not be worth the room of so many copies.
  if (bytes < 42 || bytes > 128) return false;
  const etherType = <u32>load<u16>(frame, ETHERNET_TYPE);
  const packet = frame + ETHERNET_BYTES;
  if (etherType == ETHERTYPE_ARP) return <u32>load<u16>(packet, ARP_OPERATION) == ARP_REPLY;
  const isNd = etherType == ETHERTYPE_IPV6 && bytes > ETHERNET_BYTES + IPV6_HEADER_BYTES;
  if (!isNd || <u32>load<u8>(packet, V6_NEXT_HEADER) != PROTOCOL_ICMPV6) return false;
  return <u32>load<u8>(packet, IPV6_HEADER_BYTES) == ND_NEIGHBOR_ADVERTISEMENT;
}

/** The port that drives a queue, or PORT_NONE. */
function openPort(card: u32, queue: u32): u32 {
  const port = <u32>load<u8>(cardAt(card) + queue, CARD_QUEUE_PORTS);
  if (port == PORT_NONE) return PORT_NONE;
  return <i32>loadOrdered(PORTS_BASE + port * PORT_RECORD_SIZE_BYTES + PORT_OPEN) == 1 ? port : PORT_NONE;
}

function tally(region: usize, port: u32, size: u32): void {
  if (port == PORT_NONE) return;
  const at = region + (port << 2);
  const bit: u64 = (<u64>1) << port;
  if (!(ports & bit)) {
    ports |= bit;
    store<u32>(at, size, REGION_TALLY_BYTES);
    return;
  }
  store<u32>(at, load<u32>(at, REGION_TALLY_BYTES) + size, REGION_TALLY_BYTES);
}

function section(region: usize, index: u32, port: u32, address: usize, bytes: u32, frames: u32): void {
  const at = region + REGION_SECTIONS + index * SECTION_SIZE_BYTES;
  store<u32>(at, port, SECTION_PORT);
  store<u32>(at, <u32>address, SECTION_ADDRESS);
  store<u32>(at, bytes, SECTION_BYTES);
  store<u32>(at, frames, SECTION_FRAMES);
}

/** Gives each receiving port its piece of the output. */
function layOut(region: usize): void {
  let address = <u32>region + REGION_OUTPUT;
  for (let rest = ports; rest != 0; rest &= rest - 1) {
    const at = region + ((<u32>ctz<u64>(rest)) << 2);
    store<u32>(at, address, REGION_TALLY_FILL);
    store<u32>(at, 0, REGION_TALLY_FRAMES);
    address += load<u32>(at, REGION_TALLY_BYTES);
  }
}

/** Describes the pieces as they were filled. @returns their number. */
function publishSections(region: usize): u32 {
  let address = <u32>region + REGION_OUTPUT;
  let index: u32 = 0;
  for (let rest = ports; rest != 0; rest &= rest - 1) {
    const port = <u32>ctz<u64>(rest);
    const at = region + (port << 2);
    const bytes = load<u32>(at, REGION_TALLY_FILL) - address;
    section(region, index++, port, address, bytes, load<u32>(at, REGION_TALLY_FRAMES));
    address += bytes + load<u32>(at, REGION_TALLY_BYTES);
  }
  return index;
}

function scatter(region: usize, own: u32, from: usize, records: u32): void {
  let record = from;
  for (let i: u32 = 0; i < records; i++) {
    const length = load<u32>(record, FRAME_LENGTH);
    const size = recordBytes(length);
    const to = <u32>load<u8>(region + i, REGION_TARGETS);
    if (to == TARGET_FLOOD) {
      const cards = load<u32>(SEGMENT_BASE, SEGMENT_CARD_COUNT);
      for (let card: u32 = 0; card < cards; card++) {
        if (card == own) continue;
        const queue = steer(cardAt(card), record + FRAME_OFFSET, length);
        store<u16>(record, <u16>queue, FRAME_QUEUE);
        append(region, <u32>load<u8>(cardAt(card) + queue, CARD_QUEUE_PORTS), record, size);
      }
    } else if (to == TARGET_ALL_QUEUES) {
      const card = receivingCard(own, record + FRAME_OFFSET, length);
      const queues = load<u32>(cardAt(card), CARD_QUEUES);
      for (let queue: u32 = 0; queue < queues; queue++) {
        store<u16>(record, <u16>queue, FRAME_QUEUE);
        append(region, <u32>load<u8>(cardAt(card) + queue, CARD_QUEUE_PORTS), record, size);
      }
    } else {
      append(region, to, record, size);
    }
    record += size;
  }
}

/** Copies a record behind the others for `port`. Records are whole 32-byte blocks, both places aligned. */
function append(region: usize, port: u32, record: usize, size: u32): void {
  const at = region + (port << 2);
  // The owner may have changed a register since the tally; a record without a place in this run is lost, as in a card.
  if (port == PORT_NONE || !(ports & ((<u64>1) << port)) || load<u32>(at, REGION_TALLY_BYTES) < size) return;
  let to = <usize>load<u32>(at, REGION_TALLY_FILL);
  store<u32>(at, <u32>to + size, REGION_TALLY_FILL);
  store<u32>(at, load<u32>(at, REGION_TALLY_BYTES) - size, REGION_TALLY_BYTES);
  store<u32>(at, load<u32>(at, REGION_TALLY_FRAMES) + 1, REGION_TALLY_FRAMES);
  const end = record + size;
  while (record < end) {
    v128.store(to, v128.load(record));
    v128.store(to, v128.load(record, 16), 16);
    record += 32;
    to += 32;
  }
}

function countIn(region: usize, counter: usize): void {
  store<u32>(region + counter, load<u32>(region + counter) + 1);
}
