/** The two applications of a simulation: a client that opens connections over time, a server that accepts them. */
import type { EventHandler } from "../../src/kernel/handles.ts";
import type { KernelHost } from "../../src/kernel/host.ts";
import { GAUGE_CONNECTIONS, GAUGE_FLOWS, GAUGE_TIME_WAIT, SYN_COOKIES_ACCEPTED } from "../../src/layout/counters.ts";
import {
  EVENT_ACCEPTABLE,
  EVENT_CLOSED,
  EVENT_CONNECTED,
  EVENT_HANDLE,
  EVENT_MASK,
  EVENT_PEER_CLOSED,
  EVENT_READABLE,
  EVENT_SIZE_BYTES,
  EVENT_WRITABLE,
} from "../../src/layout/event.ts";
import { INFO_REMOTE_PORT, INFO_SND_NXT, INFO_SND_UNA, OPTION_FAST_OPEN_CONNECT } from "../../src/layout/option.ts";
import { EAGAIN } from "../../src/layout/status.ts";
import type { Prng } from "../../src/sim/prng.ts";
import { type Behaviour, Buffers, Endpoint } from "./endpoint.ts";
import type { WorldKernel } from "./world.ts";

const WORDS = EVENT_SIZE_BYTES >> 2;
const WRITING = EVENT_CONNECTED | EVENT_WRITABLE;
export const SERVER_PORT = 80;

/** What will happen on a connection, drawn before it begins. */
export type Plan = {
  /** Also the client's local port, by which the server knows it. */
  readonly id: number;
  readonly startNs: number;
  readonly client: Behaviour;
  readonly server: Behaviour;
};

/** True when nobody leaves early: every byte must arrive. */
export function isOrderly(plan: Plan): boolean {
  return plan.client.ending === "close" && plan.server.ending === "close";
}

/** Events of one kernel to its endpoints; wake-ups for those that pause. */
abstract class Application implements WorldKernel {
  readonly name: string;
  readonly host: KernelHost;
  /** By plan id; finished ones stay for the verdict. */
  readonly endpoints = new Map<number, Endpoint>();
  protected readonly buffers: Buffers;
  readonly #byHandle = new Map<number, Endpoint>();

  constructor(name: string, host: KernelHost, pattern: Uint8Array) {
    this.name = name;
    this.host = host;
    this.buffers = new Buffers(host.handles, pattern);
    host.handles.onEvents(this.#onEvents);
  }

  nextWakeNs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const endpoint of this.#byHandle.values()) next = Math.min(next, endpoint.wakeNs);
    return next;
  }

  wake(nowNs: number): void {
    for (const endpoint of [...this.#byHandle.values()]) {
      if (endpoint.wakeNs > nowNs) continue;
      endpoint.progress(nowNs, false);
      this.#forgetFinished(endpoint);
    }
  }

  /** At any time: SND.UNA <= SND.NXT for every connection, and no gauge beyond its limit (below zero wraps around). */
  check(): void {
    const { handles, memory, config } = this.host;
    for (const gauge of [GAUGE_CONNECTIONS, GAUGE_TIME_WAIT, GAUGE_FLOWS]) {
      const present = memory.counter(gauge);
      if (present > config.tuning.connectionsMax) throw new Error(`${this.name}: gauge ${gauge} is ${present}`);
    }
    for (const endpoint of this.#byHandle.values()) {
      const at = handles.info(endpoint.handle);
      if (at < 0) continue;
      const ahead = (memory.loadU32(at + INFO_SND_NXT) - memory.loadU32(at + INFO_SND_UNA)) | 0;
      if (ahead < 0) throw new Error(`connection ${endpoint.id}: SND.NXT lies ${-ahead} before SND.UNA`);
    }
  }

  protected add(endpoint: Endpoint): void {
    const before = this.endpoints.get(endpoint.id);
    if (before) throw new Error(`connection ${endpoint.id} is there twice`);
    this.endpoints.set(endpoint.id, endpoint);
    this.#byHandle.set(endpoint.handle, endpoint);
  }

  protected abstract onAcceptable(listener: number): void;

  readonly #onEvents: EventHandler = (words, first, count) => {
    const nowNs = this.host.nowNs;
    for (let i = 0, at = first; i < count; i++, at += WORDS) {
      const handle = words[at + (EVENT_HANDLE >> 2)] as number;
      const maskAndStatus = words[at + (EVENT_MASK >> 2)] as number;
      if (maskAndStatus & EVENT_ACCEPTABLE) this.onAcceptable(handle);
      const endpoint = this.#byHandle.get(handle);
      if (endpoint) this.#deliver(endpoint, maskAndStatus & 0xffff, maskAndStatus >> 16, nowNs);
    }
  };

  #deliver(endpoint: Endpoint, mask: number, status: number, nowNs: number): void {
    if (mask & EVENT_PEER_CLOSED) endpoint.peerClosed = true;
    if (mask & EVENT_CLOSED) {
      endpoint.over = true;
      endpoint.status = status;
    }
    if (mask & (EVENT_READABLE | EVENT_PEER_CLOSED | EVENT_CLOSED)) endpoint.readable(nowNs);
    endpoint.progress(nowNs, (mask & WRITING) !== 0);
    this.#forgetFinished(endpoint);
  }

  #forgetFinished(endpoint: Endpoint): void {
    if (endpoint.finished && this.#byHandle.get(endpoint.handle) === endpoint) this.#byHandle.delete(endpoint.handle);
  }
}

export class ClientApplication extends Application {
  readonly #plans: Plan[];
  readonly #prng: Prng;
  readonly #serverAddress: Uint8Array;
  readonly #fastOpen: boolean;

  /** @param plans in the order of their start. @param fastOpen what is written at once goes with the SYN (RFC 7413). */
  constructor(
    name: string,
    host: KernelHost,
    pattern: Uint8Array,
    plans: Plan[],
    prng: Prng,
    server: Uint8Array,
    fastOpen = false,
  ) {
    super(name, host, pattern);
    this.#fastOpen = fastOpen;
    this.#plans = [...plans];
    this.#prng = prng;
    this.#serverAddress = server;
  }

  override nextWakeNs(): number {
    return Math.min(super.nextWakeNs(), this.#plans[0]?.startNs ?? Number.POSITIVE_INFINITY);
  }

  override wake(nowNs: number): void {
    super.wake(nowNs);
    for (let plan = this.#plans[0]; plan && plan.startNs <= nowNs; plan = this.#plans[0]) {
      this.#plans.shift();
      this.#open(plan, nowNs);
    }
  }

  get allStarted(): boolean {
    return this.#plans.length === 0;
  }

  #open(plan: Plan, nowNs: number): void {
    const { handles } = this.host;
    const handle = handles.connect(this.#serverAddress, SERVER_PORT, plan.id);
    if (handle < 0) throw new Error(`connect ${plan.id} gives ${handle}`);
    const endpoint = new Endpoint(handles, this.buffers, this.#prng, handle, plan.id, true, plan.client);
    this.add(endpoint);
    // Where the configuration forbids it this is an ordinary connection.
    if (this.#fastOpen) this.host.exports.tcpSetOption(handle, OPTION_FAST_OPEN_CONNECT, 2);
    // What is written now waits for the handshake (RFC 9293 3.10.2).
    if (this.#prng.below(2) === 0) endpoint.progress(nowNs, true);
  }

  protected onAcceptable(): void {
    throw new Error("a client has no listener");
  }
}

export class ServerApplication extends Application {
  readonly #plans: ReadonlyMap<number, Plan>;
  readonly #prng: Prng;
  readonly #acceptPauseNs: number;
  readonly listener: number;
  #acceptNs = Number.POSITIVE_INFINITY;

  constructor(
    name: string,
    host: KernelHost,
    pattern: Uint8Array,
    plans: ReadonlyMap<number, Plan>,
    prng: Prng,
    options: { readonly backlog: number; readonly acceptPauseNs: number },
  ) {
    super(name, host, pattern);
    this.#plans = plans;
    this.#prng = prng;
    this.#acceptPauseNs = options.acceptPauseNs;
    this.listener = host.handles.listen(SERVER_PORT, options.backlog);
    if (this.listener < 0) throw new Error(`listen gives ${this.listener}`);
  }

  override nextWakeNs(): number {
    return Math.min(super.nextWakeNs(), this.#acceptNs);
  }

  override wake(nowNs: number): void {
    super.wake(nowNs);
    if (this.#acceptNs > nowNs) return;
    // One at a time, so that the accept queue fills.
    this.#acceptNs = this.#accept(nowNs) ? nowNs + this.#acceptPauseNs : Number.POSITIVE_INFINITY;
  }

  protected onAcceptable(): void {
    const { nowNs } = this.host;
    if (this.#acceptPauseNs > 0) this.#acceptNs = Math.min(this.#acceptNs, nowNs + this.#acceptPauseNs);
    else while (this.#accept(nowNs)) {}
  }

  /** @returns false: there was none. */
  #accept(nowNs: number): boolean {
    const { handles, memory } = this.host;
    const handle = handles.accept(this.listener);
    if (handle === EAGAIN) return false;
    if (handle < 0) throw new Error(`accept gives ${handle}`);
    const id = memory.loadU32(handles.info(handle) + INFO_REMOTE_PORT);
    const plan = this.#plans.get(id);
    if (!plan) throw new Error(`a connection from port ${id}, which no client has opened`);
    if (this.endpoints.has(id) && memory.counter(SYN_COOKIES_ACCEPTED) > 0) {
      // The price of SYN cookies: nothing is remembered, so a belated copy of a first segment opens its connection
      // again.
      handles.abort(handle);
      return true;
    }
    const endpoint = new Endpoint(handles, this.buffers, this.#prng, handle, id, false, plan.server);
    this.add(endpoint);
    endpoint.readable(nowNs);
    endpoint.progress(nowNs, true);
    return true;
  }
}
