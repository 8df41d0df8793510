/**
 * One kernel on this thread: its memory, its exports, its device port, and the way of its events to the application.
 * A turn is the whole data path once: device → RX lanes → poll → events → commands → flush → TX ring → device; messages
 * of other kernels are handled before.
 */
import { Endpoint } from "../control/endpoint.ts";
import { KernelControl } from "../control/kernelControl.ts";
import type { DevicePort } from "../device/device.ts";
import { type GroupRule, groupRuleOf } from "../device/flowGroups.ts";
import { NetPopcornError, statusError } from "../errors.ts";
import {
  EVENT_HANDLE,
  EVENT_MASK,
  EVENT_READABLE_BYTES,
  EVENT_SIZE_BYTES,
  HANDLE_INDEX_MASK,
  HANDLE_KIND_SHIFT,
} from "../layout/event.ts";
import type { Pinger } from "../ip/pinger.ts";
import { applyChange, type NetworkChange } from "../ip/networkChange.ts";
import { LAYOUT_VERSION, MAP_BASE, MAP_EVENTS, MAP_LAYOUT_VERSION } from "../layout/kernelMemory.ts";
import { MigrationAgent } from "../migration/agent.ts";
import type { Carrier } from "../migration/carrier.ts";
import type { FrameRing } from "../views/frameRing.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import type { KernelExports } from "../wasm/exports.ts";
import { instantiateKernel, kernelTrap } from "../wasm/load.ts";
import { ActiveOpener } from "./activeOpener.ts";
import type { KernelConfig } from "./config.ts";
import { type EventHandler, Handles } from "./handles.ts";
import type { NetworkControl } from "./networkControl.ts";
import type { Drivable } from "./reactor.ts";
import { PortRandom } from "./seed.ts";

/** A socket that gets its own events, found by its handle. */
export interface EventSink {
  readonly handle: number;
  /** @param mask EVENT_*. @param status 0 or a negative errno. */
  onEvent(mask: number, status: number, readableBytes: number): void;
  /** The connection lives in another kernel of this thread from now on. Missing: it cannot move (docs/migration.md). */
  moveTo?(host: KernelHost, handle: number): void;
}

const EVENT_WORDS = EVENT_SIZE_BYTES >> 2;
const HANDLE_WORD = EVENT_HANDLE >> 2;
/** Mask in the low half, status in the high half. */
const MASK_WORD = EVENT_MASK >> 2;
const READABLE_WORD = EVENT_READABLE_BYTES >> 2;
const HANDLE_KINDS = 4;

export type KernelHostOptions = {
  readonly module: WebAssembly.Module;
  /** With the configuration written (writeConfig), not booted. */
  readonly memory: KernelMemory;
  readonly config: KernelConfig;
  /** How often this kernel has been started before. Default 0. */
  readonly life?: number;
  /** An exception of the application's code, thrown from an event handler. The kernel goes on. */
  readonly onApplicationError: (error: unknown) => void;
  /** Called when a socket has given the kernel work outside a turn. */
  readonly onWork: () => void;
  /** Called when messages have been sent outside a turn. Default: onWork. */
  readonly onMessages?: () => void;
  /**
   * Has messages handled at once, by this kernel and by others on this thread. Default: by this kernel, for those that
   * it has sent to itself.
   */
  readonly settleMessages?: () => void;
  /** Of the ports that are drawn for port 0 while this kernel is the owner. Default: the configuration's seed. */
  readonly drawSeed?: Uint32Array;
};

/** A kernel on this thread. Users need its `handles`; all else is for the stack. */
export class KernelHost implements Drivable {
  readonly kernelId: number;
  readonly config: KernelConfig;
  readonly memory: KernelMemory;
  readonly exports: KernelExports;
  /** The handle level (docs/api.md). */
  readonly handles: Handles;
  /** Sockets had events in the last turn: their promises run when the thread yields. */
  socketsWoken = false;
  /** Opens connections where other kernels share the device; undefined: this kernel is alone and picks ports itself. */
  opener: ActiveOpener | undefined;
  /** Decides about addresses, in the kernel that owns the device, where there is something to decide. */
  network: NetworkControl | undefined;
  /** Echo requests of its group of kernels; undefined: there have been none. */
  pinger: Pinger | undefined;
  /** Messages to and from other kernels. */
  readonly messages: Endpoint;
  /** Its part in the control of the stack. */
  readonly control: KernelControl;
  readonly #rx: readonly FrameRing[];
  readonly #tx: FrameRing;
  readonly #budgetFrames: number;
  readonly #onApplicationError: (error: unknown) => void;
  readonly #onWork: () => void;
  readonly #settleMessages: () => void;
  /** By kind and index of the handle. */
  readonly #sinks: (EventSink | undefined)[][] = Array.from({ length: HANDLE_KINDS }, () => []);
  #sinkCount = 0;
  #handler: EventHandler | undefined;
  #port: DevicePort | undefined;
  #failure: NetPopcornError | undefined;
  #migration: MigrationAgent | undefined;
  /** The last turn has found nothing in the device and in the lanes. */
  #quiet = false;
  #isClosed = false;
  #nowNs = 0;

  /**
   * Instantiates and boots the kernel.
   * @throws NetPopcornError ENOMEM when the configuration does not fit the memory, EINVAL, ERR_KERNEL_TRAP,
   * ERR_LAYOUT_VERSION.
   */
  constructor(options: KernelHostOptions) {
    this.config = options.config;
    this.kernelId = options.config.kernelId;
    this.memory = options.memory;
    this.#budgetFrames = options.config.tuning.pollBudgetFrames;
    this.#onApplicationError = options.onApplicationError;
    this.#onWork = options.onWork;
    this.exports = instantiateKernel(options.module, options.memory.memory);
    const status = this.#guard(() => this.exports.boot());
    if (status < 0) throw statusError(status, `boot of kernel ${this.kernelId}`);
    const version = this.memory.loadU32(MAP_BASE + MAP_LAYOUT_VERSION);
    if (version !== LAYOUT_VERSION) {
      throw new NetPopcornError(
        "ERR_LAYOUT_VERSION",
        `the kernel module has memory layout ${version}, this library ${LAYOUT_VERSION}; build both again`,
      );
    }
    this.#rx = Array.from({ length: options.config.rxLanes }, (_, lane) => this.memory.rxRing(lane));
    this.#tx = this.memory.txRing();
    this.handles = new Handles(this);
    this.messages = new Endpoint({
      kernelId: this.kernelId,
      life: options.life ?? 0,
      memory: this.memory,
      onWork: options.onMessages ?? this.#onWork,
      onError: options.onApplicationError,
    });
    const { ephemeralPortFirst, ephemeralPortLast } = options.config.tuning;
    const random = new PortRandom(options.drawSeed ?? options.config.seed);
    this.#settleMessages = options.settleMessages ?? (() => void this.messages.poll());
    this.control = new KernelControl({
      endpoint: this.messages,
      memory: this.memory,
      drawPort: () => random.draw(ephemeralPortFirst, ephemeralPortLast),
      onError: options.onApplicationError,
    });
  }

  /** Gives the kernel its queue pair. Once, after construction. @param random draws local ports. */
  attach(port: DevicePort, random?: PortRandom): void {
    this.#port = port;
    const steering = port.replySteering;
    if (!steering || !random || steering.queues === 1) return;
    const { config, control, handles, memory } = this;
    const settle = () => this.#settleMessages();
    this.opener = new ActiveOpener({ config, memory, steering, random, handles, control, settle });
  }

  get spinUs(): number {
    return this.config.tuning.spinUs;
  }

  /** Instant of the present or last turn. */
  get nowNs(): number {
    return this.#nowNs;
  }

  /** Why this kernel is dead, if it is. */
  get failure(): NetPopcornError | undefined {
    return this.#failure;
  }

  /**
   * One turn. Not to be called from an event handler.
   * @param nowNs whole nanoseconds, never less than before.
   * @returns true when something was done or is left to do at once.
   * @throws NetPopcornError ERR_KERNEL_TRAP; the kernel is dead then.
   */
  turn(nowNs: number): boolean {
    if (this.#failure) return false;
    this.#nowNs = nowNs;
    this.opener?.turn(nowNs);
    try {
      const port = this.#port;
      const messages = this.messages.poll();
      const migrating = this.#migration ? this.#migration.turn(nowNs, this.#quiet) : false;
      const received = port ? port.receive(nowNs) : 0;
      if (this.#migration) this.#quiet = received === 0 && !this.#lanesUsed();
      const events = this.exports.poll(nowNs, this.#budgetFrames);
      if (events > 0) this.#dispatch(events);
      this.control.portOwner.turn(nowNs);
      this.network?.turn(nowNs);
      this.pinger?.turn(this, nowNs);
      const flushed = this.exports.flush();
      const sent = port ? port.transmit(nowNs) : 0;
      this.messages.flush();
      return migrating || (messages | received | events | flushed | sent) !== 0 || this.#hasWork();
    } catch (cause) {
      throw this.#fail(cause);
    }
  }

  /** When the next turn is due without outside input, in ns; Infinity: never. Timers of the protocols. */
  nextTimerNs(): number {
    const never = Number.POSITIVE_INFINITY;
    const ownNs = Math.min(this.opener?.nextTurnNs ?? never, this.network?.nextTurnNs ?? never);
    const askedNs = Math.min(this.pinger?.nextTurnNs ?? never, this.control.portOwner.nextTurnNs);
    const deadlineNs = Math.min(this.exports.nextDeadlineNs(), ownNs, askedNs);
    return this.#migration ? Math.min(deadlineNs, this.#migration.deadlineNs) : deadlineNs;
  }

  /** When the device has something for itself to do (a delayed frame), in ns; Infinity: never. */
  nextPortDeadlineNs(): number {
    return this.#port ? this.#port.nextDeadlineNs() : Number.POSITIVE_INFINITY;
  }

  nextDeadlineNs(): number {
    return Math.min(this.nextTimerNs(), this.nextPortDeadlineNs());
  }

  /** The device has not taken all of the TX ring: try again soon even if nothing else happens. */
  get transmitPending(): boolean {
    return this.#tx.usedBytes > 0;
  }

  /**
   * Announces that the thread is going to sleep. @returns false when there is work after all.
   * The order matters: first the device promises to ring, then we say that we sleep, then we look once more.
   */
  prepareSleep(): boolean {
    if (this.#port && !this.#port.arm()) return false;
    this.memory.setSleeping(true);
    return !this.#hasWork();
  }

  endSleep(): void {
    this.memory.setSleeping(false);
  }

  /** Asks for a turn: a command outside a turn has left something to send. */
  requestTurn(): void {
    this.#onWork();
  }

  /** The one handler of the handle level; undefined: none. */
  setEventHandler(handler: EventHandler | undefined): void {
    this.#handler = handler;
  }

  addSink(sink: EventSink): void {
    const sinks = this.#sinksOf(sink.handle);
    const index = sink.handle & HANDLE_INDEX_MASK;
    // Without holes: V8 would turn a sparse array into a hash table.
    while (sinks.length <= index) sinks.push(undefined);
    if (sinks[index] === undefined) this.#sinkCount++;
    sinks[index] = sink;
  }

  removeSink(sink: EventSink): void {
    const sinks = this.#sinksOf(sink.handle);
    const index = sink.handle & HANDLE_INDEX_MASK;
    if (sinks[index] !== sink) return;
    sinks[index] = undefined;
    this.#sinkCount--;
  }

  /** The socket that gets a handle's events. */
  sinkOf(handle: number): EventSink | undefined {
    const sink = this.#sinksOf(handle)[handle & HANDLE_INDEX_MASK];
    return sink?.handle === handle ? sink : undefined;
  }

  /** How the device groups packets. */
  get groupRule(): GroupRule {
    return groupRuleOf(this.config);
  }

  /** This kernel's side of live migration (docs/migration.md). @param carrier of the first call; default: messages. */
  migrationAgent(carrier?: Carrier): MigrationAgent {
    this.#migration ??= new MigrationAgent(this, carrier);
    return this.#migration;
  }

  /** Calls a hook of the application. @returns undefined when it throws: that is reported. */
  guardApplication<T>(call: () => T): T | undefined {
    try {
      return call();
    } catch (error) {
      this.#reportApplicationError(error);
      return undefined;
    }
  }

  /** Calls `visit` for each socket that gets its own events. */
  forEachSink(visit: (sink: EventSink) => void): void {
    for (const sinks of this.#sinks) {
      for (const sink of sinks.slice()) if (sink) visit(sink);
    }
  }

  /** Applies what the owner's kernel has decided about addresses. */
  changeNetwork(changes: readonly NetworkChange[]): void {
    for (const change of changes) applyChange(this.exports, this.memory, change);
  }

  /** It has ended: nobody gives it turns. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  close(): void {
    this.#isClosed = true;
    this.#port?.close();
    this.#port = undefined;
  }

  /**
   * True when a turn now would get further. Output that waits for a device that takes nothing does not count: polling
   * for it would take the CPU from whoever is to make room, and the device rings when there is some.
   */
  #hasWork(): boolean {
    if (this.messages.pending) return true;
    if (this.exports.hasWork() === 0) return false;
    if (!this.transmitPending) return true;
    return this.#lanesUsed();
  }

  #lanesUsed(): boolean {
    for (const lane of this.#rx) if (lane.usedBytes > 0) return true;
    return false;
  }

  #sinksOf(handle: number): (EventSink | undefined)[] {
    return this.#sinks[handle >>> HANDLE_KIND_SHIFT] as (EventSink | undefined)[];
  }

  #dispatch(count: number): void {
    const words = this.memory.words;
    const first = (words[(MAP_BASE + MAP_EVENTS) >> 2] as number) >>> 2;
    if (this.#handler) {
      try {
        this.#handler(words, first, count);
      } catch (error) {
        this.#reportApplicationError(error);
      }
    }
    if (this.#sinkCount === 0) return;
    for (let i = 0, at = first; i < count; i++, at += EVENT_WORDS) {
      const handle = words[at + HANDLE_WORD] as number;
      const sink = this.#sinksOf(handle)[handle & HANDLE_INDEX_MASK];
      // Another handle at the same index: the event is older than this socket.
      if (sink === undefined || sink.handle !== handle) continue;
      const maskAndStatus = words[at + MASK_WORD] as number;
      this.socketsWoken = true;
      try {
        sink.onEvent(maskAndStatus & 0xffff, maskAndStatus >> 16, (words[at + READABLE_WORD] as number) >>> 0);
      } catch (error) {
        this.#reportApplicationError(error);
      }
    }
  }

  /** Calls the application outside a turn: its exceptions are told as those of its event handlers are. */
  callApplication(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#reportApplicationError(error);
    }
  }

  /** A trap may come up through the application's call of an export: then it is the kernel's, not the application's. */
  #reportApplicationError(error: unknown): void {
    if (isTrap(error)) throw error;
    this.#onApplicationError(error);
  }

  #fail(cause: unknown): NetPopcornError {
    this.#failure = kernelTrap(cause, this.kernelId, this.#nowNs);
    return this.#failure;
  }

  #guard<T>(call: () => T): T {
    try {
      return call();
    } catch (cause) {
      throw this.#fail(cause);
    }
  }
}

/** A trap of the engine, or an assertion of the module (thrown by the loader's abort). */
function isTrap(error: unknown): boolean {
  return (
    error instanceof WebAssembly.RuntimeError ||
    (error instanceof Error && error.message.startsWith("abort: ")) ||
    (error instanceof NetPopcornError && error.code === "ERR_KERNEL_TRAP")
  );
}
