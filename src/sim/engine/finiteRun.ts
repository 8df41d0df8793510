/**
 * The middle of a finite run: once its rate has settled, most of it can be left out. What its beginning adds (a cold
 * start, with all connections at once) and what its end adds (SYNs that are sent again and again while nobody else is
 * left) is simulated.
 */
import type { Clients } from "./clients.ts";
import { type Histogram, isFilling } from "./statistics.ts";

/** Time until the beginning is over, and time over which the middle's rate is measured. */
const BEGINNING_NS = 250e6;
const SPAN_NS = 250e6;
/** The same where SYNs are lost: the back-offs of 1, 3 and 7 s have come round. */
const BEGINNING_LOSS_NS = 8e9;
const SPAN_LOSS_NS = 6e9;
/** Connections, and time at the measured rate, that are left for the end. */
const END_CONNECTIONS_PER_IN_FLIGHT = 3;
const END_NS = 250e6;
/** A SYN that is lost for the fourth time at the end was first sent 7 s before, and comes again 8 s later. */
const END_LOSS_NS = 8e9;
/** Where nothing has been lost for so long, back-offs of a second or two included, a run is calm again. */
const CALM_NS = 2.5e9;
/** The two halves of the span differ by less than this. */
const TOLERANCE = 0.03;
/** A rate that does not settle is taken as it is after so many spans, and a queue that fills up never. */
const SPANS_MAX = 3;

/** What it needs of the clients. */
export type FiniteClients = Pick<
  Clients,
  "concurrency" | "inFlight" | "left" | "skip" | "latency" | "completed" | "completedEver" | "failed" | "requests"
>;

type Mark = {
  readonly ns: number;
  readonly completed: number;
  readonly failed: number;
  readonly requests: number;
  readonly inFlight: number;
};

export class FiniteRun {
  /** Time that was left out, and connections that completed in it. */
  skippedNs = 0;
  skippedCompleted = 0;
  readonly #clients: FiniteClients;
  readonly #inFlight: number;
  #start: Mark | undefined;
  #half: Mark | undefined;
  #latency: Histogram | undefined;
  #spans = 0;
  #losses = 0;
  #lostNs = Number.NEGATIVE_INFINITY;

  constructor(clients: FiniteClients) {
    this.#clients = clients;
    this.#inFlight = clients.concurrency;
  }

  /** After each window. @param spentNs since the start. @param losses packets lost since the start. */
  look(spentNs: number, windowNs: number, losses: number): void {
    if (losses > this.#losses) this.#lostNs = spentNs;
    this.#losses = losses;
    const isLossy = spentNs - this.#lostNs < CALM_NS;
    const spanNs = isLossy ? SPAN_LOSS_NS : SPAN_NS;
    const now = this.#mark(spentNs);
    if (this.#start === undefined) {
      if (spentNs >= (isLossy ? BEGINNING_LOSS_NS : BEGINNING_NS)) this.#begin(now);
      return;
    }
    const since = spentNs - this.#start.ns;
    if (this.#half === undefined && since >= spanNs / 2 - windowNs / 2) this.#half = now;
    if (since < spanNs || this.#half === undefined) return;
    this.#spans++;
    const waits = this.#spans < SPANS_MAX && !isSteady(this.#start, this.#half, now);
    if (waits || isFillingUp(this.#start, now)) this.#begin(now);
    else this.#leaveOut(this.#start, now, isLossy ? END_LOSS_NS : END_NS);
  }

  #mark(ns: number): Mark {
    const { completedEver, failed, inFlight, requests } = this.#clients;
    return { ns, completed: completedEver, failed, requests, inFlight };
  }

  #begin(now: Mark): void {
    this.#start = now;
    this.#half = undefined;
    this.#latency = this.#clients.latency.copy();
  }

  #leaveOut(start: Mark, now: Mark, endNs: number): void {
    const clients = this.#clients;
    const ended = now.completed + now.failed - start.completed - start.failed;
    const perNs = ended / (now.ns - start.ns);
    const keep = Math.max(END_CONNECTIONS_PER_IN_FLIGHT * this.#inFlight, perNs * endNs);
    const skip = Math.floor(clients.left - keep);
    // A factor below one is not worth the error.
    if (ended === 0 || skip < ended) {
      this.skippedNs = Number.EPSILON;
      return;
    }
    const factor = skip / ended;
    clients.skip(skip);
    if (this.#latency) clients.latency.extrapolate(this.#latency, factor);
    const failed = Math.round((now.failed - start.failed) * factor);
    clients.failed += failed;
    this.skippedCompleted = skip - failed;
    clients.completed += skip - failed;
    clients.completedEver += skip - failed;
    clients.requests += Math.round((now.requests - start.requests) * factor);
    this.skippedNs = skip / perNs;
  }
}

function isFillingUp(start: Mark, now: Mark): boolean {
  return isFilling(now.inFlight - start.inFlight, now.completed - start.completed, TOLERANCE);
}

function isSteady(start: Mark, half: Mark, now: Mark): boolean {
  const early = (half.completed - start.completed) / (half.ns - start.ns);
  const late = (now.completed - half.completed) / (now.ns - half.ns);
  return Math.abs(late - early) <= TOLERANCE * Math.max(early, late);
}
