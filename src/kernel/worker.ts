/**
 * A kernel's thread in Node: boots the kernel on the memory it is given, opens its queue pair, loads the application
 * and runs the reactor until it is told to close. Started by threadKernel.ts.
 */
import { parentPort, workerData } from "node:worker_threads";
import { type FromWorker, type ToWorker, toErrorRecord, type WorkerStart } from "../control/messages.ts";
import type { View } from "../control/view.ts";
import { openPort } from "../device/openPort.ts";
import { NetPopcornError } from "../errors.ts";
import { runApplication } from "../net/application.ts";
import { Sockets } from "../socket/sockets.ts";
import { KernelMemory } from "../views/kernelMemory.ts";
import { createRealClock } from "./clock.ts";
import { KernelHost } from "./host.ts";
import { KernelStack } from "./kernelStack.ts";
import { controlNetwork } from "./networkControl.ts";
import { reactorOf } from "./reactor.ts";
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

async function run(start: WorkerStart): Promise<void> {
  const clock = createRealClock(start.epochMs);
  const reactor = reactorOf(clock);
  const memory = new KernelMemory(start.memory);
  const host = new KernelHost({
    module: start.module,
    memory,
    config: start.config,
    life: start.life,
    drawSeed: start.drawSeed,
    onApplicationError: (error) => reportError(error, false),
    onWork: () => reactor.wake(),
  });
  const ring = () => {
    memory.ringDoorbell();
    reactor.wake();
  };
  const port = await openPort(start.port, memory.queuePair(host.kernelId, start.config.rxLanes, ring));
  const random = new PortRandom(start.seed);
  host.attach(port, random);
  const setView = (view: View) => {
    // Others' threads are woken by their doorbells.
    host.control.setView(view, () => {});
    controlNetwork(host, view.owner, random, networkTeller(host));
    reactor.wake();
  };
  setView(start.view);
  const sockets = new Sockets({
    hosts: [host],
    reactor,
    claims: host.control.ports,
    onError: (error) => reportError(error, false),
  });
  const stack = new KernelStack({
    host,
    kernels: start.kernels,
    sockets,
    clock,
    post: (data) => post({ type: "message", data }),
  });
  const end = () => {
    reactor.remove(host);
    host.close();
    exit();
  };
  const close = async (drainMs: number, reset: boolean) => {
    await stack.close(drainMs);
    if (reset && !host.failure) host.exports.tcpAbortAll();
    if (!host.failure) host.network?.close(!reset);
    host.network = undefined;
    // The last resets and FINs are sent by one more turn.
    if (!host.failure) host.turn(clock.nowNs());
    end();
  };
  owner.on("message", (message: ToWorker) => {
    switch (message.type) {
      case "view":
        setView(message.view);
        break;
      case "migrate":
        host.migrationAgent().handle(message.request, (answer) => post({ type: "migrated", id: message.id, answer }));
        break;
      case "network":
        host.changeNetwork(message.changes);
        break;
      case "message":
        stack.deliver(message.data);
        break;
      case "close":
        close(message.drainMs, message.reset).catch((error: unknown) => {
          reportError(error, true);
          end();
        });
        break;
    }
  });
  reactor.add(host, (error) => {
    reportError(error, true);
    sockets.dropKernel(host, error);
    sockets.closeListeners();
    end();
  });
  await runApplication(start.app, stack, start.appArguments);
  post({ type: "ready" });
}

run(workerData as WorkerStart).catch((error: unknown) => {
  reportError(error, true);
  exit();
});
