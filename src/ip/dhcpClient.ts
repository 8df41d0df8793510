/**
 * A DHCP client (RFC 2131 4.4): gets an address, renews it, gives it back. A state machine without clock, randomness or
 * wire of its own, so that a test can be its server.
 *
 * ```
 *            DISCOVER            OFFER: REQUEST          ACK: probe            nobody has it
 *   (start) ──────────► selecting ────────────► requesting ────────► probing ───────────────► bound
 *                           ▲                       │ NAK               │ taken: DECLINE        │ T1: ask the server
 *                           └───────────────────────┴───────────────────┴──── NAK, end of ── renewing, T2: all
 * ```
 */
import {
  ACK,
  type ClasslessRoute,
  DECLINE,
  DISCOVER,
  type DhcpReply,
  type DhcpRequest,
  NAK,
  OFFER,
  parseReply,
  RELEASE,
  REQUEST,
  writeRequest,
} from "./dhcpMessage.ts";

const S = 1000;
/** RFC 2131 4.1: doubling from 4 s to 64 s, each with up to a second more or less. */
const RETRY_MS = 4000;
const RETRY_MS_MAX = 64000;
/** REQUESTs without an answer, after which it starts anew. */
const REQUESTS_MAX = 4;
/** RFC 2131 3.1 (5): pause after a DECLINE. */
const DECLINE_PAUSE_MS = 10000;
/**
 * Deviates: RFC 5227 2.1.1 sends three probes in up to seven seconds; two in 600 ms find a host that answers, and the
 * server has usually looked already.
 */
const PROBES = 2;
const PROBE_MS = 300;
/** RFC 2131 4.4.5: not more often than once a minute. */
const RENEWAL_RETRY_MS_MIN = 60000;
const LEASE_S_MIN = 1;

export type Lease = {
  /** 4 bytes, as all addresses here. */
  readonly address: Uint8Array;
  readonly prefixLength: number;
  readonly router: Uint8Array | undefined;
  readonly routes: readonly ClasslessRoute[];
};

export type DhcpClientOptions = {
  readonly mac: Uint8Array;
  /** 0 <= result < 1. */
  readonly random: () => number;
  /** Sends a message to a server's port. @param to 4 bytes; undefined: to everybody, without an address of our own. */
  readonly send: (message: Uint8Array, to: Uint8Array | undefined) => void;
  /** Asks whether anybody has an address. */
  readonly probe: (address: Uint8Array) => void;
  /** True when somebody has the address that was asked for last. */
  readonly isProbeAnswered: () => boolean;
  readonly bound: (lease: Lease) => void;
  /** The lease is no longer ours. */
  readonly lost: (lease: Lease) => void;
};

type State = "init" | "selecting" | "requesting" | "probing" | "bound" | "renewing" | "rebinding" | "closed";

export class DhcpClient {
  readonly #options: DhcpClientOptions;
  #state: State = "init";
  #transaction = 0;
  #beganMs = 0;
  #tries = 0;
  /** When turn() has something to do. */
  #dueMs = Number.NEGATIVE_INFINITY;
  #offer: DhcpReply | undefined;
  #lease: Lease | undefined;
  #server: Uint8Array | undefined;
  /** T1, T2 and the end of the lease. */
  #renewMs = 0;
  #rebindMs = 0;
  #endMs = 0;
  /** When the REQUEST went out that was answered: the lease counts from there (RFC 2131 4.4.5). */
  #requestedMs = 0;

  constructor(options: DhcpClientOptions) {
    this.#options = options;
  }

  get isBound(): boolean {
    return this.#lease !== undefined;
  }

  get deadlineMs(): number {
    return Math.max(0, this.#dueMs);
  }

  turn(nowMs: number): void {
    if (nowMs < this.#dueMs) return;
    switch (this.#state) {
      case "init":
        this.#discover(nowMs, true);
        break;
      case "selecting":
        this.#discover(nowMs, false);
        break;
      case "requesting":
        if (this.#tries >= REQUESTS_MAX) this.#restart(nowMs, 0);
        else this.#request(nowMs);
        break;
      case "probing":
        this.#probed(nowMs);
        break;
      case "bound":
      case "renewing":
      case "rebinding":
        this.#renew(nowMs);
        break;
      case "closed":
        this.#dueMs = Number.POSITIVE_INFINITY;
        break;
    }
  }

  /** A datagram has come to the client's port. */
  input(bytes: Uint8Array, nowMs: number): void {
    const reply = parseReply(bytes, this.#options.mac);
    if (!reply || reply.transaction !== this.#transaction) return;
    if (this.#state === "selecting" && reply.type === OFFER) this.#offered(reply, nowMs);
    else if (reply.type === ACK) this.#acknowledged(reply, nowMs);
    else if (reply.type === NAK) this.#refused(reply, nowMs);
  }

  /** Gives the address back (RFC 2131 4.4.6). */
  close(): void {
    const lease = this.#lease;
    if (lease && this.#server) {
      this.#sendTo(this.#server, { type: RELEASE, clientAddress: lease.address, server: this.#server });
    }
    this.#state = "closed";
    this.#dueMs = Number.POSITIVE_INFINITY;
    this.#drop();
  }

  #sendTo(to: Uint8Array | undefined, fields: Omit<DhcpRequest, "transaction" | "elapsedS" | "mac">, nowMs = 0): void {
    const elapsedS = Math.max(0, Math.floor((nowMs - this.#beganMs) / S));
    const { mac } = this.#options;
    this.#options.send(writeRequest({ ...fields, transaction: this.#transaction, elapsedS, mac }), to);
  }

  #retryMs(): number {
    return Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** this.#tries) + (this.#options.random() * 2 - 1) * S;
  }

  #discover(nowMs: number, first: boolean): void {
    if (first) {
      this.#transaction = Math.floor(this.#options.random() * 2 ** 32);
      this.#beganMs = nowMs;
      this.#tries = 0;
    }
    this.#state = "selecting";
    this.#sendTo(undefined, { type: DISCOVER }, nowMs);
    this.#dueMs = nowMs + this.#retryMs();
    this.#tries++;
  }

  /** The first offer that can be used is taken. */
  #offered(reply: DhcpReply, nowMs: number): void {
    if (!reply.server || !isHostAddress(reply.yourAddress)) return;
    this.#offer = reply;
    this.#state = "requesting";
    this.#tries = 0;
    this.#request(nowMs);
  }

  #request(nowMs: number): void {
    const offer = this.#offer as DhcpReply;
    this.#requestedMs = nowMs;
    const server = offer.server as Uint8Array;
    this.#sendTo(undefined, { type: REQUEST, requestedAddress: offer.yourAddress, server }, nowMs);
    this.#dueMs = nowMs + this.#retryMs();
    this.#tries++;
  }

  #acknowledged(reply: DhcpReply, nowMs: number): void {
    const { leaseS } = reply;
    if (leaseS === undefined || leaseS < LEASE_S_MIN || !isHostAddress(reply.yourAddress)) return;
    const isFirst = this.#state === "requesting";
    if (!isFirst && this.#state !== "renewing" && this.#state !== "rebinding") return;
    const server = reply.server ?? this.#server;
    if (isFirst && !sameAddress(server, this.#offer?.server)) return;
    this.#server = server;
    this.#setTimes(reply, leaseS);
    if (isFirst) {
      this.#offer = reply;
      this.#state = "probing";
      this.#tries = 0;
      this.#probe(nowMs);
      return;
    }
    this.#bind(reply);
  }

  /** T1 and T2 as the server says, when they make sense, else a half and seven eighths (RFC 2131 4.4.5). */
  #setTimes({ renewalS, rebindingS }: DhcpReply, leaseS: number): void {
    const t2 = rebindingS !== undefined && rebindingS < leaseS ? rebindingS : leaseS * 0.875;
    const t1 = renewalS !== undefined && renewalS < t2 ? renewalS : Math.min(leaseS * 0.5, t2);
    this.#renewMs = this.#requestedMs + t1 * S;
    this.#rebindMs = this.#requestedMs + t2 * S;
    this.#endMs = this.#requestedMs + leaseS * S;
  }

  #probe(nowMs: number): void {
    this.#options.probe((this.#offer as DhcpReply).yourAddress);
    this.#tries++;
    this.#dueMs = nowMs + PROBE_MS;
  }

  #probed(nowMs: number): void {
    const offer = this.#offer as DhcpReply;
    if (this.#options.isProbeAnswered()) {
      const server = offer.server ?? (this.#server as Uint8Array);
      this.#sendTo(undefined, { type: DECLINE, requestedAddress: offer.yourAddress, server }, nowMs);
      this.#restart(nowMs, DECLINE_PAUSE_MS);
    } else if (this.#tries < PROBES) {
      this.#probe(nowMs);
    } else {
      this.#bind(offer);
    }
  }

  #bind({ yourAddress, prefixLength, router, routes }: DhcpReply): void {
    const lease = {
      address: yourAddress,
      prefixLength: prefixLength ?? classPrefixLength(yourAddress),
      router,
      routes,
    };
    if (this.#lease && !sameAddress(this.#lease.address, yourAddress)) this.#drop();
    this.#lease = lease;
    this.#state = "bound";
    this.#dueMs = this.#renewMs;
    this.#options.bound(lease);
  }

  /** Half of what is left until the next deadline, a minute at least (RFC 2131 4.4.5). */
  #renew(nowMs: number): void {
    const lease = this.#lease as Lease;
    if (nowMs >= this.#endMs) {
      this.#drop();
      this.#restart(nowMs, 0);
      return;
    }
    if (this.#state === "bound") {
      this.#transaction = Math.floor(this.#options.random() * 2 ** 32);
      this.#beganMs = nowMs;
    }
    const isRebinding = nowMs >= this.#rebindMs;
    this.#state = isRebinding ? "rebinding" : "renewing";
    this.#requestedMs = nowMs;
    const to = isRebinding ? EVERYBODY : (this.#server as Uint8Array);
    this.#sendTo(to, { type: REQUEST, clientAddress: lease.address }, nowMs);
    const limitMs = isRebinding ? this.#endMs : this.#rebindMs;
    const waitMs = Math.max(RENEWAL_RETRY_MS_MIN, (limitMs - nowMs) / 2);
    this.#dueMs = Math.min(limitMs, nowMs + waitMs);
  }

  #refused(reply: DhcpReply, nowMs: number): void {
    const isAsked = this.#state === "requesting" || this.#state === "renewing" || this.#state === "rebinding";
    if (!isAsked) return;
    // While requesting, another server's refusal means nothing.
    if (this.#state === "requesting" && !sameAddress(reply.server, this.#offer?.server)) return;
    this.#drop();
    this.#restart(nowMs, S);
  }

  #drop(): void {
    const lease = this.#lease;
    this.#lease = undefined;
    if (lease) this.#options.lost(lease);
  }

  #restart(nowMs: number, pauseMs: number): void {
    this.#state = "init";
    this.#offer = undefined;
    this.#dueMs = nowMs + pauseMs;
  }
}

const EVERYBODY = Uint8Array.of(255, 255, 255, 255);

function sameAddress(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a !== undefined && b !== undefined && a.every((byte, index) => byte === b[index]);
}

/** Not 0/8, 127/8, multicast or above. */
function isHostAddress(address: Uint8Array): boolean {
  const first = address[0] as number;
  return first !== 0 && first !== 127 && first < 224;
}

/** RFC 791 3.2: what a server means that gives no mask. */
function classPrefixLength(address: Uint8Array): number {
  const first = address[0] as number;
  return first < 128 ? 8 : first < 192 ? 16 : 24;
}
