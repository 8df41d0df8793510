/**
 * Drives the kernels of one thread in real time: busy while there is work, polling for a short while after, then
 * asleep until a doorbell or a deadline. An idle thread costs no CPU. The protocol is told in docs/kernel-threads.md.
 */
import type { NetPopcornError } from "../errors.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import { type Clock, realClock } from "./clock.ts";
import { createTickYielder, createYielder } from "./yield.ts";

/** Longest stretch of turns without yielding to the event loop: what the application's timers and I/O may wait. */
const BURST_NS = 500_000;
/** Timers of the event loop count in milliseconds; what is due sooner is waited for by polling. */
const TIMER_RESOLUTION_NS = 1_000_000;
const MS = 1e6;
/** Longest time a timer can be set to. */
const SLEEP_MS_MAX = 0x3fffffff;

type State = "stopped" | "scheduled" | "running" | "asleep";

/** What the reactor needs of a KernelHost. */
export interface Drivable {
  readonly memory: KernelMemory;
  /** How long to poll before sleeping. */
  readonly spinUs: number;
  socketsWoken: boolean;
  readonly transmitPending: boolean;
  turn(nowNs: number): boolean;
  nextTimerNs(): number;
  nextPortDeadlineNs(): number;
  prepareSleep(): boolean;
  endSleep(): void;
}

type Entry = {
  readonly host: Drivable;
  readonly onTrap: (error: NetPopcornError) => void;
  /** Turns of the present burst that did something: its part of the time. */
  busyTurns: number;
};

export class Reactor {
  readonly #clock: Clock;
  readonly #yield: () => void;
  readonly #yieldToPromises: () => void;
  /** When the event loop has given us this stretch. */
  #loopNs = 0;
  #entries: Entry[] = [];
  #state: State = "stopped";
  /** Bursts since there was work. */
  #idleBursts = 0;
  /** Start of the last burst, if it did something. */
  #busySinceNs = Number.POSITIVE_INFINITY;
  /** More may follow what has come: polling for a while is worth it. Not so after a timer that had nothing to do. */
  #workedSinceSleep = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts sleeps, so that a wake-up for an earlier one is recognised. */
  #sleepNumber = 0;
  #references = 0;
  #keepAlive: ReturnType<typeof setInterval> | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#yield = createYielder(() => this.#burst(this.#clock.nowNs()));
    this.#yieldToPromises = createTickYielder(() => this.#burst(this.#loopNs)) ?? this.#yield;
  }

  /** @param onTrap called after the kernel has been taken out. */
  add(host: Drivable, onTrap: (error: NetPopcornError) => void): void {
    this.#entries.push({ host, onTrap, busyTurns: 0 });
    this.wake();
  }

  remove(host: Drivable): void {
    this.#entries = this.#entries.filter((entry) => entry.host !== host);
    host.endSleep();
    if (this.#entries.length === 0 && this.#state === "asleep") this.#leaveSleep("stopped");
  }

  /**
   * There is work: a turn follows soon. Cheap when the reactor is awake. On this thread only; others ring the
   * doorbell.
   */
  wake(): void {
    if (this.#state === "asleep") this.#leaveSleep("scheduled");
    else if (this.#state === "stopped") this.#state = "scheduled";
    else {
      // A running burst looks once more before it goes to sleep.
      this.#idleBursts = 0;
      return;
    }
    this.#idleBursts = 0;
    this.#yield();
  }

  /** Keeps the process alive until as many unref(): open sockets do, as those of node:net do. */
  ref(): void {
    if (this.#references++ === 0) this.#keepAlive = setInterval(() => {}, SLEEP_MS_MAX);
  }

  unref(): void {
    if (--this.#references === 0) clearInterval(this.#keepAlive);
  }

  /** @param loopNs since when the event loop has done nothing else. */
  #burst(loopNs: number): void {
    this.#loopNs = loopNs;
    if (this.#entries.length === 0) {
      this.#state = "stopped";
      return;
    }
    this.#state = "running";
    const startNs = this.#clock.nowNs();
    this.#countBusyTime(startNs);
    let nowNs = startNs;
    let busy: boolean;
    let yieldNow: boolean;
    do {
      busy = false;
      yieldNow = false;
      for (const entry of this.#entries) {
        if (this.#turn(entry, nowNs)) {
          busy = true;
          entry.busyTurns++;
        }
        if (entry.host.socketsWoken) {
          // Whoever waits for a promise can only go on when we return.
          entry.host.socketsWoken = false;
          yieldNow = true;
        }
      }
      nowNs = this.#clock.nowNs();
    } while (busy && !yieldNow && nowNs - loopNs < BURST_NS);
    if (busy || yieldNow) {
      this.#idleBursts = 0;
      this.#workedSinceSleep = true;
      this.#busySinceNs = startNs;
    }
    // Once more through the event loop before anything else: the application may have work for us.
    else if (++this.#idleBursts > 1 && !this.#spin(nowNs) && this.#sleep()) return;
    this.#state = "scheduled";
    // Who waits for a promise or a tick needs less than the whole event loop.
    if (yieldNow && nowNs - loopNs < BURST_NS) this.#yieldToPromises();
    else this.#yield();
  }

  /**
   * Tells the kernels' memories how long they have worked. A burst with work counts until the next one begins, so that
   * what the application does with it between the two is in.
   */
  #countBusyTime(nowNs: number): void {
    const spanNs = nowNs - this.#busySinceNs;
    this.#busySinceNs = Number.POSITIVE_INFINITY;
    let turns = 0;
    for (const { busyTurns } of this.#entries) turns += busyTurns;
    if (turns === 0) return;
    for (const entry of this.#entries) {
      if (spanNs > 0) entry.host.memory.addBusyUs(Math.round((spanNs * entry.busyTurns) / turns / 1000));
      entry.busyTurns = 0;
    }
  }

  /** @returns true when there was or is work. A kernel that traps is taken out. */
  #turn(entry: Entry, nowNs: number): boolean {
    try {
      return entry.host.turn(nowNs);
    } catch (error) {
      this.remove(entry.host);
      entry.onTrap(error as NetPopcornError);
      return true;
    }
  }

  /** Polls for the configured while. Between threads only: on one thread nobody else could bring anything. */
  #spin(startNs: number): boolean {
    if (!this.#workedSinceSleep) return false;
    let spinNs = 0;
    for (const { host } of this.#entries) {
      if (host.memory.shared) spinNs = Math.max(spinNs, host.spinUs * 1000);
    }
    for (let nowNs = startNs; nowNs - startNs < spinNs; nowNs = this.#clock.nowNs()) {
      for (const entry of this.#entries) {
        if (this.#turn(entry, nowNs)) {
          this.#idleBursts = 0;
          entry.busyTurns++;
          this.#busySinceNs = nowNs;
          return true;
        }
      }
    }
    return false;
  }

  /**
   * Goes to sleep. No wake-up is lost: the doorbells are read first, then every kernel arms its device, says that it
   * sleeps and looks once more, and the wait compares the doorbell with what was read first.
   * @returns false when the thread must stay awake.
   */
  #sleep(): boolean {
    const doorbells = this.#entries.map(({ host }) => host.memory.doorbell);
    // wake() while arming (work came up meanwhile) sets the idle bursts back to 0.
    const ready = this.#entries.every(({ host }) => host.prepareSleep()) && this.#idleBursts > 0;
    const delayMs = ready ? this.#sleepMs() : 0;
    if (delayMs <= 0) {
      this.#endSleep();
      return false;
    }
    this.#state = "asleep";
    this.#workedSinceSleep = false;
    const sleepNumber = ++this.#sleepNumber;
    const wakeUp = () => {
      if (this.#state === "asleep" && sleepNumber === this.#sleepNumber) this.wake();
    };
    for (const [index, { host }] of this.#entries.entries()) {
      if (!host.memory.shared) continue;
      const wait = host.memory.waitDoorbell(doorbells[index] as number, SLEEP_MS_MAX);
      if (!wait) {
        this.#leaveSleep("running");
        return false;
      }
      wait.then(wakeUp);
    }
    if (delayMs < SLEEP_MS_MAX) {
      this.#timer = setTimeout(wakeUp, delayMs);
      // Only references (open sockets) keep the process alive. Browsers return a number.
      if (typeof this.#timer === "object") this.#timer.unref();
    }
    return true;
  }

  /** How long to sleep; 0: not at all. */
  #sleepMs(): number {
    let timerNs = Number.POSITIVE_INFINITY;
    let portNs = Number.POSITIVE_INFINITY;
    let pending = false;
    for (const { host } of this.#entries) {
      timerNs = Math.min(timerNs, host.nextTimerNs());
      portNs = Math.min(portNs, host.nextPortDeadlineNs());
      pending ||= host.transmitPending;
    }
    const nowNs = this.#clock.nowNs();
    if (timerNs <= nowNs || portNs - nowNs < TIMER_RESOLUTION_NS) return 0;
    // A protocol timer may be late by a millisecond; a frame must not, so its last fraction is polled for.
    const delayMs = Math.min(Math.ceil((timerNs - nowNs) / MS), Math.floor((portNs - nowNs) / MS), SLEEP_MS_MAX);
    return pending ? 1 : delayMs;
  }

  #leaveSleep(next: State): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#state = next;
    this.#endSleep();
    // Takes back the waits of this sleep, or they would pile up. A raised doorbell at most costs an idle burst.
    for (const { host } of this.#entries) {
      if (host.memory.shared) host.memory.notifyDoorbell();
    }
  }

  #endSleep(): void {
    for (const { host } of this.#entries) host.endSleep();
  }
}

const reactors = new WeakMap<Clock, Reactor>();

/** The reactor of all kernels that run on this thread by this clock. */
export function reactorOf(clock: Clock = realClock): Reactor {
  let reactor = reactors.get(clock);
  if (!reactor) {
    reactor = new Reactor(clock);
    reactors.set(clock, reactor);
  }
  return reactor;
}
