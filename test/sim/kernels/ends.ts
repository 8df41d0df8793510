/** The ends of the connections of a run: who opened what when, where it lives, and what has become of it. */
import type { EventSink, KernelHost } from "../../../src/kernel/host.ts";
import {
  EVENT_CLOSED,
  EVENT_CONNECTED,
  EVENT_PEER_CLOSED,
  EVENT_READABLE,
  EVENT_WRITABLE,
} from "../../../src/layout/event.ts";
import type { Prng } from "../../../src/sim/prng.ts";
import type { OpenConnection } from "../../../src/socket/connection.ts";
import type { Sockets } from "../../../src/socket/sockets.ts";
import { type Behaviour, Buffers, Endpoint } from "../endpoint.ts";

const WRITING = EVENT_CONNECTED | EVENT_WRITABLE;

/** What will happen on a connection, drawn before it begins. */
export type Plan = {
  readonly id: number;
  readonly startNs: number;
  /** Which of the listeners' ports. */
  readonly port: number;
  readonly client: Behaviour;
  readonly server: Behaviour;
};

/** True when nobody leaves early: every byte must arrive. */
export function isOrderly(plan: Plan): boolean {
  return plan.client.ending === "close" && plan.server.ending === "close";
}

/** A connection from its beginning to its end on both sides. */
export type Fate = {
  readonly plan: Plan;
  client: End | undefined;
  /** The client's, 0 before it has one. */
  localPort: number;
  server: End | undefined;
  /** What connect() has said, if it has refused. */
  refused: string | undefined;
  /** A kernel ended that had, or may have had, one of its ends. */
  hit: boolean;
  /** Its listener was closed when it had not been accepted yet. */
  unheard: boolean;
};

/** True while one of its ends may still come to be, or has something to do. */
export function isLive({ client, server, refused }: Fate): boolean {
  if (refused !== undefined) return false;
  return client === undefined || !client.isOver || (server !== undefined && !server.isOver);
}

const buffersOf = new WeakMap<KernelHost, Buffers>();

function buffers(host: KernelHost, pattern: Uint8Array): Buffers {
  let found = buffersOf.get(host);
  if (!found) {
    found = new Buffers(host.handles, pattern);
    buffersOf.set(host, found);
  }
  return found;
}

export type EndOptions = {
  readonly sockets: Sockets;
  readonly host: KernelHost;
  readonly handle: number;
  readonly pattern: Uint8Array;
  readonly prng: Prng;
  readonly id: number;
  readonly isClient: boolean;
  readonly behaviour: Behaviour;
};

/** One end of a connection, as net.Socket's transport is one: fed by its handle's events. */
export class End implements EventSink, OpenConnection {
  handle: number;
  host: KernelHost;
  readonly endpoint: Endpoint;
  /** Times that it has gone to another kernel. */
  moves = 0;
  /** Its kernel has ended. */
  isLost = false;
  isConnected: boolean;
  readonly #sockets: Sockets;
  readonly #pattern: Uint8Array;

  constructor({ sockets, host, handle, pattern, prng, id, isClient, behaviour }: EndOptions) {
    this.#sockets = sockets;
    this.#pattern = pattern;
    this.host = host;
    this.handle = handle;
    this.isConnected = !isClient;
    this.endpoint = new Endpoint(host.handles, buffers(host, pattern), prng, handle, id, isClient, behaviour);
    host.addSink(this);
    sockets.connectionOpened(this);
  }

  get kernelId(): number {
    return this.host.kernelId;
  }

  get isOver(): boolean {
    return this.isLost || this.endpoint.finished;
  }

  /** When it wants to do something by itself, ns. */
  get wakeNs(): number {
    return this.isOver ? Number.POSITIVE_INFINITY : this.endpoint.wakeNs;
  }

  wake(nowNs: number): void {
    this.endpoint.progress(nowNs, false);
    this.#forgetFinished();
  }

  /** What was there before anybody listened to events. */
  begin(nowNs: number, maySend: boolean): void {
    if (this.isConnected) this.endpoint.readable(nowNs);
    this.endpoint.progress(nowNs, maySend);
    this.#forgetFinished();
  }

  onEvent(mask: number, status: number): void {
    const { endpoint } = this;
    const { nowNs } = this.host;
    if (mask & EVENT_CONNECTED) this.isConnected = true;
    if (mask & EVENT_PEER_CLOSED) endpoint.peerClosed = true;
    if (mask & EVENT_CLOSED) {
      endpoint.over = true;
      endpoint.status = status;
    }
    if (mask & (EVENT_READABLE | EVENT_PEER_CLOSED | EVENT_CLOSED)) endpoint.readable(nowNs);
    endpoint.progress(nowNs, (mask & WRITING) !== 0);
    this.#forgetFinished();
  }

  moveTo(host: KernelHost, handle: number): void {
    this.host = host;
    this.handle = handle;
    this.moves++;
    this.endpoint.moveTo(host.handles, buffers(host, this.#pattern), handle);
    host.addSink(this);
  }

  abort(): void {
    this.host.handles.abort(this.handle);
    this.endpoint.closed = true;
    this.endpoint.over = true;
    this.#forgetFinished();
  }

  lost(): void {
    this.isLost = true;
    this.#sockets.connectionOver(this);
  }

  #forgetFinished(): void {
    if (!this.endpoint.finished) return;
    this.host.removeSink(this);
    this.#sockets.connectionOver(this);
  }
}
