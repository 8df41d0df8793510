/**
 * Goal: whichever kernel ends at whatever step of a steal, every connection of a living kernel lives on exactly once,
 * in its order, nothing stays frozen or expected, and filters lead to where connections are. Method: kernels that are
 * nothing but their state, and every step of a steal tried with every victim.
 */
import { describe, expect, it } from "vitest";
import { flowKey, type PinnedFlow } from "../../../src/balancer/pins.ts";
import type { Device } from "../../../src/device/device.ts";
import { Migrator } from "../../../src/migration/migrator.ts";
import type { Flow, MigrationAnswer, MigrationRequest, Reply } from "../../../src/migration/request.ts";
import type { StealOutcome } from "../../../src/migration/steal.ts";

const FROM = 0;
const TO = 1;
const KERNELS = 3;
/** More than a steal has. */
const STEPS_MAX = 16;
const LOCAL = new Uint8Array(16).fill(2);

class FakeKernel {
  isRunning = true;
  pending: number[] = [];
  frozen: number[] = [];
  expected: number[] = [];
  incoming: number[] = [];
  commits = 0;
}

type Job = { readonly kernelId: number; readonly request: MigrationRequest; readonly reply: Reply };
type Refuses = "room" | "filters at once" | "filters later" | undefined;

class FakeStack {
  readonly kernels = Array.from({ length: KERNELS }, () => new FakeKernel());
  readonly jobs: Job[] = [];
  readonly sent = new Set<number>();
  readonly outcomes: StealOutcome[] = [];
  /** Kernel by flow. */
  readonly filters = new Map<string, number>();
  readonly migrator: Migrator;
  released = 0;
  /** What the owner has still to write, once it is to be slow. */
  unwritten: (() => void)[] | undefined;
  readonly #refuses: Refuses;
  #decide: (() => void) | undefined;

  constructor(refuses: Refuses = undefined, connections = 3) {
    this.#refuses = refuses;
    (this.kernels[FROM] as FakeKernel).pending = [11, 12, 13, 14, 15];
    (this.kernels[TO] as FakeKernel).pending = [21];
    const device = {
      capabilities: { flowGroups: 4096, exactFilters: 8 },
      flowGroupQueue: () => FROM,
      moveFlowGroup: () => {},
      whenFiltersSet: (_flows: unknown, then: (areSet: boolean) => void) => {
        this.#decide = () => then(refuses !== "filters later");
      },
      // By contract not for filters.
      commitTables: (then?: () => void) => then?.(),
      whenWritten: (then: () => void) => {
        if (this.unwritten) this.unwritten.push(then);
        else then();
      },
    };
    this.migrator = new Migrator({
      device: device as unknown as Device,
      kernels: () => KERNELS,
      isUp: (id) => this.isRunning(id),
      isRunning: (id) => this.isRunning(id),
      ask: (kernelId, request, reply) => void this.jobs.push({ kernelId, request, reply }),
      commitsOf: (id) => (this.kernels[id] as FakeKernel).commits,
      nowNs: () => 0,
    });
    this.migrator.steal({
      from: FROM,
      to: TO,
      connections,
      addresses: 1,
      nameFlow: ({ remote, remotePort, localPort }: Flow, to): PinnedFlow => {
        return { remote, remotePort, local: LOCAL, localPort, kernel: to, group: remotePort };
      },
      pin: (flow) => {
        if (refuses === "filters at once" && this.filters.size === 2) return false;
        this.filters.set(flowKey(flow), flow.kernel);
        return true;
      },
      unpin: (flow) => void this.filters.delete(flowKey(flow)),
      settled: (outcome) => void this.outcomes.push(outcome),
      released: () => {
        this.released++;
      },
    });
  }

  isRunning(id: number): boolean {
    return (this.kernels[id] as FakeKernel).isRunning;
  }

  /** One kernel, or the device, does what it was asked for first. @returns false when nobody has anything to do. */
  step(withAnswer = true): boolean {
    if (this.#decide) {
      const decide = this.#decide;
      this.#decide = undefined;
      decide();
      return true;
    }
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
      case "stealFreeze": {
        kernel.frozen = kernel.pending.splice(0, request.connections);
        const remote = new Uint8Array(16);
        const flows = kernel.frozen.map((remotePort) => ({ remote, remotePort, localIndex: 0, localPort: 80 }));
        return { status: 0, flows };
      }
      case "stealExpect":
        kernel.expected = request.flows.map(({ remotePort }) => remotePort);
        return { status: 0 };
      case "transfer":
        (this.kernels[request.to] as FakeKernel).incoming.push(...kernel.frozen);
        this.sent.add(kernelId);
        return { status: 0 };
      case "receive":
        return { status: this.#refuses === "room" ? -105 : 0 };
      case "stealCommit": {
        const connections = kernel.incoming.length;
        kernel.pending.push(...kernel.incoming.splice(0));
        kernel.expected = [];
        kernel.commits++;
        return { status: 0, connections };
      }
      case "stealGone":
        kernel.frozen = [];
        return { status: 0 };
      case "stealCancel":
        kernel.incoming = [];
        kernel.expected = [];
        return { status: 0 };
      case "stealStay":
        kernel.pending.unshift(...kernel.frozen.splice(0));
        return { status: 0 };
      case "written":
        return { status: 0 };
      default:
        throw new Error(`nobody asks for ${request.ask} in a steal`);
    }
  }

  kill(kernelId: number): void {
    (this.kernels[kernelId] as FakeKernel).isRunning = false;
    this.migrator.kernelDown(kernelId);
  }

  finish(): StealOutcome {
    while (this.step());
    expect(this.outcomes.length).toBe(1);
    expect(this.migrator.pending).toBe(0);
    expect(this.migrator.isMoving(11)).toBe(false);
    expect(this.released).toBe(1);
    expect(this.kernels.some((_, kernelId) => this.migrator.forwards(kernelId, 11))).toBe(false);
    for (const { isRunning, frozen, expected, incoming } of this.kernels) {
      if (isRunning) expect({ frozen, expected, incoming }).toEqual({ frozen: [], expected: [], incoming: [] });
    }
    return this.outcomes[0] as StealOutcome;
  }

  get pending(): readonly (readonly number[])[] {
    return this.kernels.map(({ pending }) => pending);
  }
}

function stackAfter(steps: number, refuses?: Refuses): FakeStack {
  const stack = new FakeStack(refuses);
  for (let i = 0; i < steps; i++) stack.step();
  return stack;
}

const steps = Array.from({ length: STEPS_MAX }, (_, step) => step);
const BEFORE = [[11, 12, 13, 14, 15], [21], []];

it("takes the oldest to the thief, with a filter each", () => {
  const stack = new FakeStack();
  expect(stack.finish()).toEqual({ connections: 3 });
  expect(stack.pending).toEqual([[14, 15], [21, 11, 12, 13], []]);
  expect([...stack.filters.values()]).toEqual([TO, TO, TO]);
});

it("is nothing where nobody waits any more", () => {
  const stack = new FakeStack();
  (stack.kernels[FROM] as FakeKernel).pending = [];
  expect(stack.finish()).toEqual({ connections: 0 });
  expect(stack.filters.size).toBe(0);
});

it("its groups are nobody else's to move meanwhile; before they are known, none of the victim's is", () => {
  const stack = stackAfter(0);
  expect(stack.migrator.isMoving(4000)).toBe(true);
  stack.step();
  expect([11, 13, 14].map((group) => stack.migrator.isMoving(group))).toEqual([true, true, false]);
});

it.each([
  ["room", "migration"],
  ["filters at once", "filters"],
  ["filters later", "filters"],
] as const)("refused for lack of %s, everything is as it was, in its order", (refuses, refusal) => {
  const stack = new FakeStack(refuses);
  expect(stack.finish()).toEqual({ connections: 0, refusal });
  expect(stack.pending).toEqual(BEFORE);
  expect(stack.filters.size).toBe(0);
});

it.each([
  [undefined, FROM],
  ["room", TO],
] as const)("refused for lack of %s, flows are released when kernel %i forwards no longer", (refuses, kernelId) => {
  const stack = new FakeStack(refuses);
  const asks = () => stack.jobs.map(({ request }) => request.ask);
  while (!asks().some((ask) => ask === "stealGone" || ask === "stealCancel")) expect(stack.step()).toBe(true);
  expect(stack.outcomes.length).toBe(1);
  expect(stack.released).toBe(0);
  // Of these groups only, and only there.
  expect([11, 14].map((group) => stack.migrator.forwards(kernelId, group))).toEqual([true, false]);
  expect(stack.migrator.forwards(FROM + TO - kernelId, 11)).toBe(false);
  stack.finish();
});

it("undone, the thief forwards until the filters that are set again are written", () => {
  const stack = new FakeStack("room");
  stack.unwritten = [];
  const tells = () => stack.jobs.some(({ request }) => request.ask === "written");
  while (stack.outcomes.length === 0) expect(stack.step()).toBe(true);
  expect(tells()).toBe(false);
  expect(stack.unwritten.length).toBe(1);
  for (const then of stack.unwritten.splice(0)) then();
  expect(tells()).toBe(true);
  stack.finish();
});

it("waits for its turn behind a move, and a move behind it", () => {
  const stack = new FakeStack();
  let moved = false;
  stack.migrator.migrate(7, 2).then(
    () => {},
    () => {
      moved = true;
    },
  );
  expect(stack.jobs.map(({ request }) => request.ask)).toEqual(["stealFreeze"]);
  expect(stack.migrator.pending).toBe(2);
  expect(moved).toBe(false);
});

describe.each([
  { victim: FROM, who: "the kernel that is stolen from" },
  { victim: TO, who: "the thief" },
])("$who", ({ victim }) => {
  it.each([true, false])("may end after any step (with its answer: %s)", (withAnswer) => {
    const seen = new Set<string>();
    for (const step of steps) {
      const stack = stackAfter(step);
      if (!withAnswer) {
        if (stack.jobs[0]?.kernelId !== victim) continue;
        stack.step(false);
      }
      stack.kill(victim);
      const { connections, refusal } = stack.finish();
      seen.add(refusal ?? "stolen");
      const thief = stack.kernels[TO] as FakeKernel;
      if (victim === FROM) expect(thief.pending).toEqual(connections > 0 ? [21, 11, 12, 13] : [21]);
      else if (thief.commits > 0) expect(stack.pending[FROM]).toEqual([14, 15]);
      else expect(stack.pending[FROM]).toEqual(BEFORE[FROM]);
      expect(connections).toBe(thief.commits > 0 ? 3 : 0);
      if (connections === 0) expect(stack.filters.size).toBe(0);
    }
    if (withAnswer) expect([...seen].sort()).toEqual(["stale", "stolen"]);
  });
});
