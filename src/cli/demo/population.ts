/**
 * The machines of the demo on one Ethernet segment: a server stack with its kernels behind one model card, and client
 * stacks of several hosts each. Every kernel runs in a thread of its own; this is their owner.
 */
import type { RecordableHistogram } from "node:perf_hooks";
import { createSegment, type Segment } from "../../device/card/segment.ts";
import type { Device } from "../../device/device.ts";
import { NetPopcornError } from "../../errors.ts";
import { parseAddress } from "../../ip/address.ts";
import { createStack } from "../../stack.ts";
import type { Stack, StackOptions } from "../../types.ts";
import { DEMO_CLIENTS_MAX } from "../options.ts";
import type { ClientArguments } from "./client.ts";
import { createLatencyHistogram } from "./latency.ts";
import type { ClientTotals, DemoRequest, DemoTotals, KernelTotals } from "./messages.ts";
import type { ServerArguments } from "./server.ts";

export type DemoOptions = {
  /** 1..DEMO_KERNELS_MAX. */
  readonly kernels: number;
  readonly seconds: number;
  readonly seed: number;
  /** Connections in flight, all clients together. */
  readonly concurrency: number;
};

export type PopulationTotals = { readonly kernels: readonly KernelTotals[]; readonly clients: readonly ClientTotals[] };

const SERVER_ADDRESS = "10.7.0.1";
const SERVER_PORT = 80;
const PREFIX_LENGTH = 16;
/** Hosts of one client thread. Each host has its own 28,000 local ports. */
const HOSTS_PER_CLIENT = 16;
/** Shorter than the 60 s of RFC 9293's 2 MSL: ports come round again within a run of seconds. */
export const TIME_WAIT_MS = 1_000;
/** Beside the connections in flight there are those in TIME_WAIT. */
const CONNECTIONS_MAX = 131_072;
const KERNEL_MEMORY_BYTES = 256 * 1024 * 1024;
/** A thread that does not answer for so long is stuck. */
const ANSWER_MS_MAX = 20_000;

type Question = {
  readonly kernels: (KernelTotals | undefined)[];
  readonly clients: (ClientTotals | undefined)[];
  missing: number;
  readonly resolve: (totals: PopulationTotals) => void;
  readonly reject: (error: Error) => void;
};

export class Population {
  readonly clientThreads: number;
  readonly hosts: number;
  /** Latency that each client records, microseconds. */
  readonly latencyUs: RecordableHistogram[] = [];
  readonly #options: DemoOptions;
  readonly #clients: Stack[] = [];
  #server: Stack | undefined;
  #segment: Segment | undefined;
  #serverCard: Device | undefined;
  #question: Question | undefined;
  /** Why the population cannot go on. */
  #failure: Error | undefined;

  private constructor(options: DemoOptions) {
    this.#options = options;
    this.clientThreads = Math.min(DEMO_CLIENTS_MAX, options.kernels, options.concurrency);
    this.hosts = this.clientThreads * HOSTS_PER_CLIENT;
  }

  /** Starts all of it; clients wait to be told. */
  static async create(options: DemoOptions): Promise<Population> {
    const population = new Population(options);
    try {
      await population.#start();
    } catch (error) {
      await population.close();
      throw error;
    }
    return population;
  }

  tellClients(request: DemoRequest): void {
    for (const client of this.#clients) client.postMessage(request);
  }

  /**
   * Asks every thread for its totals.
   * @throws what a kernel or its application died of; ERR_THREAD_STUCK when one does not answer.
   */
  totals(): Promise<PopulationTotals> {
    const kernels = new Array<KernelTotals | undefined>(this.#options.kernels).fill(undefined);
    const clients = new Array<ClientTotals | undefined>(this.clientThreads).fill(undefined);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#fail(new NetPopcornError("ERR_THREAD_STUCK", `${this.#question?.missing} threads do not answer`));
      }, ANSWER_MS_MAX);
      this.#question = {
        kernels,
        clients,
        missing: kernels.length + clients.length,
        resolve: (totals) => {
          clearTimeout(timer);
          resolve(totals);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      if (this.#failure !== undefined) this.#fail(this.#failure);
      this.#server?.postMessage({ kind: "report" } satisfies DemoRequest);
      this.tellClients({ kind: "report" });
    });
  }

  /** Frames that the server's card has put into each kernel's queue. */
  queueFrames(): readonly number[] {
    return this.#serverCard?.queueFrames() ?? [];
  }

  /** Segments that each kernel has sent again. */
  async retransmits(): Promise<readonly number[]> {
    const stats = await this.#server?.stats();
    return (stats?.kernels ?? []).map((counters) => counters.tcpRetransmits ?? 0);
  }

  async close(): Promise<void> {
    const stacks = [...this.#clients, ...(this.#server === undefined ? [] : [this.#server])];
    await Promise.all(stacks.map((stack) => stack.close({ drainMs: 0 })));
    await this.#segment?.close();
  }

  async #start(): Promise<void> {
    const { kernels, seed, concurrency } = this.#options;
    const portsMax = kernels + this.clientThreads;
    const segment = await createSegment({ portsMax, seed });
    this.#segment = segment;
    this.#serverCard = segment.createCard({ queues: kernels });
    const serverArguments: ServerArguments = {
      port: SERVER_PORT,
      connectionsMax: CONNECTIONS_MAX,
      // All connections may come to one kernel, and some be there before others are gone.
      requestsMax: 2 * concurrency,
    };
    this.#server = await this.#createStack({
      kernels,
      device: this.#serverCard,
      address: `${SERVER_ADDRESS}/${PREFIX_LENGTH}`,
      app: new URL("./server.js", import.meta.url),
      appArguments: serverArguments,
      seed: `${seed} server`,
    });
    for (let client = 0; client < this.clientThreads; client++) await this.#startClient(segment, client);
  }

  async #startClient(segment: Segment, client: number): Promise<void> {
    const { seed, concurrency } = this.#options;
    const latencyUs = createLatencyHistogram();
    this.latencyUs.push(latencyUs);
    const addresses = Array.from(
      { length: HOSTS_PER_CLIENT },
      (_, host) => `10.7.${client + 1}.${host + 1}/${PREFIX_LENGTH}`,
    );
    const clientArguments: ClientArguments = {
      client,
      hosts: HOSTS_PER_CLIENT,
      // An even part of all, the first clients one more where it does not come out even.
      concurrency: Math.floor((concurrency + this.clientThreads - 1 - client) / this.clientThreads),
      serverAddress: parseAddress(SERVER_ADDRESS),
      serverPort: SERVER_PORT,
      seed,
      connectionsMax: CONNECTIONS_MAX,
      latencyUs,
    };
    const stack = await this.#createStack({
      device: segment.createCard({ queues: 1 }),
      address: addresses,
      app: new URL("./client.js", import.meta.url),
      appArguments: clientArguments,
      seed: `${seed} client ${client}`,
    });
    this.#clients.push(stack);
  }

  async #createStack(options: Omit<StackOptions, "mode" | "tuning">): Promise<Stack> {
    const tuning = { memoryBytes: KERNEL_MEMORY_BYTES, connectionsMax: CONNECTIONS_MAX, timeWaitMs: TIME_WAIT_MS };
    // Nagle off: a message of two segments must not wait for the delayed acknowledgement of its first.
    const stack = await createStack({ ...options, mode: "threads", noDelay: true, tuning });
    stack.on("error", ({ error }) => this.#fail(error));
    stack.on("message", ({ data }) => this.#onTotals(data as DemoTotals));
    return stack;
  }

  #onTotals(totals: DemoTotals): void {
    const question = this.#question;
    if (question === undefined) return;
    const answers: (DemoTotals | undefined)[] = totals.kind === "kernel" ? question.kernels : question.clients;
    if (answers[totals.index] === undefined) question.missing--;
    answers[totals.index] = totals;
    if (question.missing > 0) return;
    this.#question = undefined;
    question.resolve({
      kernels: question.kernels.filter((answer) => answer !== undefined),
      clients: question.clients.filter((answer) => answer !== undefined),
    });
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#question?.reject(this.#failure);
    this.#question = undefined;
  }
}
