import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it, vi } from "vitest";
import { NetPopcornError } from "../../../src/errors.ts";
import { realClock } from "../../../src/kernel/clock.ts";
import { type Drivable, Reactor } from "../../../src/kernel/reactor.ts";
import { KernelMemory } from "../../../src/views/kernelMemory.ts";
import { createMemory } from "../../../src/wasm/load.ts";

/** A kernel whose work is a number of turns that somebody has asked for. */
class CountingKernel implements Drivable {
  readonly memory: KernelMemory;
  readonly spinUs = 0;
  socketsWoken = false;
  transmitPending = false;
  turns = 0;
  work = 0;
  timerNs = Number.POSITIVE_INFINITY;
  portNs = Number.POSITIVE_INFINITY;
  onPrepareSleep: () => void = () => {};

  constructor(shared: boolean) {
    this.memory = new KernelMemory(createMemory(65536, shared));
  }

  turn(nowNs: number): boolean {
    this.turns++;
    if (this.timerNs <= nowNs) this.timerNs = Number.POSITIVE_INFINITY;
    if (this.portNs <= nowNs) this.portNs = Number.POSITIVE_INFINITY;
    if (this.work === 0) return false;
    this.work--;
    return true;
  }

  nextTimerNs(): number {
    return this.timerNs;
  }

  nextPortDeadlineNs(): number {
    return this.portNs;
  }

  prepareSleep(): boolean {
    this.memory.setSleeping(true);
    this.onPrepareSleep();
    return this.work === 0;
  }

  endSleep(): void {
    this.memory.setSleeping(false);
  }
}

const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanUp.splice(0)) await clean();
});

function startKernel(shared: boolean): { reactor: Reactor; kernel: CountingKernel } {
  const reactor = new Reactor(realClock);
  const kernel = new CountingKernel(shared);
  reactor.add(kernel, () => {});
  cleanUp.push(() => reactor.remove(kernel));
  return { reactor, kernel };
}

function nap(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits until the kernel takes no more turns. */
async function asleep(kernel: CountingKernel): Promise<number> {
  for (let turns = -1; turns !== kernel.turns; ) {
    turns = kernel.turns;
    await nap(10);
  }
  return kernel.turns;
}

describe.each([
  ["plain", false],
  ["shared", true],
] as const)("Reactor on a %s memory", (_name, shared) => {
  it("takes turns while there is work and then none", async () => {
    const { reactor, kernel } = startKernel(shared);
    kernel.work = 1000;
    reactor.wake();
    const turns = await asleep(kernel);
    expect(kernel.work).toBe(0);
    await nap(50);
    expect(kernel.turns).toBe(turns);
  });

  it("wakes up for work that comes while it sleeps", async () => {
    const { reactor, kernel } = startKernel(shared);
    await asleep(kernel);
    kernel.work = 3;
    reactor.wake();
    await vi.waitFor(() => expect(kernel.work).toBe(0));
  });

  it("does not lose work that comes while it goes to sleep", async () => {
    const { reactor, kernel } = startKernel(shared);
    await asleep(kernel);
    let times = 0;
    kernel.onPrepareSleep = () => {
      // After the look at the work, before the sleep.
      if (++times > 3) return;
      if (shared) kernel.memory.ringDoorbell();
      else reactor.wake();
    };
    const turns = kernel.turns;
    reactor.wake();
    await asleep(kernel);
    // Each refused sleep gives another turn; the fourth goes through.
    expect(times).toBe(4);
    expect(kernel.turns).toBeGreaterThanOrEqual(turns + 4);
  });

  it.each(["timerNs", "portNs"] as const)("takes a turn when %s is due", async (deadline) => {
    const { reactor, kernel } = startKernel(shared);
    await asleep(kernel);
    kernel[deadline] = realClock.nowNs() + 20e6;
    reactor.wake();
    await vi.waitFor(() => expect(kernel[deadline]).toBe(Number.POSITIVE_INFINITY));
  });

  it("runs all kernels, and goes on with the others when one traps", async () => {
    const { reactor, kernel } = startKernel(shared);
    const broken = new CountingKernel(shared);
    const trap = new NetPopcornError("ERR_KERNEL_TRAP", "trapped");
    broken.turn = () => {
      throw trap;
    };
    const traps: unknown[] = [];
    reactor.add(broken, (error) => traps.push(error));
    kernel.work = 10;
    reactor.wake();
    await vi.waitFor(() => expect(kernel.work).toBe(0));
    expect(traps).toEqual([trap]);
  });

  it("lets the application's promises run before the next turn after socket events", async () => {
    const { reactor, kernel } = startKernel(shared);
    await asleep(kernel);
    const order: string[] = [];
    let release = () => {};
    const promise = new Promise<void>((resolve) => {
      release = resolve;
    }).then(() => order.push("application"));
    kernel.turn = () => {
      order.push("turn");
      if (order.length > 2) return false;
      kernel.socketsWoken = true;
      release();
      return true;
    };
    reactor.wake();
    await promise;
    expect(order.slice(0, 2)).toEqual(["turn", "application"]);
  });
});

describe("doorbell", () => {
  it("wakes the reactor from another thread", async () => {
    const { kernel } = startKernel(true);
    await asleep(kernel);
    const turns = kernel.turns;
    // The producer's side of the protocol (layout/kernelMemory.ts), spelled out for a thread without our sources.
    const source = `
      const words = new Int32Array(require("node:worker_threads").workerData.buffer);
      Atomics.add(words, 3072 >> 2, 1);
      if (Atomics.load(words, 3076 >> 2) === 1) Atomics.notify(words, 3072 >> 2);`;
    const worker = new Worker(source, { eval: true, workerData: kernel.memory.memory });
    cleanUp.push(() => worker.terminate());
    await vi.waitFor(() => expect(kernel.turns).toBeGreaterThan(turns));
  });
});
