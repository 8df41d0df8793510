/**
 * Asks other hosts whether they are there (RFC 1122 3.2.2.6): echo requests of one stack, and what comes back, matched
 * by identifier and sequence number. Replies come to whichever kernel the card brings them to, so all kernels of the
 * group are listened at while anybody waits.
 */
import { NetPopcornError, statusError } from "../errors.ts";
import { checkInteger } from "../optionRange.ts";
import { SCRATCH_BASE, SCRATCH_SIZE_BYTES } from "../layout/kernelMemory.ts";
import { ENOBUFS, ETIMEDOUT, OK } from "../layout/status.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import type { KernelExports } from "../wasm/exports.ts";
import { ADDRESS_BYTES, formatAddress, parseAddress } from "./address.ts";

const TIMEOUT_MS_DEFAULT = 1000;
const BYTES_DEFAULT = 56;
const BYTES_MAX = 8192;
const NS_PER_MS = 1e6;
const ADDRESS_AT = SCRATCH_BASE + SCRATCH_SIZE_BYTES / 2;
const NEVER = Number.POSITIVE_INFINITY;

/** Options of Stack.ping(). */
export type PingOptions = {
  /** How long to wait, 1..3,600,000. Default 1000. */
  readonly timeoutMs?: number;
  /** Payload, 0..8192. Default 56. */
  readonly bytes?: number;
  /** TTL or hop limit of the request, 1..255. Default: as configured. */
  readonly ttl?: number;
};

/** An echo reply. */
export type PingReply = {
  /** Who has answered. */
  readonly address: string;
  /** From the request to the reply. */
  readonly rttMs: number;
  /** TTL or hop limit of the reply, as it came. */
  readonly ttl: number;
  /** Payload. */
  readonly bytes: number;
};

/** What of a kernel is needed. */
export type PingHost = {
  readonly exports: KernelExports;
  readonly memory: KernelMemory;
  /** Has it taken a turn soon. */
  requestTurn(): void;
};

type Waiting = {
  readonly remote: Uint8Array;
  readonly bytes: number;
  readonly ttl: number;
  readonly timeoutNs: number;
  /** The kernel that sends it. */
  readonly host: PingHost;
  sentNs: number | undefined;
  readonly resolve: (reply: PingReply) => void;
  readonly reject: (error: Error) => void;
};

export class Pinger {
  readonly #hosts: () => readonly PingHost[];
  readonly #identifier: number;
  readonly #waiting = new Map<number, Waiting>();
  #sequence = 0;

  /** @param identifier of this stack's requests, 0..65535. */
  constructor(hosts: () => readonly PingHost[], identifier: number) {
    this.#hosts = hosts;
    this.#identifier = identifier & 0xffff;
  }

  /** Instant at which turn() has something to do; Infinity: never. */
  get nextTurnNs(): number {
    let next = NEVER;
    for (const { sentNs, timeoutNs } of this.#waiting.values()) {
      next = Math.min(next, sentNs === undefined ? 0 : sentNs + timeoutNs);
    }
    return next;
  }

  /**
   * @throws NetPopcornError ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ECONNREFUSED, EMSGSIZE, ENOBUFS, ERR_ADDRESS_FORMAT,
   *   ERR_OPTION_RANGE.
   */
  async ping(address: string, options: PingOptions = {}): Promise<PingReply> {
    const remote = parseAddress(address);
    const timeoutMs = checkInteger("timeoutMs", options.timeoutMs ?? TIMEOUT_MS_DEFAULT, 1, 3_600_000);
    const bytes = checkInteger("bytes", options.bytes ?? BYTES_DEFAULT, 0, BYTES_MAX);
    const ttl = options.ttl === undefined ? 0 : checkInteger("ttl", options.ttl, 1, 255);
    const [host] = this.#hosts();
    if (!host) throw new NetPopcornError("ERR_NO_KERNEL", "no kernel of this stack is alive");
    for (const { exports } of this.#hosts()) {
      const status = exports.echoWait(1);
      if (status < 0) throw statusError(status, `ping ${address}`);
    }
    if (this.#waiting.size > 0xffff) throw statusError(ENOBUFS, `ping ${address}`);
    return new Promise((resolve, reject) => {
      do this.#sequence = (this.#sequence + 1) & 0xffff;
      while (this.#waiting.has(this.#sequence));
      const timeoutNs = timeoutMs * NS_PER_MS;
      this.#waiting.set(this.#sequence, { remote, bytes, ttl, timeoutNs, host, sentNs: undefined, resolve, reject });
      host.requestTurn();
    });
  }

  /** A kernel has come to the group: replies may come to it, too. */
  joined({ exports }: PingHost): void {
    if (this.#waiting.size > 0) exports.echoWait(1);
  }

  /** In the turn of one of the kernels, after poll, before flush. */
  turn(host: PingHost, nowNs: number): void {
    if (this.#waiting.size === 0) return;
    const { exports, memory } = host;
    for (let at = exports.echoPeek() >>> 0; at !== 0; at = exports.echoPeek() >>> 0) {
      const view = new DataView(memory.memory.buffer, at, 32);
      if (view.getUint16(16, true) === this.#identifier) this.#heard(view, memory.bytes, at, nowNs);
      exports.echoConsume();
    }
    for (const [sequence, waiting] of this.#waiting) {
      if (waiting.sentNs === undefined) {
        if (waiting.host === host) this.#send(sequence, waiting, nowNs);
      } else if (nowNs >= waiting.sentNs + waiting.timeoutNs) {
        this.#end(sequence)?.reject(statusError(ETIMEDOUT, `ping ${formatAddress(waiting.remote)}`));
      }
    }
  }

  /** The stack goes away, or a kernel of it: what waits for its answers fails. */
  close(error: Error, host?: PingHost): void {
    for (const [sequence, waiting] of this.#waiting) {
      if (!host || waiting.host === host) this.#end(sequence)?.reject(error);
    }
  }

  #send(sequence: number, waiting: Waiting, nowNs: number): void {
    const { exports, memory } = waiting.host;
    memory.bytes.set(waiting.remote, ADDRESS_AT);
    const status = exports.echoSend(ADDRESS_AT, this.#identifier, sequence, waiting.bytes, waiting.ttl);
    waiting.sentNs = nowNs;
    if (status < 0) this.#end(sequence)?.reject(statusError(status, `ping ${formatAddress(waiting.remote)}`));
  }

  #heard(record: DataView, memory: Uint8Array, at: number, nowNs: number): void {
    const sequence = record.getUint16(18, true);
    const waiting = this.#waiting.get(sequence);
    if (waiting?.sentNs === undefined) return;
    const from = memory.slice(at, at + ADDRESS_BYTES);
    const address = formatAddress(from);
    const status = record.getInt32(28, true);
    if (status < OK) {
      this.#end(sequence)?.reject(statusError(status, `ping ${formatAddress(waiting.remote)}: ${address} says so`));
      return;
    }
    const bytes = record.getUint32(20, true);
    // Only the host that was asked may answer, and with what it was sent.
    if (bytes !== waiting.bytes || !from.every((byte, i) => byte === waiting.remote[i])) return;
    const rttMs = (nowNs - waiting.sentNs) / NS_PER_MS;
    this.#end(sequence)?.resolve({ address, rttMs, ttl: record.getUint8(24), bytes });
  }

  #end(sequence: number): Waiting | undefined {
    const waiting = this.#waiting.get(sequence);
    this.#waiting.delete(sequence);
    if (this.#waiting.size === 0) for (const { exports } of this.#hosts()) exports.echoWait(0);
    return waiting;
  }
}
