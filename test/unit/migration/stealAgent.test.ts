/**
 * Goal: between threads, frames come at every step of a steal, at both kernels; none may be answered by one that does
 * not have the connection. Method: the agents of two kernels on one card are asked step by step, by hand, with traffic
 * before each step.
 */
import { afterEach, describe, expect, it } from "vitest";
import type { Card } from "../../../src/device/card/card.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import type { KernelHost } from "../../../src/kernel/host.ts";
import type { MigrationAgent } from "../../../src/migration/agent.ts";
import { LATE_NS } from "../../../src/migration/agent.ts";
import { CallCarrier } from "../../../src/migration/carrier.ts";
import type { Flow, MigrationAnswer, MigrationRequest } from "../../../src/migration/request.ts";
import { createStack } from "../../../src/stack.ts";
import type { Stack } from "../../../src/types.ts";

const SERVER = parseAddress("10.7.0.2");
const PORT = 80;
const GROUP = 100;
const MOVE = 5;
const tuning = { memoryBytes: 32 << 20, connectionsMax: 1024 };

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

class Pair {
  readonly card: Card;
  readonly server: Stack;
  readonly client: Stack;
  readonly listeners: number[];
  /** Bytes sent on each connection. */
  sent = 0;
  flows: readonly Flow[] = [];
  readonly answers: (MigrationAnswer & { readonly ask: string })[] = [];
  #nowNs = 1e9;
  readonly #handles: number[] = [];

  private constructor(card: Card, server: Stack, client: Stack) {
    this.card = card;
    this.server = server;
    this.client = client;
    this.listeners = server.kernels.map(({ handles }) => handles.listen(PORT));
  }

  static async create(): Promise<Pair> {
    const segment = await createSegment({ shared: false, portsMax: 4 });
    cleanUp.push(() => segment.close());
    const card = segment.createCard({ queues: 2 });
    for (let group = 0; group < 4096; group++) card.moveFlowGroup(group, 0);
    const common = { drive: "manual", tuning, balancer: "static", noDelay: true } as const;
    const server = await createStack({ ...common, device: card, address: "10.7.0.2/24" });
    cleanUp.push(() => server.close({ drainMs: 0 }));
    const client = await createStack({ ...common, device: segment.createCard(), address: "10.7.0.1/24" });
    cleanUp.push(() => client.close({ drainMs: 0 }));
    return new Pair(card, server, client);
  }

  get #client(): KernelHost {
    return this.client.kernels[0] as KernelHost;
  }

  /** Connections of two groups, with bytes in them. */
  open(count: number): void {
    for (let i = 0; i < count; i++) {
      this.#handles.push(this.#client.handles.connect(SERVER, PORT, 32_768 + GROUP + (i % 2) + 4096 * (i >> 1)));
      this.settle();
    }
    this.talk();
  }

  talk(): void {
    const { handles } = this.#client;
    const area = handles.alloc(64);
    handles.bytes.fill(1, area, area + 10);
    for (const handle of this.#handles) handles.send(handle, area, 10);
    this.sent += 10;
    this.settle();
  }

  settle(forNs = 1e6): void {
    for (const end = this.#nowNs + forNs; this.#nowNs < end; this.#nowNs += 1e5) {
      let busy = true;
      for (let turns = 0; busy && turns < 1000; turns++) {
        busy = [this.server, this.client].map((stack) => stack.turn(this.#nowNs)).includes(true);
      }
    }
  }

  ask(kernelId: number, request: MigrationRequest): MigrationAnswer | undefined {
    let answer: MigrationAnswer | undefined;
    this.#agentOf(kernelId).handle(request, (given) => {
      answer = given;
      this.answers.push({ ask: request.ask, ...given });
    });
    this.talk();
    return answer;
  }

  #agentOf(kernelId: number): MigrationAgent {
    const host = this.server.kernels[kernelId] as KernelHost;
    return host.migrationAgent(new CallCarrier(kernelId, (other) => this.#agentOf(other)));
  }

  filter(queue: number | undefined): void {
    for (const { remote, remotePort, localPort } of this.flows) {
      const tuple = { remote, remotePort, local: SERVER, localPort };
      if (queue === undefined) this.card.clearFilter(tuple);
      else this.card.setFilter(tuple, queue);
    }
    this.talk();
  }

  /** Bytes to be read on each connection that waits in a kernel, the oldest first. */
  acceptAll(kernelId: number): number[] {
    const { handles } = this.server.kernels[kernelId] as KernelHost;
    const waiting: number[] = [];
    for (;;) {
      const handle = handles.accept(this.listeners[kernelId] as number);
      if (handle < 0) return waiting;
      let bytes = 0;
      while (handles.peek(handle) > 0) {
        bytes += handles.available;
        handles.consume(handle, handles.available);
      }
      waiting.push(bytes);
    }
  }

  async resets(): Promise<number> {
    return ((await this.server.stats()).total.tcpRstSent ?? 0) + ((await this.client.stats()).total.tcpRstSent ?? 0);
  }
}

function freeze(pair: Pair, move: number, connections: number): void {
  const request = { ask: "stealFreeze", move, to: 1, connections, addresses: 8, withV6: true } as const;
  pair.flows = pair.ask(0, request)?.flows ?? [];
  expect(pair.flows.length).toBe(connections);
}

function steal(pair: Pair, move: number, connections: number): void {
  freeze(pair, move, connections);
  expect(pair.ask(1, { ask: "stealExpect", move, flows: pair.flows })).toEqual({ status: 0 });
  pair.filter(1);
  pair.ask(1, { ask: "receive", move, from: 0 });
  pair.ask(0, { ask: "transfer", move, to: 1 });
  expect(pair.ask(1, { ask: "stealCommit", move, from: 0 })).toMatchObject({ status: 0, connections });
  pair.ask(0, { ask: "stealGone", move });
}

/** Nothing is left lying in either kernel. */
function isTidy({ server }: Pair): boolean {
  return server.kernels.every(({ exports }) => exports.migrationLatePeek() === 0);
}

describe("the agents of a steal, with traffic at every step", () => {
  it("stolen: all bytes come, in the thief; the rest goes on where it was", async () => {
    const pair = await Pair.create();
    pair.open(6);
    steal(pair, 1, 3);
    const early = pair.flows;
    // While late frames of the first are still forwarded.
    steal(pair, 2, 1);
    expect(pair.answers.some(({ ask }) => ask === "stealGone")).toBe(false);
    pair.settle(2 * LATE_NS);
    expect(pair.answers.every(({ status }) => status === 0)).toBe(true);
    expect(pair.answers.filter(({ ask }) => ask === "stealGone").length).toBe(2);
    expect(pair.acceptAll(1)).toEqual([pair.sent, pair.sent, pair.sent, pair.sent]);
    expect(pair.acceptAll(0)).toEqual([pair.sent, pair.sent]);
    expect(await pair.resets()).toBe(0);
    expect(isTidy(pair)).toBe(true);
    const { total } = await pair.server.stats();
    expect(total.lateFramesForwarded).toBeGreaterThan(0);
    expect(total.migrationFramesHeld).toBeGreaterThan(0);
    expect(total.dropMigrationFrames).toBe(0);
    // From then on the old kernel knows nothing of them.
    pair.flows = early;
    pair.filter(undefined);
    expect(await pair.resets()).toBeGreaterThan(0);
  });

  it.each(["before the thief knows", "when filters are set", "when all has come"])(
    "given up %s: all stay",
    async (when) => {
      const pair = await Pair.create();
      pair.open(4);
      freeze(pair, MOVE, 2);
      if (when !== "before the thief knows") {
        pair.ask(1, { ask: "stealExpect", move: MOVE, flows: pair.flows });
        pair.filter(1);
      }
      if (when === "when all has come") {
        pair.ask(1, { ask: "receive", move: MOVE, from: 0 });
        pair.ask(0, { ask: "transfer", move: MOVE, to: 1 });
      }
      pair.ask(0, { ask: "stealStay", move: MOVE });
      if (when !== "before the thief knows") {
        pair.ask(1, { ask: "stealCancel", move: MOVE, back: 0 });
        // However late it is that the device brings them to the old kernel again.
        pair.settle(3 * LATE_NS);
        pair.talk();
        pair.filter(undefined);
        pair.ask(1, { ask: "written", move: MOVE });
      }
      pair.settle(2 * LATE_NS);
      expect(pair.acceptAll(0)).toEqual([pair.sent, pair.sent, pair.sent, pair.sent]);
      expect(pair.acceptAll(1)).toEqual([]);
      expect(pair.answers.every(({ status }) => status === 0)).toBe(true);
      expect(await pair.resets()).toBe(0);
      expect(isTidy(pair)).toBe(true);
    },
  );
});
