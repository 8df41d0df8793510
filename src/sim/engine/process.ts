/** A server process (or thread) and a server's listener, as the engine keeps them. */
import type { FrameQueue } from "./frameQueue.ts";
import type { SpinLock } from "./lock.ts";

// What a process waits for.
export const RUNNABLE = 0;
export const IN_EPOLL = 1;
export const IN_ACCEPT = 2;
export const IN_READ = 3;
/** For a socket lock that another process owns. */
export const IN_LOCK = 4;

// What a process does next.
export const OP_WAIT = 0;
/** What an accept4 that found nothing had made is to be destroyed. */
export const OP_EMPTY = 1;
export const OP_ACCEPT = 2;
export const OP_RELEASE = 3;
export const OP_PLAN = 4;
export const OP_SERVE = 5;
export const OP_RESPOND = 6;
export const OP_CLOSE = 7;
export const OP_CLOSED = 8;
export const OP_ACCEPTED = 9;
export const OP_CONNECT = 10;
export const OP_CONNECTED = 11;

export const OP_NAMES = [
  "epoll_wait",
  "accepted nothing",
  "accept",
  "release_sock",
  "vfs lock",
  "read",
  "respond",
  "close",
  "closed",
  "accepted",
  "connect",
  "connected",
] as const;

/** A list of connections in the order of their coming: a ring that grows. */
export class SlotList {
  #slots = new Int32Array(16);
  #head = 0;
  #tail = 0;

  get count(): number {
    return this.#tail - this.#head;
  }

  push(slot: number): void {
    if (this.count === this.#slots.length) this.#grow();
    this.#slots[this.#tail++ & (this.#slots.length - 1)] = slot;
  }

  /** -1: empty. */
  shift(): number {
    if (this.#head === this.#tail) return -1;
    return this.#slots[this.#head++ & (this.#slots.length - 1)] as number;
  }

  #grow(): void {
    const size = this.#slots.length;
    const larger = new Int32Array(size * 2);
    for (let i = 0; i < size; i++) larger[i] = this.#slots[(this.#head + i) & (size - 1)] as number;
    this.#slots = larger;
    this.#head = 0;
    this.#tail = size;
  }
}

export class Process {
  readonly id: number;
  readonly core: number;
  /** Listener that it waits on and accepts from. */
  readonly listener: number;
  state = RUNNABLE;
  op = OP_WAIT;
  /** Locks to take one after the other, and what follows. */
  plan: readonly SpinLock[] = [];
  planAt = 0;
  after = OP_WAIT;
  /** Connection that it works on, -1: none. */
  slot = -1;
  /** Proxy: the other side of the connection that it closes, -1: none. */
  peer = -1;
  /** Listener whose lock it owns. */
  owns = -1;
  /** It is in release_sock, where it processes the backlog with softirqs off. */
  releasing = false;
  /** Listener whose lock it was woken for, -1: none. */
  waitsFor = -1;
  /** It is inside accept4, in which it has slept: what comes before the listener is done. */
  inAccept = false;
  /** Calls that wait to enter the kernel together. */
  calls = 0;
  /** Connections that it may still accept before it looks at its others. */
  accepts = 0;
  /** Readable connections left of this pass of epoll_wait, and whether the listener was reported. */
  batch = 0;
  listenerReported = false;
  /** The listener stands in the ready list of its epoll instance. */
  listenerReady = false;
  readonly readable = new SlotList();
  /** Core that has written its epoll instance last. */
  epollCore: number;

  constructor(id: number, core: number, listener: number, op: number) {
    this.id = id;
    this.core = core;
    this.listener = listener;
    this.op = op;
    this.epollCore = core;
  }
}

/** Processes of a core that are ready to run, in the order of their coming; each stands here once at most. */
export class RunQueue {
  readonly #ring: (Process | undefined)[];
  #head = 0;
  #tail = 0;

  /** @param processes of the core. */
  constructor(processes: number) {
    this.#ring = new Array(2 ** Math.ceil(Math.log2(Math.max(processes, 1)))).fill(undefined);
  }

  get count(): number {
    return this.#tail - this.#head;
  }

  get first(): Process | undefined {
    return this.#head === this.#tail ? undefined : this.#ring[this.#head & (this.#ring.length - 1)];
  }

  push(process: Process): void {
    this.#ring[this.#tail++ & (this.#ring.length - 1)] = process;
  }

  /** Takes the first away. Preconditions: count > 0. */
  shift(): void {
    this.#head++;
  }
}

/** A listener, with its socket lock: a spin lock, and an owner among the processes while the spin lock is free. */
export type Listener = {
  readonly kernel: number;
  readonly handle: number;
  readonly spin: SpinLock;
  owned: boolean;
  /** Core that has written its queue last. */
  lastCore: number;
  /** Processes that wait for the owner. */
  readonly waiters: Process[];
  /** Frames that came while a process owned it: the owner processes them. */
  readonly backlog: FrameQueue;
  /** Frames that have come to the backlog since it was last empty and free. */
  backlogged: number;
  /** Processes in a blocking accept(), to be woken one at a time. */
  readonly sleepers: Process[];
  /** Processes whose epoll instances watch it. */
  watchers: Process[];
  /** Connections ready to be accepted. */
  acceptCount: number;
  /** Affinity-Accept: its queue is above the high mark, and the average length. */
  busy: boolean;
  average: number;
};
