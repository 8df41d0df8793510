/**
 * Goal: whichever kernel ends or leaves at whatever step of a move, no living kernel is left with a group on its way or
 * with frozen connections, and every connection of a living kernel lives on exactly once. Method: kernels that are
 * nothing but their state, and every step of a move tried with every victim.
 */
import { describe, expect, it } from "vitest";
import type { PinnedFlow } from "../../../src/balancer/pins.ts";
import type { Device } from "../../../src/device/device.ts";
import { EOPNOTSUPP } from "../../../src/layout/status.ts";
import { Migrator } from "../../../src/migration/migrator.ts";
import type { MigrationAnswer, MigrationRequest, Reply } from "../../../src/migration/request.ts";

const GROUP = 7;
const TO = 2;
const KERNELS = 4;
/** More than a move has. */
const STEPS_MAX = 30;

class FakeKernel {
  isUp = true;
  isRunning = true;
  state: "steady" | "arriving" | "left" = "steady";
  live: string[] = [];
  frozen: string[] = [];
  incoming: string[] = [];
  commits = 0;
}

const LOCAL = Uint8Array.of(...new Array(15).fill(0), 9);

function pinTo(kernel: number, remotePort: number): PinnedFlow {
  return { remote: new Uint8Array(16), remotePort, local: LOCAL, localPort: 80, kernel, group: GROUP };
}

type Job = { readonly kernelId: number; readonly request: MigrationRequest; readonly reply: Reply };

/** Three kernels with connections of the group (two by filters), and one without. */
class FakeStack {
  readonly kernels = Array.from({ length: KERNELS }, () => new FakeKernel());
  queue = 0;
  readonly jobs: Job[] = [];
  /** Who has said what it has to send. */
  readonly sent = new Set<number>();
  outcome = "pending";
  /** Where filters keep some of its connections. */
  pins = [pinTo(1, 1000), pinTo(3, 1001)];
  readonly cancels: Extract<MigrationRequest, { ask: "cancel" }>[] = [];
  readonly migrator: Migrator;

  /** @param leaver is about to leave already. */
  constructor(leaver?: number) {
    for (const [kernelId, kernel] of this.kernels.entries()) kernel.isUp = kernelId !== leaver;
    const connections = [["a", "b"], ["c"], [], ["d"]];
    for (const [kernelId, kernel] of this.kernels.entries()) kernel.live = connections[kernelId] as string[];
    const device = {
      capabilities: { flowGroups: 4096 },
      flowGroupQueue: () => this.queue,
      moveFlowGroup: (_group: number, to: number) => {
        this.queue = to;
      },
    };
    this.migrator = new Migrator({
      device: device as unknown as Device,
      kernels: () => KERNELS,
      isUp: (id) => (this.kernels[id] as FakeKernel).isUp,
      isRunning: (id) => (this.kernels[id] as FakeKernel).isRunning,
      ask: (kernelId, request, reply) => this.jobs.push({ kernelId, request, reply }),
      commitsOf: (id) => (this.kernels[id] as FakeKernel).commits,
      nowNs: () => 0,
      addresses: [new Uint8Array(16), LOCAL],
      pinned: () => this.pins,
      unpin: () => {
        const pins = this.pins.splice(0);
        return () => this.pins.push(...pins);
      },
    });
    this.migrator.migrate(GROUP, TO).then(
      () => {
        this.outcome = "moved";
      },
      ({ code }: { code: string }) => {
        this.outcome = code;
      },
    );
  }

  /** One kernel does what it has been asked for first. @returns false when nobody has anything to do. */
  async step(withAnswer = true): Promise<boolean> {
    await new Promise((resolve) => setImmediate(resolve));
    const at = this.jobs.findIndex(({ request }) => request.ask !== "receive" || this.sent.has(request.from));
    if (at < 0) return false;
    const [{ kernelId, request, reply }] = this.jobs.splice(at, 1) as [Job];
    const kernel = this.kernels[kernelId] as FakeKernel;
    if (!kernel.isRunning) return true;
    const answer = this.#answer(kernel, kernelId, request);
    if (withAnswer) reply(answer);
    return true;
  }

  #answer(kernel: FakeKernel, kernelId: number, request: MigrationRequest): MigrationAnswer {
    switch (request.ask) {
      case "survey":
        return { status: 0, connections: kernel.live.length };
      case "arrive":
        kernel.state = "arriving";
        return { status: 0 };
      case "freeze":
        kernel.state = "left";
        kernel.frozen = kernel.live.splice(0);
        return { status: 0, arrival: { from: kernelId, states: [], filters: [] } };
      case "transfer":
        (this.kernels[request.to] as FakeKernel).incoming.push(...kernel.frozen);
        this.sent.add(kernelId);
        return { status: 0 };
      case "commit":
        kernel.live.push(...kernel.incoming.splice(0));
        kernel.state = "steady";
        kernel.commits++;
        return { status: 0 };
      case "gone":
        kernel.frozen = [];
        kernel.state = "steady";
        return { status: 0 };
      case "cancel":
        this.cancels.push(request);
        kernel.incoming = [];
        kernel.state = "steady";
        return { status: 0 };
      case "stay":
        kernel.live.push(...kernel.frozen.splice(0));
        kernel.state = "steady";
        return { status: 0 };
      default:
        return { status: 0 };
    }
  }

  /** As a stack does it: first the device's table, then everybody else. */
  kill(kernelId: number): void {
    const kernel = this.kernels[kernelId] as FakeKernel;
    kernel.isUp = false;
    kernel.isRunning = false;
    // Not to the one that had it before.
    if (this.queue === kernelId) this.queue = this.kernels.findLastIndex(({ isUp }) => isUp);
    this.migrator.kernelDown(kernelId);
  }

  /** Runs to the end, and looks at what is left. @param lost kernels that have been killed. */
  async finish(lost: readonly number[]): Promise<void> {
    while (await this.step());
    expect(this.outcome).not.toBe("pending");
    expect(this.migrator.pending).toBe(0);
    const living = this.kernels.filter(({ isRunning }) => isRunning);
    for (const { state, frozen, incoming } of living) {
      expect({ state, frozen, incoming }).toEqual({ state: "steady", frozen: [], incoming: [] });
    }
    const lives = living.flatMap(({ live }) => live).sort();
    expect(new Set(lives).size).toBe(lives.length);
    const homes = [["a", "b"], ["c"], [], ["d"]];
    const diedAfterMove = lost.includes(TO) && (this.kernels[TO] as FakeKernel).commits > 0;
    const expected = diedAfterMove ? [] : homes.flatMap((home, id) => (lost.includes(id) ? [] : home));
    // What had moved before its old kernel died lives in the new one.
    for (const connection of expected) expect(lives).toContain(connection);
    expect((this.kernels[this.queue] as FakeKernel).isRunning).toBe(true);
    if (this.outcome === "moved" && !lost.includes(TO)) expect(this.queue).toBe(TO);
    if (this.outcome !== "moved" && !lost.includes(0)) expect(this.queue).toBe(0);
  }
}

/** A kernel whose connection has ended, and its filter not yet: the next of the same ports may come there. */
describe("a kernel that only a filter names", () => {
  it("is an old one: what has come by that filter after the survey goes along", async () => {
    const stack = new FakeStack();
    const third = stack.kernels[3] as FakeKernel;
    third.live = [];
    while (!stack.jobs.some(({ request }) => request.ask === "drain")) await stack.step();
    expect(stack.pins).toEqual([]);
    third.live.push("d");
    await stack.finish([]);
    expect(stack.outcome).toBe("moved");
    expect(stack.kernels.map(({ live }) => live.length)).toEqual([0, 0, 4, 0]);
  });

  it("gets the frames of its flows back, if the move is undone", async () => {
    const stack = new FakeStack();
    const pins = [...stack.pins];
    while (!stack.jobs.some(({ request }) => request.ask === "freeze")) await stack.step();
    const [{ reply }] = stack.jobs.splice(0, 1) as [Job];
    reply({ status: EOPNOTSUPP });
    await stack.finish([]);
    expect(stack.outcome).toBe("ERR_MIGRATION_PINNED");
    expect(stack.pins).toEqual(pins);
    const named = pins.map(({ remote, remotePort, localPort, kernel }) => {
      return { flow: { remote, remotePort, localIndex: 1, localPort }, kernel };
    });
    expect(stack.cancels).toMatchObject([{ group: GROUP, back: 0, pinned: named }]);
  });

  it("gets none when it has ended", async () => {
    const stack = new FakeStack();
    while (!stack.jobs.some(({ request }) => request.ask === "freeze")) await stack.step();
    stack.kill(1);
    await stack.finish([1]);
    expect(stack.cancels[0]?.pinned.map(({ kernel }) => kernel)).toEqual([3]);
  });
});

describe("the kernel that forwards for a move that was undone", () => {
  it("is told that all is written when filters lead to all old kernels again, or they have ended", async () => {
    const stack = new FakeStack();
    while (!stack.jobs.some(({ request }) => request.ask === "freeze")) await stack.step();
    const [{ reply }] = stack.jobs.splice(0, 1) as [Job];
    reply({ status: EOPNOTSUPP });
    const asked = (ask: string) => stack.jobs.filter(({ request }) => request.ask === ask);
    const stays = asked("stay").map(({ kernelId }) => kernelId);
    expect(stays.length).toBeGreaterThan(1);
    for (const kernelId of stays) {
      expect(asked("written")).toEqual([]);
      if (kernelId === stays.at(-1)) stack.kill(kernelId);
      else
        asked("stay")
          .find((job) => job.kernelId === kernelId)
          ?.reply({ status: 0 });
    }
    expect(asked("written").map(({ kernelId }) => kernelId)).toEqual([TO]);
  });
});

/** So many steps of a move are done. */
async function stackAfter(steps: number): Promise<FakeStack> {
  const stack = new FakeStack();
  for (let i = 0; i < steps; i++) await stack.step();
  return stack;
}

const steps = Array.from({ length: STEPS_MAX }, (_, step) => step);

describe("a move that nothing disturbs", () => {
  it("takes the connections of all kernels to the new one", async () => {
    const stack = await stackAfter(0);
    await stack.finish([]);
    expect(stack.outcome).toBe("moved");
    expect(stack.kernels.map(({ live }) => live.length)).toEqual([0, 0, 4, 0]);
  });

  it("takes those of a kernel that is about to leave, too", async () => {
    const stack = new FakeStack(1);
    await stack.finish([]);
    expect(stack.outcome).toBe("moved");
    expect(stack.kernels.map(({ live }) => live.length)).toEqual([0, 0, 4, 0]);
  });
});

describe.each([
  { victim: 0, who: "the old kernel" },
  { victim: 1, who: "an old kernel with connections by filter" },
  { victim: TO, who: "the new kernel" },
])("$who", ({ victim }) => {
  it("may end after any step", async () => {
    const outcomes = new Set<string>();
    for (const step of steps) {
      const stack = await stackAfter(step);
      stack.kill(victim);
      await stack.finish([victim]);
      outcomes.add(stack.outcome);
    }
    expect(outcomes).toEqual(new Set(["ERR_KERNEL_DOWN", "moved"]));
  });

  it("may end when it has done what it was asked for, and not answered", async () => {
    for (const step of steps) {
      const stack = await stackAfter(step);
      if (stack.jobs[0]?.kernelId !== victim) continue;
      await stack.step(false);
      stack.kill(victim);
      await stack.finish([victim]);
    }
  });

  it("may begin to leave after any step, and end later", async () => {
    for (const step of steps) {
      const stack = await stackAfter(step);
      (stack.kernels[victim] as FakeKernel).isUp = false;
      await stack.finish([]);
      for (const more of [1, 2, 5]) {
        const other = await stackAfter(step);
        (other.kernels[victim] as FakeKernel).isUp = false;
        for (let i = 0; i < more; i++) await other.step();
        other.kill(victim);
        await other.finish([victim]);
      }
    }
  });
});

it("one may leave while another ends", async () => {
  for (const step of steps) {
    for (const [leaver, victim] of [
      [TO, 0],
      [TO, 1],
      [0, TO],
      [1, TO],
    ] as const) {
      const stack = await stackAfter(step);
      (stack.kernels[leaver] as FakeKernel).isUp = false;
      stack.kill(victim);
      await stack.finish([victim]);
    }
  }
});

it("two kernels may end, one after the other", async () => {
  for (const step of steps) {
    for (const [first, second] of [
      [0, 1],
      [0, TO],
      [TO, 0],
      [1, TO],
    ] as const) {
      const stack = await stackAfter(step);
      stack.kill(first);
      await stack.step();
      stack.kill(second);
      await stack.finish([first, second]);
    }
  }
});
