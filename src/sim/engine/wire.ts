/**
 * What the engine reads in frames: whose they are and what they do. And where the card brings them: flow groups, or the
 * Toeplitz hash and an indirection table, as on the 82599.
 */
import { initialQueue } from "../../device/flowGroups.ts";
import { FLOW_GROUPS } from "../../layout/flowGroup.ts";
import { FRAME_OFFSET } from "../../layout/frameRing.ts";
import { portsWord, TOEPLITZ_KEY_DEFAULT, toeplitzBuild, toeplitzV4 } from "../../rss/toeplitz.ts";

/** Kinds of frames to the server. */
export const KIND_SYN = 0;
export const KIND_ACK = 1;
export const KIND_DATA = 2;
export const KIND_FIN = 3;
export const KIND_RST = 4;
export const KIND_SYN_ACK = 5;
/** No TCP over IPv4: ARP. */
export const KIND_OTHER = 7;
/** A frame queue's entry holds the connection and, above this bit, the frame's kind. */
export const KIND_SHIFT = 26;
export const SLOT_MASK = (1 << KIND_SHIFT) - 1;

const IP = FRAME_OFFSET + 14;
const TCP = IP + 20;

/** @param record byte address of a frame ring's record. */
export function frameKind(bytes: Uint8Array, record: number): number {
  if (bytes[record + FRAME_OFFSET + 12] !== 8 || bytes[record + FRAME_OFFSET + 13] !== 0) return KIND_OTHER;
  if (bytes[record + IP] !== 0x45 || bytes[record + IP + 9] !== 6) return KIND_OTHER;
  const flags = bytes[record + TCP + 13] as number;
  if (flags & 4) return KIND_RST;
  if (flags & 2) return flags & 16 ? KIND_SYN_ACK : KIND_SYN;
  if (flags & 1) return KIND_FIN;
  const totalBytes = ((bytes[record + IP + 2] as number) << 8) | (bytes[record + IP + 3] as number);
  const headerBytes = 20 + (((bytes[record + TCP + 12] as number) >> 4) << 2);
  return totalBytes > headerBytes ? KIND_DATA : KIND_ACK;
}

/** Last byte of the source address. */
export function sourceByte(bytes: Uint8Array, record: number): number {
  return bytes[record + IP + 15] as number;
}

/** Second to last byte of the source address. */
export function sourceNet(bytes: Uint8Array, record: number): number {
  return bytes[record + IP + 14] as number;
}

export function sourcePort(bytes: Uint8Array, record: number): number {
  return ((bytes[record + TCP] as number) << 8) | (bytes[record + TCP + 1] as number);
}

export function destinationPort(bytes: Uint8Array, record: number): number {
  return ((bytes[record + TCP + 2] as number) << 8) | (bytes[record + TCP + 3] as number);
}

/** Bytes on the wire: frame check sequence, preamble and gap included, 84 at least. */
export function wireBytes(frameBytes: number): number {
  return Math.max(frameBytes + 4, 64) + 20;
}

const RETA_ENTRIES = 128;

/** The card's tables. */
export class Steering {
  readonly queues: number;
  /** Queue of each flow group; only used if `byGroup`. */
  readonly groupQueue = new Uint16Array(FLOW_GROUPS);
  readonly #byGroup: boolean;
  readonly #reta = new Uint16Array(RETA_ENTRIES);
  readonly #tables = toeplitzBuild(TOEPLITZ_KEY_DEFAULT);

  constructor(queues: number, byGroup: boolean) {
    this.queues = queues;
    this.#byGroup = byGroup;
    for (let i = 0; i < RETA_ENTRIES; i++) this.#reta[i] = i % queues;
    for (let group = 0; group < FLOW_GROUPS; group++) this.groupQueue[group] = initialQueue(group, queues);
  }

  /** RSS hash of a packet; addresses in memory order. */
  hash(source: number, from: number, destination: number, to: number): number {
    return toeplitzV4(this.#tables, source, destination, portsWord(from, to));
  }

  /** @param group 12 low bits of the client's port. */
  queueOf(hash: number, group: number): number {
    if (this.#byGroup) return this.groupQueue[group] as number;
    return this.#reta[hash & (RETA_ENTRIES - 1)] as number;
  }
}
