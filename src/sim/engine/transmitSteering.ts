/**
 * What the driver of the 82599 does with Flow Director unless it is told otherwise (ixgbe_atr): every SYN that a core
 * sends, and every so many-th of its other packets, writes a filter that brings what the connection receives from then
 * on to the core's own queue. FINs are counted and write none. Filters stay until the table is nearly full; then the
 * driver empties it, and all flows are back with RSS.
 */
import * as F from "./connectionFields.ts";
import type { Connections } from "./connections.ts";

/** The card interrupts when so few places are left. */
const PLACES_LEFT = 64;
const QUEUE_BITS = 8;
const QUEUE_MASK = (1 << QUEUE_BITS) - 1;
/** Of the times that the table was emptied, so many are told apart: 30 bits with the queue's (CORES_MAX, point.ts). */
const EMPTIED_MASK = (1 << 22) - 1;

export class TransmitSteering {
  readonly #connections: Connections;
  readonly #rings: number;
  readonly #samplePackets: number;
  readonly #filtersMax: number;
  /** Packets since the last one that wrote a filter, by core. */
  readonly #sent: Int32Array;
  #filters = 0;
  #emptied = 0;

  constructor(connections: Connections, cores: number, rings: number, samplePackets: number, filtersMax: number) {
    this.#connections = connections;
    this.#rings = rings;
    this.#samplePackets = samplePackets;
    this.#filtersMax = Math.max(1, filtersMax - PLACES_LEFT);
    this.#sent = new Int32Array(cores);
  }

  /** `core` has sent packets of a connection. @returns true: a filter was written. */
  sent(core: number, slot: number, packets: number, isSyn: boolean): boolean {
    if (packets === 0) return false;
    const count = (this.#sent[core] as number) + packets;
    this.#sent[core] = count;
    if ((!isSyn && count < this.#samplePackets) || core >= this.#rings) return false;
    this.#sent[core] = 0;
    if (this.queueOf(slot) < 0) this.#take();
    this.#connections.set(slot, F.FILTER, (this.#emptied << QUEUE_BITS) | core);
    return true;
  }

  /** The last packets of a connection: FINs. */
  sentLast(core: number, packets: number): void {
    this.#sent[core] = (this.#sent[core] as number) + packets;
  }

  /** Queue that a filter brings the connection to; -1: there is none. */
  queueOf(slot: number): number {
    const filter = this.#connections.get(slot, F.FILTER);
    return filter >= 0 && filter >> QUEUE_BITS === this.#emptied ? filter & QUEUE_MASK : -1;
  }

  #take(): void {
    this.#filters++;
    if (this.#filters < this.#filtersMax) return;
    this.#filters = 0;
    this.#emptied = (this.#emptied + 1) & EMPTIED_MASK;
  }
}
