/** From what an application has (a Stack, a KernelStack, or none) to the group of sockets behind it. */
import type { EventEmitter } from "node:events";
import { NetPopcornError } from "../errors.ts";
import type { KernelStack } from "../kernel/kernelStack.ts";
import { Sockets } from "../socket/sockets.ts";
import type { Stack } from "../types.ts";

/** What `createNet` takes; the group itself is what the benchmarks give. */
export type NetStack = Stack | KernelStack | Sockets;

let defaultStack: NetStack | undefined;
let openingWatcher: ((opening: EventEmitter) => void) | undefined;

/** The stack of `import net from "netpopcorn/net"` on this thread. Set by whoever loads the application. */
export function setDefaultStack(stack: NetStack | undefined): void {
  defaultStack = stack;
}

export function findDefaultStack(): NetStack | undefined {
  return defaultStack;
}

/** @throws NetPopcornError ERR_NO_STACK. */
export function getDefaultStack(): NetStack {
  if (defaultStack === undefined) {
    throw new NetPopcornError(
      "ERR_NO_STACK",
      "netpopcorn/net and netpopcorn/dgram have a stack of their own in an application module only (option app of " +
        "createStack); elsewhere use createNet(stack) and createDgram(stack)",
    );
  }
  return defaultStack;
}

/**
 * Has `watcher` told of each server and datagram socket of this thread, at the beginning of its listen() or bind(); its
 * "listening", "error" or "close" follows. Undefined: nobody is told any more.
 */
export function watchOpenings(watcher: ((opening: EventEmitter) => void) | undefined): void {
  openingWatcher = watcher;
}

export function announceOpening(opening: EventEmitter): void {
  openingWatcher?.(opening);
}

function isStack(value: unknown): value is NetStack {
  return typeof value === "object" && value !== null && "sockets" in value;
}

function noStack(value: unknown): NetPopcornError {
  const text = `this needs a stack: what createStack() has returned, or what an application is given, not ${value}`;
  return new NetPopcornError("ERR_INVALID_ARG_TYPE", text);
}

/** @throws NetPopcornError ERR_INVALID_ARG_TYPE. */
export function checkStack<S>(stack: S): S {
  if (!isStack(stack)) throw noStack(stack);
  return stack;
}

/** @throws NetPopcornError ERR_NO_APPLICATION_THREAD for a stack in threads mode. */
export function socketsOf(stack: NetStack): Sockets {
  const sockets = stack instanceof Sockets ? stack : stack.sockets;
  if (sockets) return sockets;
  if (!isStack(stack)) throw noStack(stack);
  throw new NetPopcornError(
    "ERR_NO_APPLICATION_THREAD",
    'in mode "threads" sockets belong to the application in each kernel: use netpopcorn/net there, or mode "inline"',
  );
}
