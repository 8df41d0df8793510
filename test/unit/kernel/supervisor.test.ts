import { beforeEach, describe, expect, it } from "vitest";
import { type KernelEvent, RESTART_DEFAULTS, type RestartOptions, Supervisor } from "../../../src/kernel/supervisor.ts";
import { HEALTH_BASE, HEALTH_HEARTBEAT } from "../../../src/layout/kernelMemory.ts";
import { KernelMemory } from "../../../src/views/kernelMemory.ts";
import { createMemory } from "../../../src/wasm/load.ts";

const HANG_MS = 1000;

/** Kernels that are nothing but their health words, in virtual time. */
class FakeKernels {
  nowNs = 0;
  readonly log: string[] = [];
  readonly events: KernelEvent[] = [];
  readonly memories = [0, 1, 2].map(() => new KernelMemory(createMemory(65536, true)));
  failStarts = 0;
  /** What starts, and ends in order, wait for. */
  startHeld: Promise<void> | undefined;
  dismissHeld: Promise<void> | undefined;
  empty = false;
  readonly supervisor: Supervisor;

  constructor(restart: RestartOptions | false = RESTART_DEFAULTS) {
    this.supervisor = new Supervisor({ kernels: this, count: 3, restart: restart || undefined, hangMs: HANG_MS });
    for (const memory of this.memories) memory.setSleeping(true);
    this.supervisor.begin();
  }

  nowMs(): number {
    return this.nowNs / 1e6;
  }

  watchedMemory(kernelId: number): KernelMemory {
    return this.memories[kernelId] as KernelMemory;
  }

  retire(kernelId: number): void {
    this.log.push(`retire ${kernelId}`);
  }

  async end(kernelId: number): Promise<void> {
    this.log.push(`end ${kernelId}`);
  }

  async start(kernelId: number, life: number): Promise<void> {
    this.log.push(`start ${kernelId} ${life}`);
    await this.startHeld;
    if (this.failStarts-- > 0) throw new Error("no start");
  }

  restore(kernelId: number): void {
    this.log.push(`restore ${kernelId}`);
  }

  leave(kernelId: number): void {
    this.log.push(`leave ${kernelId}`);
  }

  isEmpty(): boolean {
    return this.empty;
  }

  async dismiss(kernelId: number): Promise<void> {
    this.log.push(`dismiss ${kernelId}`);
    await this.dismissHeld;
  }

  giveUp(): void {
    this.log.push("give up");
  }

  announce(event: KernelEvent): void {
    this.log.push(`${event.state} ${event.kernelId}`);
    this.events.push(event);
  }

  reschedule(): void {}

  poll(kernelId: number): void {
    Atomics.add(this.watchedMemory(kernelId).words, (HEALTH_BASE + HEALTH_HEARTBEAT) >> 2, 1);
  }

  /** Lets time pass in steps of a hundredth of a second; `each` is what the kernels do meanwhile. */
  async pass(ms: number, each: () => void = () => {}): Promise<void> {
    for (const endNs = this.nowNs + ms * 1e6; this.nowNs < endNs; ) {
      this.nowNs = Math.min(this.nowNs + 10e6, endNs);
      each();
      if (this.supervisor.deadlineMs <= this.nowMs()) this.supervisor.step();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Ends kernel 0. @returns how long it took to come back, ms; undefined: it has not within a minute. */
  async crash(): Promise<number | undefined> {
    const beganMs = this.nowMs();
    this.supervisor.down(0, "exit", new Error("gone"));
    while (this.nowMs() - beganMs < 60_000) {
      await this.pass(10);
      if (this.supervisor.isUp(0)) return this.nowMs() - beganMs;
    }
    return undefined;
  }
}

let kernels: FakeKernels;
beforeEach(() => {
  kernels = new FakeKernels();
});

describe("a kernel that ends", () => {
  it("is retired at once, ended, started after the wait, and restored", async () => {
    kernels.supervisor.down(1, "trap", new Error("trapped"));
    expect(kernels.log).toEqual(["retire 1", "down 1", "end 1"]);
    await kernels.pass(200);
    expect(kernels.log.slice(3)).toEqual(["start 1 1", "restore 1", "up 1"]);
    expect(kernels.events[0]).toMatchObject({
      kernelId: 1,
      state: "down",
      reason: "trap",
      restarts: 0,
      restartMs: 100,
    });
    expect(kernels.events[1]).toMatchObject({ kernelId: 1, state: "up", reason: "restarted", restarts: 1 });
  });

  it("is told of once, however often its end is noticed", async () => {
    kernels.supervisor.down(1, "trap", new Error("trapped"));
    kernels.supervisor.down(1, "exit", new Error("gone"));
    await kernels.pass(10);
    expect(kernels.events).toHaveLength(1);
  });

  it("waits twice as long each time, up to the limit, and less after a quiet time", async () => {
    const waits: (number | undefined)[] = [];
    for (let times = 0; times < 9; times++) waits.push(await kernels.crash());
    // Restarts happen at the first look after the wait, here every 10 ms.
    const expected = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
    for (const [i, wait] of waits.entries()) expect(wait).toBeGreaterThanOrEqual(expected[i] as number);
    for (const [i, wait] of waits.entries()) expect(wait).toBeLessThanOrEqual((expected[i] as number) + 20);
    await kernels.pass(RESTART_DEFAULTS.quietMs);
    expect(await kernels.crash()).toBeLessThanOrEqual(120);
  }, 60_000);

  it("is given up when its starts fail, and the others go on", async () => {
    kernels.failStarts = Number.POSITIVE_INFINITY;
    expect(await kernels.crash()).toBeUndefined();
    const failed = kernels.events.filter(({ reason }) => reason === "start");
    expect(failed).toHaveLength(RESTART_DEFAULTS.failuresMax);
    expect(failed.at(-1)).not.toHaveProperty("restartMs");
    expect(kernels.supervisor.isUp(1)).toBe(true);
    expect(kernels.log).not.toContain("give up");
  }, 60_000);

  it("comes back after some failed starts", async () => {
    kernels.failStarts = 3;
    expect(await kernels.crash()).toBeGreaterThanOrEqual(100 + 200 + 400 + 800);
    expect(kernels.supervisor.restarts(0)).toBe(4);
  });

  it("stays down without restarts; with the last one the stack gives up", async () => {
    kernels = new FakeKernels(false);
    for (const kernelId of [0, 1, 2]) kernels.supervisor.down(kernelId, "exit", new Error("gone"));
    await kernels.pass(1000);
    expect(kernels.log.filter((line) => /start|restore/.test(line))).toEqual([]);
    expect(kernels.log.at(-1)).toBe("give up");
    expect(kernels.supervisor.deadlineMs).toBe(Number.POSITIVE_INFINITY);
  });

  it("is not started when the stack has closed meanwhile", async () => {
    kernels.supervisor.down(1, "exit", new Error("gone"));
    kernels.supervisor.close();
    await kernels.pass(1000);
    expect(kernels.log).toEqual(["retire 1", "down 1", "end 1"]);
  });
});

describe("a heartbeat that stands still", () => {
  const hung = () => kernels.events.filter(({ reason }) => reason === "hang").map(({ kernelId }) => kernelId);

  it("is no hang while the kernel sleeps and nobody rings", async () => {
    await kernels.pass(20 * HANG_MS);
    expect(hung()).toEqual([]);
    for (const memory of kernels.memories) expect(memory.doorbell).toBe(0);
  });

  it("is a hang when the doorbell has been rung, after hangMs and not before", async () => {
    await kernels.pass(500);
    kernels.watchedMemory(1).ringDoorbell();
    await kernels.pass(HANG_MS - 130);
    expect(hung()).toEqual([]);
    await kernels.pass(400);
    expect(hung()).toEqual([1]);
  });

  it("is a hang when the kernel is awake", async () => {
    kernels.watchedMemory(2).setSleeping(false);
    await kernels.pass(2 * HANG_MS);
    expect(hung()).toEqual([2]);
  });

  it("is none when a long callback ends in time", async () => {
    kernels.watchedMemory(2).setSleeping(false);
    for (let times = 0; times < 5; times++) {
      await kernels.pass(HANG_MS - 300);
      kernels.poll(2);
    }
    expect(hung()).toEqual([]);
  });

  it("is none when a ring was in vain because the kernel had seen the work already", async () => {
    const memory = kernels.watchedMemory(0);
    await kernels.pass(500);
    // Rung between its last look and its falling asleep: it sleeps with the doorbell raised.
    memory.ringDoorbell();
    let seen = memory.doorbell;
    await kernels.pass(20 * HANG_MS, () => {
      // What a sleeper does: it wakes up when the doorbell is no longer what it was when it fell asleep.
      if (memory.doorbell === seen) return;
      seen = memory.doorbell;
      kernels.poll(0);
    });
    expect(hung()).toEqual([]);
    // And it is left alone after that.
    expect(memory.doorbell).toBeLessThanOrEqual(3);
  });

  it("is none when the whole machine was stopped for a while", async () => {
    const memory = kernels.watchedMemory(1);
    memory.setSleeping(false);
    await kernels.pass(300, () => kernels.poll(1));
    kernels.nowNs += 3600e9;
    kernels.supervisor.step();
    await kernels.pass(50);
    kernels.poll(1);
    await kernels.pass(500, () => kernels.poll(1));
    expect(hung()).toEqual([]);
  });
});

describe("a kernel that joins or leaves", () => {
  it("is started under the next number, and not counted as a restart of others", async () => {
    await kernels.supervisor.add(3);
    expect(kernels.log).toEqual(["start 3 1", "restore 3", "up 3"]);
    expect(kernels.supervisor.presentCount).toBe(4);
    kernels.failStarts = 1;
    await expect(kernels.supervisor.add(4)).rejects.toThrow("no start");
    expect(kernels.log.slice(3)).toEqual(["start 4 1", "dismiss 4"]);
    expect(kernels.supervisor.isPresent(4)).toBe(false);
  });

  it("leaves when it is empty, or when its time is over", async () => {
    const left: number[] = [];
    void kernels.supervisor.remove(1, { drainMs: 1000 }).then(() => left.push(1));
    await kernels.pass(500);
    expect(kernels.log).toEqual(["leave 1"]);
    expect(kernels.supervisor.isUp(1)).toBe(false);
    kernels.empty = true;
    await kernels.pass(50);
    expect(kernels.log.slice(1)).toEqual(["dismiss 1", "down 1"]);
    kernels.empty = false;
    void kernels.supervisor.remove(2, { drainMs: 1000 }).then(() => left.push(2));
    await kernels.pass(900);
    expect(left).toEqual([1]);
    await kernels.pass(150);
    expect(left).toEqual([1, 2]);
    expect(kernels.events.map(({ reason }) => reason)).toEqual(["removed", "removed"]);
  });

  it("that ends while it leaves is not started again", async () => {
    const removed = kernels.supervisor.remove(1, { drainMs: 60_000 });
    kernels.supervisor.down(1, "trap", new Error("trapped"));
    await removed;
    await kernels.pass(500);
    expect(kernels.log).not.toContain("start 1 1");
    expect(kernels.supervisor.isPresent(1)).toBe(false);
  });

  it("that hangs while it leaves is found, and has left", async () => {
    let removed = false;
    void kernels.supervisor.remove(1, { drainMs: 3_600_000 }).then(() => {
      removed = true;
    });
    kernels.watchedMemory(1).setSleeping(false);
    await kernels.pass(2 * HANG_MS);
    expect(removed).toBe(true);
    expect(kernels.events.map(({ kernelId, reason }) => [kernelId, reason])).toEqual([[1, "hang"]]);
    expect(kernels.supervisor.isPresent(1)).toBe(false);
  });

  it("that is removed while it is being started again does not come back", async () => {
    kernels.supervisor.down(1, "trap", new Error("trapped"));
    await kernels.supervisor.remove(1, {});
    await kernels.pass(500);
    expect(kernels.supervisor.isUp(1)).toBe(false);
    expect(kernels.log).not.toContain("restore 1");
  });

  it.each(["has started", "does not start"])("that is removed while it is added, and %s, is not there", async (how) => {
    let go = () => {};
    kernels.startHeld = new Promise((resolve) => {
      go = resolve;
    });
    if (how === "does not start") kernels.failStarts = 1;
    const added = kernels.supervisor.add(3);
    const removed = kernels.supervisor.remove(3, {});
    go();
    await expect(added).rejects.toMatchObject({ code: "ERR_NO_SUCH_KERNEL" });
    await removed;
    expect(kernels.log).toEqual(["start 3 1", "dismiss 3"]);
    expect(kernels.supervisor.isPresent(3)).toBe(false);
    kernels.startHeld = undefined;
    await kernels.supervisor.add(3);
    expect(kernels.supervisor.isUp(3)).toBe(true);
  });

  it("that is removed while its start never ends is refused", async () => {
    kernels.startHeld = new Promise(() => {});
    const added = kernels.supervisor.add(3);
    await kernels.supervisor.remove(3, {});
    await expect(added).rejects.toMatchObject({ code: "ERR_NO_SUCH_KERNEL" });
  });

  it.each([0, 1])(
    "whose number is another's by the time its restart is over (%i failures) is let be",
    async (fails) => {
      let go = () => {};
      kernels.startHeld = new Promise((resolve) => {
        go = resolve;
      });
      kernels.supervisor.down(1, "trap", new Error("trapped"));
      await kernels.pass(200);
      await kernels.supervisor.remove(1, {});
      kernels.startHeld = undefined;
      await kernels.supervisor.add(1);
      const before = kernels.log.length;
      kernels.failStarts = fails;
      go();
      await kernels.pass(500);
      expect(kernels.log.slice(before)).toEqual([]);
      expect(kernels.supervisor.isUp(1)).toBe(true);
    },
  );

  it("ends once, however often it is removed: its number may be another's by then", async () => {
    let go = () => {};
    kernels.dismissHeld = new Promise((resolve) => {
      go = resolve;
    });
    kernels.supervisor.down(1, "trap", new Error("trapped"));
    const removals = [kernels.supervisor.remove(1, {}), kernels.supervisor.remove(1, {})];
    go();
    await Promise.all(removals);
    expect(kernels.log.filter((line) => line === "dismiss 1")).toHaveLength(1);
    await kernels.supervisor.add(1);
    await kernels.pass(500);
    expect(kernels.supervisor.isUp(1)).toBe(true);
  });
});
