/**
 * The waker's thread (see waker.ts). It never returns to its event loop: it blocks in epoll_wait(), and takes orders
 * from its message port when the control eventfd says that there are some.
 */
import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { HEALTH_BASE, HEALTH_DOORBELL, HEALTH_SLEEPING } from "../../layout/kernelMemory.ts";
import { loadSyscalls } from "./syscalls.ts";
import { CONTROL_TOKEN, type WakerOrder, type WakerStart } from "./waker.ts";

/** Bounds how long terminate() waits for this thread: a system call cannot be interrupted from JavaScript. */
const WAIT_MS_MAX = 200;

function run(start: WakerStart): void {
  const syscalls = loadSyscalls();
  const tokens = new Uint32Array(64);
  const doorbells = new Map<number, Int32Array>();
  for (;;) {
    const ready = syscalls.epollWait(start.epollFd, tokens, WAIT_MS_MAX);
    // Orders first: the one that says whose doorbell a token is was sent before the queue could be armed.
    if (ready > 0 && !takeOrders(start, doorbells)) return;
    for (let index = 0; index < ready; index += 1) {
      const token = tokens[index] as number;
      const words = doorbells.get(token);
      if (token === CONTROL_TOKEN) syscalls.eventfdClear(start.controlFd);
      // A plain memory is not visible here; its kernel lives on the opener's thread, which is told by message.
      else if (words === undefined) start.port.postMessage(token);
      else ringDoorbell(words);
    }
  }
}

/** @returns false for the order to stop. */
function takeOrders({ port }: WakerStart, doorbells: Map<number, Int32Array>): boolean {
  for (;;) {
    const received = receiveMessageOnPort(port) as { message: WakerOrder } | undefined;
    if (received === undefined) return true;
    const order = received.message;
    if (order.type === "stop") return false;
    if (order.type === "doorbell") doorbells.set(order.token, new Int32Array(order.memory));
    else doorbells.delete(order.token);
  }
}

/** Add first, then look: a kernel that goes to sleep in between sees the new doorbell value. */
function ringDoorbell(words: Int32Array): void {
  const doorbell = (HEALTH_BASE + HEALTH_DOORBELL) >> 2;
  Atomics.add(words, doorbell, 1);
  if (Atomics.load(words, (HEALTH_BASE + HEALTH_SLEEPING) >> 2) === 1) Atomics.notify(words, doorbell);
}

run(workerData as WakerStart);
