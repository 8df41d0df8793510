/**
 * The published balancer in a whole stack, on one thread and in workers, on the built package: what it moves, that each
 * move is asked for and confirmed by message, and what the stack tells of it.
 */
import { describe, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import { importBuilt } from "../helpers/dist.ts";
import { cleanUpAfterEach } from "../helpers/threadedPair.ts";

const { createSegment, createStack, parseAddress } = await importBuilt<typeof Api>("index.js");
const app = new URL("../fixtures/slowAcceptApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 1024 };
const KERNELS = 3;
const GROUPS = 4096;
const THRESHOLD = 40;
/** 4,096 / 3 / 1.2: so many groups a crowded kernel keeps. */
const KEPT = 1137;

const cleanUp = cleanUpAfterEach();

describe.each(["inline", "threads"] as const)("kernels %s", (mode) => {
  it("gives idle groups away, in turn, down to 83 % of its share: asked, confirmed, counted, told", async () => {
    const segment = await createSegment({ portsMax: 8, shared: true });
    cleanUp.push(() => segment.close());
    const device = segment.createCard({ queues: KERNELS });
    const server = await createStack({
      ...{ mode, device, tuning, app, sharedMemory: true },
      appArguments: { port: 80, backlog: 256, slowKernel: -1, slowMs: 0 },
      address: "10.7.0.2/24",
      // A busy machine must not make a kernel unwilling.
      balancer: { policy: "opportunistic", thresholdConnections: THRESHOLD, willingLoad: 2 },
    });
    cleanUp.push(() => server.close({ drainMs: 0 }));
    const client = await createStack({
      ...{ device: segment.createCard(), address: "10.7.0.1/24", tuning, sharedMemory: true },
    });
    cleanUp.push(() => client.close({ drainMs: 0 }));
    const moves: Api.BalanceEvent["moves"][number][] = [];
    let last: Api.BalanceEvent | undefined;
    server.on("balance", (event) => {
      moves.push(...event.moves);
      last = event;
    });
    const before = (await server.stats()).balancer as Api.BalancerStats;
    expect(before).toMatchObject({ policy: "opportunistic", moves: {}, pinned: 0, strays: 0 });
    const dealt = before.groups[0] as number;
    expect(dealt).toBeGreaterThan(KEPT);

    const { handles } = client.kernels[0] as (typeof client.kernels)[0];
    const own = Array.from({ length: GROUPS }, (_, group) => group).filter((g) => device.flowGroupQueue(g) === 0);
    const open = (groups: readonly number[]) => {
      for (const group of groups) {
        expect(handles.connect(parseAddress("10.7.0.2"), 80, 32_768 + group)).toBeGreaterThanOrEqual(0);
      }
      handles.flush();
    };
    const accepted = async () => (await server.stats()).kernels.map(({ tcpAccepted = 0 }) => tcpAccepted);
    // The first groups in its walk have connections, one less than is too many: nothing moves.
    const held = own.slice(0, THRESHOLD - 1);
    open(held);
    await expect.poll(accepted).toEqual([THRESHOLD - 1, 0, 0]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(moves).toEqual([]);
    expect((await server.stats()).messages.sent.groupsOffer ?? 0).toBe(0);

    open(own.slice(THRESHOLD - 1, THRESHOLD));
    await expect.poll(async () => (await server.stats()).balancer?.groups[0]).toBe(KEPT);
    await expect.poll(() => moves.length).toBe(dealt - KEPT);
    expect(moves.every(({ from, reason }) => from === 0 && reason === "connections")).toBe(true);
    await expect.poll(() => moves.every(({ group, to }) => device.flowGroupQueue(group) === to)).toBe(true);
    // Round robin, pass after pass; no group with a connection goes.
    expect(moves.map(({ to }) => to)).toEqual(moves.map((_, i) => 1 + (i % 2)));
    expect(moves.some(({ group }) => held.includes(group))).toBe(false);
    expect(last?.groups[0]).toBe(KEPT);

    const { balancer, messages, total } = await server.stats();
    const gained = [1, 2].map((kernel) => (balancer?.groups[kernel] as number) - (before.groups[kernel] as number));
    expect(gained).toEqual([Math.ceil(moves.length / 2), Math.floor(moves.length / 2)]);
    expect(balancer?.moves).toEqual({ connections: dealt - KEPT });
    expect(balancer?.loads.length).toBe(KERNELS);
    expect(Object.values(balancer?.refusals ?? { none: 1 }).every((count) => count === 0)).toBe(true);
    // 64 in a pass, for two kernels: a request to each, and its answer.
    const { groupsOffer = 0, groupsAnswer, groupsMoved } = messages.sent;
    expect(groupsOffer).toBe(2 * Math.ceil(moves.length / 64));
    expect(groupsAnswer).toBe(groupsOffer);
    // Those who get them are told; the one who gives is the owner, and needs no message.
    expect(groupsMoved).toBe(groupsOffer);
    expect(total.tcpRstSent).toBe(0);

    // The next connections come to where their groups are now.
    const [first, second] = moves as [(typeof moves)[0], (typeof moves)[0]];
    open([first.group, second.group]);
    await expect.poll(accepted).toEqual([THRESHOLD, 1, 1]);
  });
});
