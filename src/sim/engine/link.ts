/** The card's two limits, and the link between it and the clients: when a frame has passed. Instants never decrease. */
import { ZERO } from "./doubles.ts";
import { wireBytes } from "./wire.ts";

export type LinkCosts = {
  readonly linkGbps: number;
  /** Both directions together. */
  readonly nicPacketsPerSec: number;
  /** Time on the way, in either direction. */
  readonly wireUs: number;
  /** How long a client's own stack takes to react. */
  readonly clientUs: number;
};

export class Link {
  /** Time that a frame takes at least, in either direction. */
  readonly quietNs: number;
  /** From the card to where a client sees a frame. */
  readonly #toClientNs: number;
  readonly #nsPerByte: number;
  readonly #nsPerPacket: number;
  #linkFreeNs = ZERO;
  #cardFreeNs = ZERO;

  constructor({ clientUs, linkGbps, nicPacketsPerSec, wireUs }: LinkCosts) {
    this.quietNs = wireUs * 1000;
    this.#toClientNs = (wireUs + clientUs) * 1000;
    this.#nsPerByte = 8 / linkGbps;
    this.#nsPerPacket = 1e9 / nicPacketsPerSec;
  }

  /** A packet goes through the card, in either direction. @returns when it is through. */
  #passCard(atNs: number): number {
    const throughNs = Math.max(this.#cardFreeNs, atNs) + this.#nsPerPacket;
    this.#cardFreeNs = throughNs;
    return throughNs;
  }

  /** A client's frame has left at `leavesNs`. @returns when the card has put it into a queue. */
  toServer(leavesNs: number): number {
    return this.#passCard(leavesNs) + this.quietNs;
  }

  /** A core sends a frame at `nowNs`. @returns when its client sees it. */
  toClient(nowNs: number, frameBytes: number): number {
    const leftNs = Math.max(this.#linkFreeNs, this.#passCard(nowNs)) + wireBytes(frameBytes) * this.#nsPerByte;
    this.#linkFreeNs = leftNs;
    return leftNs + this.#toClientNs;
  }
}
