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

/** A list of connections in the order of their coming. */
export class SlotList {
  #slots: number[] = [];
  #head = 0;

  get count(): number {
    return this.#slots.length - this.#head;
  }

  push(slot: number): void {
    this.#slots.push(slot);
  }

  /** -1: empty. */
  shift(): number {
    if (this.#head === this.#slots.length) return -1;
    const slot = this.#slots[this.#head++] as number;
    if (this.#head === this.#slots.length) {
      this.#slots.length = 0;
      this.#head = 0;
    } else if (this.#head > 1024 && this.#head * 2 > this.#slots.length) {
      this.#slots.splice(0, this.#head);
      this.#head = 0;
    }
    return slot;
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
  /** Listener whose lock it owns. */
  owns = -1;
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
