/**
 * One listening socket of the application, however many kernels it stands for: each has a replica with its own SYN and
 * accept queue. Connections are taken out of the accept queues when somebody asks: the backlog is the bound.
 */
import { statusError } from "../errors.ts";
import type { EventSink, KernelHost } from "../kernel/host.ts";
import { EVENT_ACCEPTABLE } from "../layout/event.ts";
import { EAGAIN } from "../layout/status.ts";
import { Connection, type ConnectionOwner } from "./connection.ts";

export type ListenerOptions = {
  /** Text of the local address, "0.0.0.0" for any. */
  readonly address: string;
  readonly port: number;
  readonly owner: ConnectionOwner;
  /** Called for every connection as it comes; otherwise connections wait for accept(). */
  readonly onConnection?: ((connection: Connection) => void) | undefined;
  /** Instead: called with the bare handle of every connection as it comes. */
  readonly onHandle?: ((host: KernelHost, handle: number) => void) | undefined;
  /** Called once, when the listener is closed. */
  readonly onClose: (listener: Listener) => void;
};

/** Accepts connections of all its kernels. From Stack.listen(). */
export class Listener implements AsyncIterable<Connection> {
  /** As listened on: one of ours, "0.0.0.0" or "::". */
  readonly address: string;
  /** 1..65535, also where 0 was asked for. */
  readonly port: number;
  readonly #options: ListenerOptions;
  readonly #replicas: ListenReplica[] = [];
  readonly #waiters: ((connection: Connection | undefined) => void)[] = [];
  #onHandle: ListenerOptions["onHandle"];
  #isPaused = false;
  /** Where the search for the next connection begins: no kernel is always first. */
  #next = 0;
  #closed = false;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.address = options.address;
    this.port = options.port;
    this.#onHandle = options.onHandle;
  }

  /** @internal Adds a kernel in which `handle` listens. */
  addReplica(host: KernelHost, handle: number): void {
    const replica = new ListenReplica(host, handle, () => this.#serve());
    this.#replicas.push(replica);
    host.addSink(replica);
  }

  /** @internal Forgets a kernel that is dead. */
  dropReplica(host: KernelHost): void {
    const index = this.#replicas.findIndex((replica) => replica.host === host);
    if (index >= 0) this.#replicas.splice(index, 1);
  }

  /** @internal Stops listening in one kernel. */
  closeReplica(host: KernelHost): void {
    const replica = this.#replicas.find((other) => other.host === host);
    if (!replica) return;
    host.exports.tcpListenClose(replica.handle);
    host.removeSink(replica);
    this.dropReplica(host);
  }

  /** False once it is closed: by close(), with its stack, or because no kernel is left and none will be started. */
  get listening(): boolean {
    return !this.#closed;
  }

  /** @internal Connections wait in the accept queues until resume(). */
  pause(): void {
    this.#isPaused = true;
  }

  /** @internal Goes on, with another taker. */
  resume(onHandle: ListenerOptions["onHandle"]): void {
    this.#onHandle = onHandle;
    this.#isPaused = false;
    this.#serve();
  }

  /** The next connection, the oldest of its kernel; undefined once the listener is closed. */
  accept(): Promise<Connection | undefined> {
    const connection = this.#take();
    if (connection || this.#closed) return Promise.resolve(connection);
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Connection, void, void> {
    for (;;) {
      const connection = await this.accept();
      if (!connection) return;
      yield connection;
    }
  }

  /** Stops listening everywhere; connections not yet accepted are reset, accepted ones stay. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const { host, handle } of this.#replicas) {
      host.exports.tcpListenClose(handle);
      host.requestTurn();
    }
    for (const replica of this.#replicas) replica.host.removeSink(replica);
    for (const resolve of this.#waiters.splice(0)) resolve(undefined);
    this.#options.onClose(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #serve(): void {
    if (this.#onHandle) {
      for (let taken = this.#takeHandle(); taken; taken = this.#takeHandle()) this.#onHandle(taken.host, taken.handle);
      return;
    }
    const { onConnection } = this.#options;
    while (onConnection || this.#waiters.length > 0) {
      const connection = this.#take();
      if (!connection) return;
      if (onConnection) onConnection(connection);
      else this.#waiters.shift()?.(connection);
    }
  }

  #take(): Connection | undefined {
    const taken = this.#takeHandle();
    return taken && new Connection(taken.host, taken.handle, this.#options.owner);
  }

  #takeHandle(): { readonly host: KernelHost; readonly handle: number } | undefined {
    const count = this.#replicas.length;
    for (let i = 0; i < count && !this.#closed && !this.#isPaused; i++) {
      const replica = this.#replicas[this.#next % count] as ListenReplica;
      this.#next = (this.#next + 1) % count;
      const handle = replica.accept();
      if (handle >= 0) return { host: replica.host, handle };
    }
    return undefined;
  }
}

class ListenReplica implements EventSink {
  readonly host: KernelHost;
  readonly handle: number;
  readonly #onAcceptable: () => void;
  /** The accept queue may hold something: true from the event until the queue is found empty. */
  #acceptable = false;

  constructor(host: KernelHost, handle: number, onAcceptable: () => void) {
    this.host = host;
    this.handle = handle;
    this.#onAcceptable = onAcceptable;
  }

  /** @returns handle, or EAGAIN. */
  accept(): number {
    if (!this.#acceptable) return EAGAIN;
    const handle = this.host.exports.tcpAccept(this.handle);
    if (handle < 0) {
      this.#acceptable = false;
      if (handle !== EAGAIN) throw statusError(handle, `accept in kernel ${this.host.kernelId}`);
    }
    return handle;
  }

  onEvent(mask: number): void {
    if ((mask & EVENT_ACCEPTABLE) === 0) return;
    this.#acceptable = true;
    this.#onAcceptable();
  }
}
