/** Moves over a model card: real kernels, the moves chosen by hand. */
import { afterEach, describe, expect, it } from "vitest";
import { Balancer } from "../../../src/balancer/balancer.ts";
import { choosePolicy, resolvePolicy } from "../../../src/balancer/choosePolicy.ts";
import type { Move, Observation, Policy, StealMove } from "../../../src/balancer/policy.ts";
import { initialQueue } from "../../../src/device/flowGroups.ts";
import type { Card } from "../../../src/device/card/card.ts";
import type { DeviceCapabilities } from "../../../src/device/device.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import { EVENT_CONNECTED, EVENT_ERROR, EVENT_READABLE } from "../../../src/layout/event.ts";
import { FLOW_GROUPS } from "../../../src/layout/flowGroup.ts";
import { createStack } from "../../../src/stack.ts";
import type { StealOrder } from "../../../src/migration/steal.ts";
import type { Stack } from "../../../src/types.ts";

const GROUP = 100;
const CLIENT_PORT = 32768 + GROUP;
const SERVER = parseAddress("10.7.0.2");
const tuning = { memoryBytes: 32 << 20, connectionsMax: 1024 };

const cleanUp: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

/** A server of two kernels and a client of one, driven by hand, and a balancer that does what the test says. */
class Bench {
  readonly card: Card;
  readonly client: Stack;
  readonly server: Stack;
  readonly balancer: Balancer;
  readonly seen: Observation[] = [];
  readonly accepted: number[] = [0, 0];
  errors = 0;
  connected = 0;
  readonly readable = new Set<number>();
  wanted: Move[] = [];
  nowNs = 1e9;
  readonly #listeners: number[];

  /** Live moves that the balancer has asked for. */
  readonly migrated: [group: number, to: number][] = [];
  /** Groups that are being moved on somebody else's order. */
  readonly migrating = new Set<number>();
  /** Groups of which connections are being stolen. */
  readonly robbed = new Set<number>();
  /** Groups for which a kernel still forwards. */
  readonly forwarding = new Set<number>();
  readonly down = new Set<number>();
  askedWhetherForwarding = 0;
  readonly steals: StealOrder[] = [];
  wantedSteals: StealMove[] = [];

  private constructor(card: Card, client: Stack, server: Stack, pinsMax: number | undefined) {
    this.card = card;
    this.client = client;
    this.server = server;
    const policy: Policy = {
      name: "by hand",
      periodNs: 1e6,
      decide: (observation, state) => {
        this.seen.push(observation);
        return { moves: this.wanted.splice(0), steals: this.wantedSteals.splice(0), state };
      },
    };
    this.balancer = new Balancer({
      device: card,
      policy,
      kernels: 2,
      rxLanes: card.rxLanes,
      memoryOf: (kernel) => (this.down.has(kernel) ? undefined : server.kernels[kernel]?.memory),
      addresses: [SERVER],
      migrate: (group, to) => this.migrated.push([group, to]),
      isMigrating: (group) => this.migrating.has(group) || this.robbed.has(group),
      isGroupMoving: (group) => this.migrating.has(group),
      isForwarding: (_kernel, group) => {
        if (++this.askedWhetherForwarding > 100) throw new Error("it asks for ever");
        return this.forwarding.has(group);
      },
      steal: (order) => {
        this.steals.push(order);
        for (const group of this.groupsOf(order.from)) this.robbed.add(group);
      },
      ...(pinsMax === undefined ? {} : { pinsMax }),
    });
    this.#listeners = server.kernels.map(({ handles }) => handles.listen(80));
    this.client.kernels[0]?.handles.onEvents((words, first, count) => {
      for (let i = 0, at = first; i < count; i++, at += 4) {
        const mask = (words[at + 1] as number) & 0xffff;
        if (mask & EVENT_CONNECTED) this.connected++;
        if (mask & EVENT_READABLE) this.readable.add(words[at] as number);
        if (mask & EVENT_ERROR) this.errors++;
      }
    });
  }

  static async create(pinsMax?: number): Promise<Bench> {
    const segment = await createSegment({ shared: false, portsMax: 4 });
    const card = segment.createCard({ queues: 2 });
    const options = { drive: "manual", tuning: { ...tuning, timeWaitMs: 0 }, seed: 1 } as const;
    const server = await createStack({ ...options, device: card, address: "10.7.0.2/24" });
    const client = await createStack({ ...options, device: segment.createCard(), address: "10.7.0.1/24" });
    cleanUp.push(async () => {
      await Promise.all([client.close(), server.close()]);
      await segment.close();
    });
    return new Bench(card, client, server, pinsMax);
  }

  groupsOf(kernel: number): number[] {
    const all = Array.from({ length: FLOW_GROUPS }, (_, group) => group);
    return all.filter((group) => this.card.flowGroupQueue(group) === kernel);
  }

  connect(port: number): number {
    return this.client.kernels[0]?.handles.connect(SERVER, 80, port) as number;
  }

  turn(...stacks: readonly Stack[]): void {
    for (const stack of stacks) stack.turn(this.nowNs);
    this.server.kernels.forEach(({ handles }, kernel) => {
      while (handles.accept(this.#listeners[kernel] as number) >= 0) {
        this.accepted[kernel] = (this.accepted[kernel] as number) + 1;
      }
    });
  }

  /** Everything goes on for a while. */
  settle(): void {
    for (let i = 0; i < 40; i++) {
      this.nowNs += 1e5;
      this.turn(this.client, this.server);
    }
  }

  move(group: number, from: number, to: number, pin = false) {
    this.wanted = [{ group, from, to, reason: "test", pin }];
    this.nowNs += 2e6;
    return this.balancer.step(this.nowNs);
  }
}

describe("Balancer", () => {
  it("deals the groups out, equally and not by parity, and our own ports have a part in them", async () => {
    const { card, balancer } = await Bench.create();
    expect(balancer.stats().groups).toEqual([2048, 2048]);
    const even = Array.from({ length: FLOW_GROUPS / 2 }, (_, i) => card.flowGroupQueue(2 * i));
    expect(even.filter((queue) => queue === 0).length).toBe(1024);
    expect(card.flowGroupQueue(GROUP)).toBe(initialQueue(GROUP, 2));
    const tuple = (from: number, to: number) => card.queueFor(parseAddress("10.7.0.1"), from, SERVER, to);
    expect(tuple(80, 40000 + 5)).toBe(initialQueue((80 ^ 40005) & 4095, 2));
  });

  it("moves a group: its next connection comes to the other kernel", async () => {
    const bench = await Bench.create();
    const from = initialQueue(GROUP, 2);
    bench.connect(CLIENT_PORT);
    bench.settle();
    expect(bench.accepted[from]).toBe(1);
    const other = GROUP + 1;
    const owner = initialQueue(other, 2);
    expect(bench.move(other, owner, 1 - owner)).toMatchObject({ moves: [{ group: other }], refused: [] });
    expect(bench.card.flowGroupQueue(other)).toBe(1 - owner);
    const before = bench.accepted[1 - owner] as number;
    bench.connect(32768 + other);
    bench.settle();
    expect(bench.accepted[1 - owner]).toBe(before + 1);
    expect(bench.balancer.stats()).toMatchObject({ moves: { test: 1 }, strays: 0 });
  });

  it("refuses to move a group with connections, or one that has moved since the policy looked", async () => {
    const bench = await Bench.create();
    const from = initialQueue(GROUP, 2);
    bench.connect(CLIENT_PORT);
    bench.settle();
    expect(bench.move(GROUP, from, 1 - from)?.refused).toMatchObject([{ refusal: "live" }]);
    expect(bench.move(GROUP, 1 - from, from)?.refused).toMatchObject([{ refusal: "stale" }]);
    expect(bench.move(GROUP, from, 7)?.refused).toMatchObject([{ refusal: "stale" }]);
    expect(bench.move(FLOW_GROUPS, from, 1 - from)?.refused).toMatchObject([{ refusal: "stale" }]);
    expect(bench.card.flowGroupQueue(GROUP)).toBe(from);
    expect(bench.balancer.stats()).toMatchObject({ moves: {}, refusals: { live: 1, stale: 3 } });
  });

  it("leaves a group alone that somebody else is moving with its connections", async () => {
    const bench = await Bench.create();
    const from = initialQueue(GROUP, 2);
    bench.migrating.add(GROUP);
    expect(bench.move(GROUP, from, 1 - from)?.refused).toMatchObject([{ refusal: "stale" }]);
    expect(bench.card.flowGroupQueue(GROUP)).toBe(from);
    bench.migrating.delete(GROUP);
    expect(bench.move(GROUP, from, 1 - from)).toMatchObject({ moves: [{ group: GROUP }], refused: [] });
  });

  it("moves come before the steals of their step, and a live move waits for a steal under way", async () => {
    const bench = await Bench.create();
    const from = initialQueue(GROUP, 2);
    const move = { group: GROUP, from, to: 1 - from, reason: "test" };
    const next = bench.groupsOf(from).find((group) => group !== GROUP) as number;
    bench.wantedSteals = [{ from, to: 1 - from, connections: 3 }];
    expect(bench.move(GROUP, from, 1 - from)).toMatchObject({ moves: [{ group: GROUP }], refused: [] });
    expect(bench.steals.length).toBe(1);
    // Its kernel is being asked what can be stolen: other groups of it do not move without their connections.
    expect(bench.move(next, from, 1 - from)?.refused).toMatchObject([{ refusal: "stale" }]);
    bench.wanted = [{ ...move, group: next, live: true }];
    bench.nowNs += 2e6;
    expect(bench.balancer.step(bench.nowNs)).toMatchObject({ refused: [] });
    expect(bench.migrated).toEqual([[next, 1 - from]]);
    const third = bench.groupsOf(from).find((group) => group !== next) as number;
    bench.migrating.add(third);
    bench.wanted = [{ ...move, group: third, live: true }];
    bench.nowNs += 2e6;
    expect(bench.balancer.step(bench.nowNs)?.refused).toMatchObject([{ refusal: "stale" }]);
  });

  it("a refused filter of a connection that is being stolen is the steal's own affair", async () => {
    const bench = await Bench.create();
    const home = initialQueue(GROUP, 2);
    bench.connect(CLIENT_PORT);
    bench.settle();
    bench.wantedSteals = [{ from: home, to: 1 - home, connections: 1 }];
    bench.nowNs += 2e6;
    bench.balancer.step(bench.nowNs);
    const [order] = bench.steals as [StealOrder];
    const remote = parseAddress("10.7.0.1");
    const flow = order.nameFlow({ remote, remotePort: CLIENT_PORT, localIndex: 0, localPort: 80 }, order.to);
    expect(order.pin(flow)).toBe(true);
    bench.robbed.clear();
    bench.card.clearFilter(flow);
    bench.balancer.filtersRefused([flow]);
    order.unpin(flow);
    order.settled({ connections: 0, refusal: "filters" });
    expect(bench.card.flowGroupQueue(GROUP)).toBe(home);
    expect(bench.migrated).toEqual([]);
    expect(bench.balancer.stats()).toMatchObject({ pinned: 0, strays: 0 });
  });

  it("a refused pin of a kernel that still forwards for the group is looked at once in each step", async () => {
    const bench = await Bench.create();
    const home = initialQueue(GROUP, 2);
    bench.connect(CLIENT_PORT);
    bench.settle();
    bench.balancer.step(bench.nowNs);
    bench.move(GROUP, home, 1 - home, true);
    bench.forwarding.add(GROUP);
    const flow = { remote: parseAddress("10.7.0.1"), remotePort: CLIENT_PORT, local: SERVER, localPort: 80 };
    bench.card.clearFilter(flow);
    bench.balancer.filtersRefused([flow]);
    for (let i = 0; i < 3; i++) {
      bench.askedWhetherForwarding = 0;
      bench.nowNs += 2e6;
      bench.balancer.step(bench.nowNs);
      expect(bench.askedWhetherForwarding).toBeLessThanOrEqual(2);
    }
    expect(bench.card.flowGroupQueue(GROUP)).toBe(1 - home);
    bench.forwarding.clear();
    bench.nowNs += 2e6;
    bench.balancer.step(bench.nowNs);
    expect(bench.card.flowGroupQueue(GROUP)).toBe(home);
  });

  it("what its old kernel opens while a group moves with its connections is no stray", async () => {
    for (const moves of [false, true]) {
      const bench = await Bench.create();
      const from = initialQueue(GROUP, 2);
      bench.connect(CLIENT_PORT + 7);
      bench.settle();
      const look = () => {
        bench.nowNs += 2e6;
        bench.balancer.step(bench.nowNs);
        // Gathered when it is asked for.
        return bench.seen.at(-1)?.groups.live[GROUP];
      };
      look();
      bench.connect(CLIENT_PORT);
      bench.turn(bench.client);
      bench.card.moveFlowGroup(GROUP, 1 - from);
      if (moves) bench.migrating.add(GROUP);
      look();
      bench.turn(bench.server);
      expect(look()).toBe(1);
      expect(bench.balancer.stats().strays).toBe(moves ? 0 : 1);
    }
  });

  it("pins taken away for a migration come back when it is undone, but not those of a dead kernel", async () => {
    const bench = await Bench.create();
    const from = initialQueue(GROUP, 2);
    bench.connect(CLIENT_PORT);
    bench.settle();
    bench.move(GROUP, from, 1 - from, true);
    const repin = bench.balancer.unpin(GROUP);
    expect(bench.card.registers.filterCount).toBe(0);
    repin();
    expect([bench.card.registers.filterCount, bench.balancer.stats().pinned]).toEqual([1, 1]);
    const tooLate = bench.balancer.unpin(GROUP);
    bench.down.add(from);
    tooLate();
    expect([bench.card.registers.filterCount, bench.balancer.stats().pinned]).toEqual([0, 0]);
    bench.down.clear();
  });

  it("tells which groups have connections elsewhere", async () => {
    const bench = await Bench.create();
    const from = initialQueue(GROUP, 2);
    bench.connect(CLIENT_PORT);
    bench.settle();
    bench.balancer.step(bench.nowNs);
    // Gathered when it is asked for.
    expect(bench.seen.at(-1)?.groups.apart[GROUP]).toBe(0);
    bench.move(GROUP, from, 1 - from, true);
    bench.nowNs += 2e6;
    bench.balancer.step(bench.nowNs);
    const { apart } = (bench.seen.at(-1) as Observation).groups;
    expect(apart[GROUP]).toBe(1);
    expect(apart.reduce((sum, bit) => sum + bit, 0)).toBe(1);
  });

  it("refuses while a SYN of the group waits in the kernel's lane", async () => {
    const bench = await Bench.create();
    // One connection first, so that no ARP stands between the SYN and the card.
    bench.connect(CLIENT_PORT + 7);
    bench.settle();
    const from = initialQueue(GROUP, 2);
    bench.connect(CLIENT_PORT);
    bench.turn(bench.client);
    expect(bench.move(GROUP, from, 1 - from)?.refused).toMatchObject([{ refusal: "arriving" }]);
    bench.settle();
    expect(bench.connected).toBe(2);
    expect(bench.errors).toBe(0);
  });

  it("pins connections and waiting SYNs: they live on where they are, and their filters go with them", async () => {
    const bench = await Bench.create();
    const from = initialQueue(GROUP, 2);
    const first = bench.connect(CLIENT_PORT);
    bench.settle();
    const second = bench.connect(CLIENT_PORT + FLOW_GROUPS);
    bench.turn(bench.client);
    expect(bench.move(GROUP, from, 1 - from, true)).toMatchObject({ moves: [{ pin: true }], refused: [] });
    expect(bench.card.registers.filterCount).toBe(2);
    bench.connect(CLIENT_PORT + 2 * FLOW_GROUPS);
    bench.settle();
    expect(bench.accepted[from]).toBe(2);
    expect(bench.accepted[1 - from]).toBe(1);
    const handles = bench.client.kernels[0]?.handles;
    for (const handle of [first, second]) handles?.abort(handle);
    bench.settle();
    expect(bench.errors).toBe(0);
    expect((await bench.server.stats()).total.tcpRstSent).toBe(0);
    // The sweep finds out that they are over.
    bench.nowNs += 3e8;
    bench.balancer.step(bench.nowNs);
    expect(bench.balancer.stats()).toMatchObject({ pinned: 0, strays: 0 });
    expect(bench.card.registers.filterCount).toBe(0);
  });

  it("refuses to pin more than it may, and removes its filters at the end", async () => {
    const bench = await Bench.create(1);
    const from = initialQueue(GROUP, 2);
    bench.connect(CLIENT_PORT);
    bench.settle();
    expect(bench.move(GROUP, from, 1 - from, true)?.moves.length).toBe(1);
    const other = GROUP + 1;
    bench.connect(32768 + other);
    bench.settle();
    const owner = initialQueue(other, 2);
    expect(bench.move(other, owner, 1 - owner, true)?.refused).toMatchObject([{ refusal: "filters" }]);
    expect(bench.card.flowGroupQueue(other)).toBe(owner);
    bench.balancer.close();
    expect(bench.card.registers.filterCount).toBe(0);
  });

  it("a connection whose filter is refused later gets its group back, or follows it", async () => {
    const bench = await Bench.create();
    const from = initialQueue(GROUP, 2);
    bench.connect(CLIENT_PORT);
    bench.settle();
    bench.move(GROUP, from, 1 - from, true);
    const refuse = () => {
      const flow = { remote: parseAddress("10.7.0.1"), remotePort: CLIENT_PORT, local: SERVER, localPort: 80 };
      bench.card.clearFilter(flow);
      bench.balancer.filtersRefused([flow]);
    };
    refuse();
    expect(bench.card.flowGroupQueue(GROUP)).toBe(from);
    expect(bench.balancer.stats()).toMatchObject({ pinned: 0, strays: 0, refusals: { filters: 1 } });
    // Now the other kernel has one of the group, too: neither can have it all.
    bench.move(GROUP, from, 1 - from, true);
    bench.connect(CLIENT_PORT + FLOW_GROUPS);
    bench.settle();
    expect(bench.accepted).toEqual([1, 1]);
    refuse();
    expect(bench.card.flowGroupQueue(GROUP)).toBe(1 - from);
    expect(bench.migrated).toEqual([[GROUP, 1 - from]]);
    // What it does not know, or what is where its group is, does not concern it.
    refuse();
    expect(bench.migrated.length).toBe(1);
  });

  it("shows the policy what the kernels' memories say", async () => {
    const bench = await Bench.create();
    const from = initialQueue(GROUP, 2);
    bench.connect(CLIENT_PORT);
    bench.settle();
    bench.balancer.step(bench.nowNs);
    bench.server.kernels[from]?.memory.addBusyUs(500);
    bench.nowNs += 1e6;
    bench.balancer.step(bench.nowNs);
    const { kernels, groups, pinsFree } = bench.seen.at(-1) as Observation;
    expect(kernels[from]).toMatchObject({ alive: true, load: 0.5, openConnections: 1, openedConnections: 1 });
    expect(kernels[from]?.acceptQueueMax).toBe(1024);
    expect(kernels[1 - from]).toMatchObject({ load: 0, openConnections: 0 });
    expect([groups.owner[GROUP], groups.live[GROUP], groups.opened[GROUP]]).toEqual([from, 1, 1]);
    expect(groups.opened.reduce((sum, opened) => sum + opened, 0)).toBe(1);
    expect(pinsFree).toBe(4096);
  });
});

describe("option balancer", () => {
  it.each([
    ["devil", "ERR_OPTION_RANGE"],
    [{ policy: "angel", startGap: -1 }, "ERR_OPTION_RANGE"],
    [{ policy: "angel", periodNs: 10 }, "ERR_OPTION_RANGE"],
    [{ policy: "angel", wings: 2 }, "ERR_OPTION_UNKNOWN"],
  ])("refuses %j with %s", (option, code) => {
    expect(() => choosePolicy(option as "angel")).toThrow(expect.objectContaining({ code }));
  });

  it("is angel for kernels in threads behind flow groups and filters, otherwise static", () => {
    const card = { flowGroups: 4096, exactFilters: 8192, steering: "card", localPorts: { first: 1, last: 9 } } as const;
    const name = (threads: boolean, kernels: number, device: Partial<DeviceCapabilities> = {}) =>
      resolvePolicy(undefined, { threads, kernels, device: { ...card, ...device } as DeviceCapabilities }).name;
    expect(name(true, 4)).toBe("angel");
    expect(name(true, 4, { steering: "software" })).toBe("angel");
    expect(name(true, 1)).toBe("static");
    expect(name(true, 4, { flowGroups: 0 })).toBe("static");
    expect(name(true, 4, { exactFilters: 0 })).toBe("static");
    expect(name(true, 4, { localPorts: undefined as never })).toBe("static");
    expect(name(true, 4, { steering: "ebpf" })).toBe("static");
    expect(name(false, 4)).toBe("static");
    const noGroups = { threads: true, kernels: 2, device: { ...card, flowGroups: 0 } };
    expect(() => resolvePolicy("angel", noGroups)).toThrow(expect.objectContaining({ code: "ERR_OPTION_COMBINATION" }));
  });

  it("takes a function: stack.turn asks it, the stack tells of its moves", async () => {
    const segment = await createSegment({ shared: false, portsMax: 4 });
    const stack = await createStack({
      device: segment.createCard({ queues: 2 }),
      address: "10.7.0.2/24",
      drive: "manual",
      tuning,
      balancer: ({ groups }, state) => {
        const from = groups.owner[GROUP] as number;
        return { moves: [{ group: GROUP, from, to: 1 - from, reason: "why not" }], state };
      },
    });
    cleanUp.push(() => stack.close());
    const told: unknown[] = [];
    stack.on("balance", ({ moves }) => told.push(...moves));
    stack.turn(1e9);
    stack.turn(1.05e9);
    stack.turn(1.2e9);
    const from = initialQueue(GROUP, 2);
    expect(told).toMatchObject([
      { from, to: 1 - from },
      { from: 1 - from, to: from },
    ]);
    expect((await stack.stats()).balancer).toMatchObject({ moves: { "why not": 2 }, groups: [2048, 2048] });
  });
});
