/**
 * Runs an application module in a kernel's thread: one with a default export for this stack, or a server's file that
 * knows nothing of it. While it runs, listen() of every net.Server of the thread means the stack.
 */
import { type EventEmitter, errorMonitor } from "node:events";
import { NetPopcornError } from "../errors.ts";
import type { Application, KernelStack } from "../kernel/kernelStack.ts";
import { importApplication } from "../kernel/loadApplication.ts";
import stackNet from "./index.ts";
import { replaceListen } from "./server.ts";
import { setDefaultStack, watchOpenings } from "./stackOf.ts";

/** How long a module without a default export may take until its first listen(). */
const LISTEN_MS_MAX = 10_000;

/**
 * Fulfilled when the default export has, or when the servers that the module has made listen.
 * @throws NetPopcornError ERR_APP_LOAD, ERR_APP_EXPORT, and what the application throws.
 */
export async function runApplication(url: string, stack: KernelStack, appArguments: unknown): Promise<void> {
  setDefaultStack(stack);
  const listens = new Listens();
  // Those of netpopcorn/net and netpopcorn/dgram, and of node:net here: a program may have its imports changed, or not.
  watchOpenings((opening) => listens.add(opening));
  let isServersFile = false;
  replaceListen(function listenInKernel(...args) {
    isServersFile = true;
    stackNet.step.apply(this, args);
  });
  const application = (await importApplication(url)).default;
  // A server's file may export something too: its express application, say, which is a function. A module that uses the
  // stack by name knows of it: its function is what is to be called.
  if (typeof application === "function" && !isServersFile) {
    watchOpenings(undefined);
    await (application as Application)(stack, appArguments as never);
    return;
  }
  const hasOpened = await listens.first(LISTEN_MS_MAX);
  watchOpenings(undefined);
  if (!hasOpened) {
    throw new NetPopcornError(
      "ERR_APP_EXPORT",
      `the application ${url} has no default export that is a function (stack, appArguments) => …, ` +
        `and no server of it has called listen(), nor a datagram socket bind(), within ${LISTEN_MS_MAX / 1000} s`,
    );
  }
}

/** The servers that have called listen(), and the datagram sockets that are being bound. */
class Listens {
  count = 0;
  readonly #settled: Promise<void>[] = [];
  #wake: (() => void) | undefined;

  add(opening: EventEmitter): void {
    this.count++;
    this.#settled.push(
      new Promise((resolve) => {
        opening.once("listening", resolve);
        opening.once("close", resolve);
        opening.once(errorMonitor, () => resolve());
      }),
    );
    this.#wake?.();
  }

  /** Fulfilled when all that have called by then listen. @returns false: nobody has called. */
  async first(msMax: number): Promise<boolean> {
    if (this.count === 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, msMax);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    await Promise.all(this.#settled.splice(0));
    return this.count > 0;
  }
}
