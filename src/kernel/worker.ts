/**
 * A kernel's thread in Node: boots the kernel on the memory it is given, opens its queue pair, loads the application
 * and runs the reactor until it is told to close. Started by threadKernel.ts.
 */
import { parentPort, workerData } from "node:worker_threads";
import { type FromWorker, type ToWorker, toErrorRecord, type WorkerStart } from "../control/messages.ts";
import type { View } from "../control/view.ts";
import { openPort } from "../device/openPort.ts";
import type { DeviceTables } from "../device/device.ts";
import { loadTables, openTables } from "../device/tables.ts";
import { NetPopcornError } from "../errors.ts";
import { runApplication } from "../net/application.ts";
import { Sockets } from "../socket/sockets.ts";
import { KernelMemory } from "../views/kernelMemory.ts";
import { type Clock, createRealClock } from "./clock.ts";
import { KernelHost } from "./host.ts";
import { KernelStack } from "./kernelStack.ts";
import { controlNetwork } from "./networkControl.ts";
import { type Reactor, reactorOf } from "./reactor.ts";
import { PortRandom } from "./seed.ts";

if (!parentPort) throw new NetPopcornError("ERR_WORKER", "worker.js is started by createStack, not directly");
const owner = parentPort;
/** Time for what the application has written to reach the main thread. */
const EXIT_DELAY_MS = 100;

function post(message: FromWorker): void {
  owner.postMessage(message);
}

function reportError(error: unknown, fatal: boolean): void {
  post({ type: "error", error: toErrorRecord(error), fatal });
}

/** Ends the thread: in order when nothing is left to do, otherwise (timers of the application) soon. */
function exit(): void {
  owner.close();
  setTimeout(() => process.exit(0), EXIT_DELAY_MS).unref();
}

/**
 * Tells of this thread's end when it begins, not when it is over, which takes milliseconds: packets are waiting. An
 * exception that nobody catches Node tells itself.
 */
function tellExit(): void {
  let isThrown = false;
  process.on("uncaughtExceptionMonitor", () => {
    isThrown = true;
    // If the thread is still there then, the application has caught it after all ("uncaughtException").
    setImmediate(() => {
      isThrown = false;
    }).unref();
  });
  process.once("exit", (status) => {
    if (!isThrown) post({ type: "exit", status });
  });
}

/** What this kernel decides about addresses holds here at once; the owner's thread tells the other kernels. */
function networkTeller(host: KernelHost): Parameters<typeof controlNetwork>[3] {
  return {
    change: (change) => {
      host.changeNetwork([change]);
      post({ type: "network", change });
    },
    conflict: (address) => post({ type: "conflict", address }),
  };
}

/** This thread's kernel and what belongs to it. */
class KernelThread {
  readonly #start: WorkerStart;
  readonly #clock: Clock;
  readonly #reactor: Reactor;
  readonly #memory: KernelMemory;
  readonly #host: KernelHost;
  readonly #random: PortRandom;
  readonly #sockets: Sockets;
  readonly #stack: KernelStack;

  constructor(start: WorkerStart) {
    this.#start = start;
    this.#clock = createRealClock(start.epochMs);
    this.#reactor = reactorOf(this.#clock);
    this.#memory = new KernelMemory(start.memory);
    this.#random = new PortRandom(start.seed);
    this.#host = new KernelHost({
      module: start.module,
      memory: this.#memory,
      config: start.config,
      life: start.life,
      drawSeed: start.drawSeed,
      onApplicationError: (error) => reportError(error, false),
      onWork: () => this.#reactor.wake(),
    });
    const open = () => this.#openTables();
    this.#host.control.deviceOwner.provide({
      terms: start.capabilities,
      open,
      stackWrites: true,
      rssKey: start.rssKey,
    });
    this.#setView(start.view);
    this.#sockets = new Sockets({
      hosts: [this.#host],
      areAll: (start.config.kernelsMax ?? 1) === 1,
      reactor: this.#reactor,
      claims: this.#host.control.ports,
      onError: (error) => reportError(error, false),
    });
    this.#stack = new KernelStack({
      host: this.#host,
      kernels: start.kernels,
      sockets: this.#sockets,
      clock: this.#clock,
      post: (data) => post({ type: "message", data }),
      onError: (error) => reportError(error, false),
    });
  }

  async run(): Promise<void> {
    owner.on("message", (message: ToWorker) => this.#handle(message));
    this.#reactor.add(this.#host, (error) => {
      reportError(error, true);
      this.#sockets.dropKernel(this.#host, error);
      this.#sockets.closeListeners();
      this.#end();
    });
    await this.#takeQueue();
    await runApplication(this.#start.app, this.#stack, this.#start.appArguments);
    if (this.#start.view.term > 1) await this.#stack.joinListeners(await this.#host.control.missingPorts());
    post({ type: "ready" });
    await loadTables(this.#start.tables);
  }

  /** Turns without a queue pair go before: messages come and go. The owner grants one, also to itself. */
  async #takeQueue(): Promise<void> {
    const { config, port } = this.#start;
    const { control, kernelId } = this.#host;
    await control.device.acquire();
    const ring = () => {
      this.#memory.ringDoorbell();
      this.#reactor.wake();
    };
    this.#host.attach(await openPort(port, this.#memory.queuePair(kernelId, config.rxLanes, ring)), this.#random);
    control.device.confirm();
    this.#reactor.wake();
  }

  /** @throws what it throws, and this kernel ends: an owner that cannot write the tables must not be one. */
  #openTables(): Promise<DeviceTables> {
    return openTables(this.#start.tables).catch((error: unknown) => {
      reportError(error, true);
      this.#end();
      throw error;
    });
  }

  #setView(view: View): void {
    // Others' threads are woken by their doorbells.
    this.#host.control.setView(view, () => {});
    controlNetwork(this.#host, view.owner, this.#random, networkTeller(this.#host));
    this.#reactor.wake();
  }

  #handle(message: ToWorker): void {
    const host = this.#host;
    switch (message.type) {
      case "view":
        this.#setView(message.view);
        break;
      case "tables":
        host.control.deviceOwner.write(message.payload, (answer) => {
          post({ type: "tablesWritten", id: message.id, answer });
        });
        this.#reactor.wake();
        break;
      case "migrate":
        host.migrationAgent().handle(message.request, (answer) => post({ type: "migrated", id: message.id, answer }));
        break;
      case "network":
        host.changeNetwork(message.changes);
        break;
      case "message":
        this.#stack.deliver(message.data);
        break;
      case "close":
        this.#close(message.drainMs, message.reset).catch((error: unknown) => {
          reportError(error, true);
          this.#end();
        });
        break;
    }
  }

  async #close(drainMs: number, reset: boolean): Promise<void> {
    const host = this.#host;
    host.control.device.leave();
    await this.#stack.close(drainMs);
    if (reset && !host.failure) host.exports.tcpAbortAll();
    if (!host.failure) host.network?.close(!reset);
    host.network = undefined;
    // The last resets and FINs are sent by one more turn.
    if (!host.failure) host.turn(this.#clock.nowNs());
    this.#end();
  }

  #end(): void {
    const host = this.#host;
    this.#reactor.remove(host);
    if (!host.failure) {
      host.control.device.release();
      host.messages.flush();
    }
    host.close();
    exit();
  }
}

async function run(): Promise<void> {
  tellExit();
  const start = workerData as { -readonly [Name in keyof WorkerStart]: WorkerStart[Name] };
  const thread = new KernelThread(start);
  // The others' memories are known from the view now, and would live here as long as this thread.
  start.view = { ...start.view, members: [] };
  await thread.run();
}

run().catch((error: unknown) => {
  reportError(error, true);
  exit();
});
