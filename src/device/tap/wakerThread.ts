/**
 * The waker's thread (see waker.ts). It never returns to its event loop: it blocks in epoll_wait(), and takes orders
 * from its message port when the control eventfd says that there are some.
 */
import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { FRAME_VNET_SIZE_BYTES } from "../../layout/frameRing.ts";
import { HEALTH_BASE, HEALTH_DOORBELL, HEALTH_SLEEPING } from "../../layout/kernelMemory.ts";
import { Mailbox, RELAY_FRAME_BYTES_MAX } from "./relay.ts";
import { EPOLL_CTL_MOD, EPOLLIN, EPOLLONESHOT, loadSyscalls } from "./syscalls.ts";
import { CONTROL_TOKEN, type RelayOrder, type WakerOrder, type WakerStart } from "./waker.ts";

/** Bounds how long terminate() waits for this thread: a system call cannot be interrupted from JavaScript. */
const WAIT_MS_MAX = 200;
/** Frames relayed before the doorbells of others are looked after again. */
const RELAY_FRAMES_MAX = 64;

class WakerThread {
  readonly #start: WakerStart;
  readonly #syscalls = loadSyscalls();
  readonly #doorbells = new Map<number, Int32Array>();
  readonly #relays = new Map<number, { readonly order: RelayOrder; readonly mailboxes: readonly Mailbox[] }>();
  readonly #frame = new Uint8Array(new ArrayBuffer(FRAME_VNET_SIZE_BYTES + RELAY_FRAME_BYTES_MAX));
  readonly #frameAddress = this.#syscalls.addressOf(this.#frame);

  constructor(start: WakerStart) {
    this.#start = start;
  }

  run(): void {
    const tokens = new Uint32Array(64);
    for (;;) {
      const ready = this.#syscalls.epollWait(this.#start.epollFd, tokens, WAIT_MS_MAX);
      // The signal is cleared before orders are taken: one that is given in between signals again.
      if (tokens.subarray(0, ready).includes(CONTROL_TOKEN)) this.#syscalls.eventfdClear(this.#start.controlFd);
      // Orders first: the one that says whose doorbell a token is was sent before the queue could be armed.
      if (!this.#takeOrders()) return;
      for (let index = 0; index < ready; index += 1) this.#serve(tokens[index] as number);
    }
  }

  #serve(token: number): void {
    if (token === CONTROL_TOKEN) return;
    const relay = this.#relays.get(token);
    if (relay !== undefined) this.#relay(relay.order, relay.mailboxes);
    else this.#ring(token);
  }

  #ring(token: number): void {
    const words = this.#doorbells.get(token);
    // A plain memory is not visible here; its kernel lives on the opener's thread, which is told by message.
    if (words === undefined) this.#start.port.postMessage(token);
    else ringDoorbell(words);
  }

  #relay({ token, fd, queueTokens }: RelayOrder, mailboxes: readonly Mailbox[]): void {
    for (let frames = 0; frames < RELAY_FRAMES_MAX; frames += 1) {
      const got = this.#syscalls.read(fd, this.#frameAddress, this.#frame.length);
      if (got < 0) break;
      const frame = this.#frame.subarray(FRAME_VNET_SIZE_BYTES, got);
      for (const mailbox of mailboxes) mailbox.put(frame);
    }
    for (const queueToken of queueTokens) this.#ring(queueToken);
    this.#syscalls.epollControl(this.#start.epollFd, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, token);
  }

  /** @returns false for the order to stop. */
  #takeOrders(): boolean {
    for (;;) {
      const received = receiveMessageOnPort(this.#start.port) as { message: WakerOrder } | undefined;
      if (received === undefined) return true;
      const order = received.message;
      switch (order.type) {
        case "stop":
          return false;
        case "doorbell":
          this.#doorbells.set(order.token, new Int32Array(order.memory));
          break;
        case "relay":
          this.#relays.set(order.token, { order, mailboxes: order.mailboxes.map((buffer) => new Mailbox(buffer)) });
          break;
        case "forget":
          this.#doorbells.delete(order.token);
          this.#relays.delete(order.token);
          break;
      }
    }
  }
}

/** Add first, then look: a kernel that goes to sleep in between sees the new doorbell value. */
function ringDoorbell(words: Int32Array): void {
  const doorbell = (HEALTH_BASE + HEALTH_DOORBELL) >> 2;
  Atomics.add(words, doorbell, 1);
  if (Atomics.load(words, (HEALTH_BASE + HEALTH_SLEEPING) >> 2) === 1) Atomics.notify(words, doorbell);
}

new WakerThread(workerData as WakerStart).run();
