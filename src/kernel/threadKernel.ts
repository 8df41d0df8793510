/** The owner's side of a kernel that runs in a worker: one life of it, from its start to its end. */
import type { Worker } from "node:worker_threads";
import type { ErrorRecord, FromWorker, ToWorker, WorkerStart } from "../control/messages.ts";
import type { View } from "../control/view.ts";
import { NetPopcornError } from "../errors.ts";
import type { NetworkChange } from "../ip/networkChange.ts";
import type { MigrationRequest, Reply } from "../migration/request.ts";
import { KernelMemory } from "../views/kernelMemory.ts";

/** How long after the drain a worker may take to end by itself. */
const EXIT_GRACE_MS = 2000;

/** How a kernel has ended: its thread is gone, its application threw, or it trapped. */
export type KernelEnd = "exit" | "error" | "trap";

export type ThreadKernelOptions = ThreadKernelEvents & {
  readonly start: WorkerStart;
  readonly transfer: readonly Transferable[];
};

type ThreadKernelEvents = {
  /** What the application's handlers threw; the kernel goes on. */
  readonly onError: (error: Error) => void;
  /** Called once, when a kernel that has started ends without having been told to; its thread may still run. */
  readonly onEnd: (end: KernelEnd, error: Error) => void;
  readonly onMessage: (data: unknown) => void;
  /** What the owner's kernel has decided about addresses. */
  readonly onNetwork: (change: NetworkChange) => void;
  /** Another station has this address. */
  readonly onConflict: (address: string) => void;
};

export class ThreadKernel {
  readonly kernelId: number;
  readonly memory: KernelMemory;
  /** How often the kernel has been started before. */
  readonly life: number;
  /** Fulfilled when the application has started in this kernel. */
  readonly ready: Promise<void>;
  readonly #events: ThreadKernelEvents;
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  #settleReady!: { resolve: () => void; reject: (error: Error) => void };
  readonly #asked = new Map<number, Reply>();
  readonly #writing = new Map<number, (answer: Uint8Array) => void>();
  #lastAsked = 0;
  #started = false;
  #closing = false;
  /** Its end has been reported. */
  #ended = false;

  private constructor(worker: Worker, { start, transfer: _transfer, ...events }: ThreadKernelOptions) {
    this.#worker = worker;
    // Not all of the options: the view that it starts with has memories of kernels that may end before it.
    this.#events = events;
    this.kernelId = start.config.kernelId;
    this.life = start.life;
    this.memory = new KernelMemory(start.memory);
    this.ready = new Promise((resolve, reject) => {
      this.#settleReady = { resolve, reject };
    });
    this.ready.catch(() => {});
    this.#exited = new Promise((resolve) => {
      worker.once("exit", (status) => {
        this.#exits(status);
        resolve();
      });
    });
    worker.on("message", (message: FromWorker) => this.#onMessage(message));
    // An exception that nobody caught in the application: the thread is gone.
    worker.on("error", (error: Error) => this.#end("error", error));
  }

  /** @throws NetPopcornError ERR_THREADS_UNAVAILABLE outside Node. */
  static async start(options: ThreadKernelOptions): Promise<ThreadKernel> {
    let threads: typeof import("node:worker_threads");
    try {
      threads = await import("node:worker_threads");
    } catch (cause) {
      throw new NetPopcornError("ERR_THREADS_UNAVAILABLE", 'threads need Node; use mode "inline"', { cause });
    }
    const worker = new threads.Worker(new URL("./worker.js", import.meta.url), {
      name: `netpopcorn kernel ${options.start.config.kernelId}`,
      workerData: options.start,
      // Node's type lists its own classes; descriptors transfer message ports at most.
      transferList: [...options.transfer] as unknown as import("node:worker_threads").Transferable[],
    });
    return new ThreadKernel(worker, options);
  }

  postMessage(data: unknown): void {
    this.#post({ type: "message", data });
  }

  changeNetwork(changes: readonly NetworkChange[]): void {
    if (changes.length > 0) this.#post({ type: "network", changes });
  }

  /** Tells which kernels there are. */
  setView(view: View): void {
    this.#post({ type: "view", view });
  }

  /** @param onWritten not called when the kernel ends before, or is not the owner. */
  writeTables(payload: Uint8Array, onWritten: (answer: Uint8Array) => void): void {
    this.#lastAsked++;
    this.#writing.set(this.#lastAsked, onWritten);
    this.#post({ type: "tables", id: this.#lastAsked, payload });
  }

  /** @param reply not called when the kernel ends before it has answered. */
  ask(request: MigrationRequest, reply: Reply): void {
    this.#lastAsked++;
    this.#asked.set(this.#lastAsked, reply);
    this.#post({ type: "migrate", id: this.#lastAsked, request });
  }

  /** Asks the worker to end, and ends it if it does not. @param reset what is left after the drain. */
  async close(drainMs: number, reset = false): Promise<void> {
    this.#closing = true;
    this.#post({ type: "close", drainMs, reset });
    const timer = setTimeout(() => void this.#worker.terminate(), drainMs + EXIT_GRACE_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  /** Ends the worker wherever it is. Fulfilled when nothing of it runs any more. */
  async terminate(): Promise<void> {
    void this.#worker.terminate();
    await this.#exited;
  }

  /** Ends the worker as a crash would. From now on it counts as gone. */
  kill(error: Error): void {
    void this.#worker.terminate();
    this.#end("exit", error);
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #onMessage(message: FromWorker): void {
    switch (message.type) {
      case "ready":
        this.#started = true;
        this.#settleReady.resolve();
        break;
      case "migrated":
        this.#asked.get(message.id)?.(message.answer);
        this.#asked.delete(message.id);
        break;
      case "tablesWritten":
        this.#writing.get(message.id)?.(message.answer);
        this.#writing.delete(message.id);
        break;
      case "message":
        this.#events.onMessage(message.data);
        break;
      case "network":
        this.#events.onNetwork(message.change);
        break;
      case "conflict":
        this.#events.onConflict(message.address);
        break;
      case "exit":
        this.#exits(message.status);
        break;
      case "error":
        if (message.fatal)
          this.#end(message.error.code === "ERR_KERNEL_TRAP" ? "trap" : "error", toError(message.error));
        else this.#events.onError(toError(message.error));
        break;
    }
  }

  #exits(status: number): void {
    const text = `kernel ${this.kernelId}: its thread ended (status ${status})`;
    this.#end("exit", new NetPopcornError("ERR_KERNEL_EXIT", text));
  }

  /** An error at start makes the start fail. */
  #end(end: KernelEnd, error: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#closing) {
      this.#settleReady.reject(error);
      if (end !== "exit") this.#events.onError(error);
      return;
    }
    if (this.#started) this.#events.onEnd(end, error);
    else this.#settleReady.reject(error);
  }
}

function toError(record: ErrorRecord): Error {
  const error =
    record.code === undefined ? new Error(record.message) : new NetPopcornError(record.code, record.message);
  error.name = record.name;
  if (record.stack !== undefined) error.stack = record.stack;
  return error;
}
