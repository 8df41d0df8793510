/**
 * Wakes sleeping kernels when their TAP queue has something: one thread that sleeps in epoll_wait() for all queues
 * that the calling thread has opened, and rings doorbells. It is never on the path of a kernel that is awake.
 *
 * A kernel arms its queue by EPOLL_CTL_MOD with EPOLLONESHOT just before it sleeps, so each sleep costs at most one
 * wake-up here, and a queue that is ready at that moment is reported at once.
 */
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { NetPopcornError } from "../../errors.ts";
import {
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLIN,
  EPOLLONESHOT,
  loadSyscalls,
  type Syscalls,
} from "./syscalls.ts";

/** Token of the control eventfd; queues count from 1. */
export const CONTROL_TOKEN = 0;

/** Copy what arrives at a queue into each mailbox, and ring all of `queueTokens`. */
export type RelayOrder = {
  readonly type: "relay";
  readonly token: number;
  readonly fd: number;
  readonly mailboxes: readonly SharedArrayBuffer[];
  readonly queueTokens: readonly number[];
};

export type WakerOrder =
  /** Ring the doorbell in this kernel memory. */
  | { readonly type: "doorbell"; readonly token: number; readonly memory: SharedArrayBuffer }
  | RelayOrder
  | { readonly type: "forget"; readonly token: number }
  | { readonly type: "stop" };

/** What the thread starts with. */
export type WakerStart = { readonly port: MessagePort; readonly epollFd: number; readonly controlFd: number };

export class Waker {
  readonly epollFd: number;
  readonly #syscalls: Syscalls;
  readonly #controlFd: number;
  readonly #port: MessagePort;
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  /** For kernels whose memory is not shared: they live on this thread and are called here. */
  readonly #callbacks = new Map<number, () => void>();
  #nextToken = CONTROL_TOKEN + 1;
  #users = 0;
  // Without this the process would wait for the thread's next time-out when it ends by itself.
  readonly #onProcessExit = (): void => this.#order({ type: "stop" });

  private constructor() {
    this.#syscalls = loadSyscalls();
    this.epollFd = requireDescriptor(this.#syscalls.epollCreate(), "epoll_create1");
    this.#controlFd = requireDescriptor(this.#syscalls.eventfd(), "eventfd");
    this.#syscalls.epollControl(this.epollFd, EPOLL_CTL_ADD, this.#controlFd, EPOLLIN, CONTROL_TOKEN);
    const channel = new MessageChannel();
    this.#port = channel.port1;
    this.#port.on("message", (token: number) => this.#callbacks.get(token)?.());
    this.#port.unref();
    const start: WakerStart = { port: channel.port2, epollFd: this.epollFd, controlFd: this.#controlFd };
    this.#worker = new Worker(new URL("./wakerThread.js", import.meta.url), {
      workerData: start,
      transferList: [channel.port2],
      // Nothing of the program's own flags (--import, --input-type) is meant for this thread.
      execArgv: [],
      name: "netpopcorn-waker",
    });
    this.#worker.unref();
    this.#exited = new Promise((resolve) => this.#worker.once("exit", () => resolve()));
    process.once("exit", this.#onProcessExit);
  }

  static #shared: Waker | undefined;

  /** The waker of this thread; started for the first user. */
  static acquire(): Waker {
    Waker.#shared ??= new Waker();
    Waker.#shared.#users += 1;
    return Waker.#shared;
  }

  /** Adds a file descriptor, disarmed. @returns the token under which ports arm it. */
  add(fd: number): number {
    const token = this.#nextToken;
    this.#nextToken += 1;
    const status = this.#syscalls.epollControl(this.epollFd, EPOLL_CTL_ADD, fd, EPOLLONESHOT, token);
    requireDescriptor(status, "epoll_ctl");
    return token;
  }

  /** What to do when `token` is ready: ring the doorbell of a shared memory, or call `ring` on this thread. */
  connect(token: number, memory: WebAssembly.Memory, ring: (() => void) | undefined): void {
    const { buffer } = memory;
    if (buffer instanceof SharedArrayBuffer) this.#order({ type: "doorbell", token, memory: buffer });
    else if (ring) this.#callbacks.set(token, ring);
  }

  /** Adds the queue `fd`, armed, whose frames the thread copies to all. @returns its token. */
  addRelay(fd: number, mailboxes: readonly SharedArrayBuffer[], queueTokens: readonly number[]): number {
    const token = this.add(fd);
    this.#order({ type: "relay", token, fd, mailboxes, queueTokens });
    this.#syscalls.epollControl(this.epollFd, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, token);
    return token;
  }

  remove(fd: number, token: number): void {
    this.#syscalls.epollControl(this.epollFd, EPOLL_CTL_DEL, fd, 0, token);
    this.#callbacks.delete(token);
    this.#order({ type: "forget", token });
  }

  /** Gives the waker back; its thread ends with the last user. */
  async release(): Promise<void> {
    this.#users -= 1;
    if (this.#users > 0) return;
    Waker.#shared = undefined;
    process.removeListener("exit", this.#onProcessExit);
    // The thread ends by itself, as terminate() cannot reach into a system call; until then it keeps the process.
    this.#worker.ref();
    this.#order({ type: "stop" });
    await this.#exited;
    this.#port.close();
    this.#syscalls.close(this.#controlFd);
    this.#syscalls.close(this.epollFd);
  }

  #order(order: WakerOrder): void {
    this.#port.postMessage(order);
    this.#syscalls.eventfdSignal(this.#controlFd);
  }
}

function requireDescriptor(status: number, call: string): number {
  if (status < 0) {
    throw new NetPopcornError("ERR_TAP", `${call} failed with errno ${-status}; see errno(3)`, { errno: status });
  }
  return status;
}
