/**
 * Kernels steal connections that wait to be accepted, on the built package, on one thread and in workers: from a kernel
 * whose application does not accept, or not fast enough.
 */
import { afterEach, describe, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import { importBuilt } from "../helpers/dist.ts";
import { testBytes } from "../helpers/stacks.ts";

const { createSegment, createStack, parseAddress } = await importBuilt<typeof Api>("index.js");
const app = new URL("../fixtures/slowAcceptApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 4096, timeWaitMs: 0 };
const SERVER = parseAddress("10.7.0.2");
const PORT = 80;
const KERNELS = 3;
const BACKLOG = 64;
const [CONNECTED, READABLE, PEER_CLOSED, CLOSED, ERROR] = [1, 2, 8, 16, 32] as const;

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

type Mode = "inline" | "threads";

/** A server whose kernel 0 accepts slowly, and gets all connections; and a client. */
async function start(mode: Mode, balancer: Api.BalancerOption, slowMs: number) {
  const segment = await createSegment({ portsMax: 8, shared: true });
  cleanUp.push(() => segment.close());
  const device = segment.createCard({ queues: KERNELS });
  const common = { tuning, sharedMemory: true };
  const server = await createStack({
    ...common,
    mode,
    device,
    address: "10.7.0.2/24",
    app,
    appArguments: { port: PORT, backlog: BACKLOG, slowKernel: 0, slowMs },
    balancer,
  });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  const client = await createStack({ ...common, device: segment.createCard(), address: "10.7.0.1/24" });
  cleanUp.push(() => client.close({ drainMs: 0 }));
  const events: Api.BalanceEvent[] = [];
  server.on("balance", (event) => events.push(event));
  const groups = Array.from({ length: 4096 }, (_, group) => group).filter((g) => device.flowGroupQueue(g) === 0);
  return {
    server,
    client,
    device,
    events,
    groups,
    handles: client.kernels[0]?.handles as NonNullable<(typeof client.kernels)[0]>["handles"],
  };
}

/** Echoes come back whole, whoever accepts. */
class Echoes {
  readonly ports: number[] = [];
  done = 0;
  failed = 0;
  onEnd: () => void = () => {};
  readonly #handles: Awaited<ReturnType<typeof start>>["handles"];
  readonly #area: number;
  readonly #received = new Map<number, number[]>();
  readonly #content: Uint8Array;

  constructor(handles: Awaited<ReturnType<typeof start>>["handles"], bytes: number) {
    this.#handles = handles;
    this.#content = testBytes(bytes);
    this.#area = handles.alloc(Math.max(bytes, 4096));
    handles.bytes.set(this.#content, this.#area);
    handles.onEvents((words, first, count) => {
      for (let i = 0, at = first; i < count; i++, at += 4) {
        this.#onEvent(words[at] as number, (words[at + 1] as number) & 0xffff);
      }
    });
  }

  open(localPort: number): boolean {
    const handle = this.#handles.connect(SERVER, PORT, localPort);
    if (handle < 0) return false;
    this.ports.push(localPort);
    this.#received.set(handle, []);
    return true;
  }

  #onEvent(handle: number, mask: number): void {
    const handles = this.#handles;
    const received = this.#received.get(handle);
    if (!received) return;
    if (mask & CONNECTED) handles.send(handle, this.#area, this.#content.length);
    if (mask & READABLE) {
      for (let at = handles.peek(handle); at > 0; at = handles.peek(handle)) {
        received.push(...handles.bytes.subarray(at, at + handles.available));
        handles.consume(handle, handles.available);
      }
      if (received.length === this.#content.length) handles.close(handle);
    }
    if (mask & (PEER_CLOSED | ERROR)) handles.close(handle);
    if (!(mask & CLOSED)) return;
    const isWhole = received.length === this.#content.length && received.every((byte, i) => byte === this.#content[i]);
    if (mask & ERROR || !isWhole) this.failed++;
    else this.done++;
    this.#received.delete(handle);
    this.onEnd();
  }
}

/** Shares out what waits in kernel 0, the oldest to kernel 1. */
const takeAll: Api.Policy = {
  name: "take all",
  periodNs: 2e6,
  decide: ({ kernels }, state) => {
    const waits = kernels[0]?.pendingConnections ?? 0;
    const half = Math.ceil(waits / 2);
    const shares = [half, waits - half].map((connections, i) => ({ from: 0, to: 1 + i, connections }));
    return { moves: [], steals: shares.filter(({ connections }) => connections > 0), state };
  },
};

/** What each kernel has accepted, in its order. */
async function acceptedPorts(server: Api.Stack): Promise<number[][]> {
  const ports: number[][] = Array.from({ length: KERNELS }, () => []);
  let told = 0;
  server.on("message", ({ data }) => {
    const { kernelId, ports: list } = data as { kernelId: number; ports: number[] };
    ports[kernelId] = list;
    told++;
  });
  server.postMessage("which?");
  await expect.poll(() => told, { timeout: 10_000 }).toBe(KERNELS);
  return ports;
}

describe.each(["inline", "threads"] as const)("kernels %s", (mode) => {
  it("what waits at a kernel that never accepts, others accept: each once, the oldest first, every byte", async () => {
    const { server, client, events, groups, handles } = await start(mode, takeAll, 0);
    const echoes = new Echoes(handles, 3000);
    const wanted = 48;
    for (let i = 0; i < wanted; i++) expect(echoes.open(32_768 + (groups[i] as number))).toBe(true);
    handles.flush();
    await expect.poll(() => echoes.done + echoes.failed, { timeout: 20_000 }).toBe(wanted);
    expect(echoes.failed).toBe(0);
    const ports = await acceptedPorts(server);
    expect(ports[0]).toEqual([]);
    expect(ports.flat().sort((a, b) => a - b)).toEqual([...echoes.ports].sort((a, b) => a - b));
    const { balancer, total } = await server.stats();
    expect(balancer?.stolen.reduce((sum, count) => sum + count, 0)).toBe(wanted);
    expect(balancer?.stolenFrom).toEqual([wanted, 0, 0]);
    const told = events.flatMap(({ steals }) => steals);
    expect(told.reduce((sum, { connections }) => sum + connections, 0)).toBe(wanted);
    expect(total).toMatchObject({ tcpRstSent: 0, migratedIn: wanted, migratedOut: wanted, migrationLost: 0 });
    const clientTotal = (await client.stats()).total;
    expect(clientTotal.tcpRstReceived).toBe(0);
    // Where nothing was sent again, handshakes ended in the order of their beginning.
    if (clientTotal.tcpRetransmits === 0) {
      const inOrder = (list: number[]) => [...list].sort((a, b) => echoes.ports.indexOf(a) - echoes.ports.indexOf(b));
      for (const list of ports) expect(list).toEqual(inOrder(list));
    }
  });

  it("without free filters nothing is stolen, which is counted, and the kernel itself accepts in the end", async () => {
    const { server, device, events, groups, handles } = await start(mode, takeAll, 5);
    const stranger = (i: number) => {
      return { remote: parseAddress("10.7.0.77"), remotePort: 1 + i, local: SERVER, localPort: PORT };
    };
    for (let i = 0; i < device.capabilities.exactFilters; i++) device.setFilter(stranger(i), 0);
    const echoes = new Echoes(handles, 500);
    for (let i = 0; i < 12; i++) echoes.open(32_768 + (groups[i] as number));
    handles.flush();
    await expect.poll(() => echoes.done + echoes.failed, { timeout: 20_000 }).toBe(12);
    expect(echoes.failed).toBe(0);
    const { balancer, total } = await server.stats();
    expect(balancer?.stolenFrom).toEqual([0, 0, 0]);
    expect(balancer?.refusals.filters).toBeGreaterThan(0);
    expect(events.flatMap(({ stealsRefused }) => stealsRefused).some(({ refusal }) => refusal === "filters")).toBe(
      true,
    );
    expect(total.tcpRstSent).toBe(0);
    expect((await acceptedPorts(server))[0]?.length).toBe(12);
    for (let i = 0; i < device.capabilities.exactFilters; i++) device.clearFilter(stranger(i));
  });

  it("affinity-accept: a kernel that accepts too slowly is helped as long as its queue is full", async () => {
    const { server, client, groups, handles } = await start(mode, "affinity-accept", 20);
    const echoes = new Echoes(handles, 200);
    let next = 0;
    let stopping = false;
    const open = () => {
      if (stopping) return;
      for (let tries = 0; tries < 512; tries++) {
        const place = next++;
        if (echoes.open(32_768 + (groups[place % 64] as number) + 4096 * (Math.floor(place / 64) % 8))) return;
      }
    };
    echoes.onEnd = open;
    for (let i = 0; i < 60; i++) open();
    handles.flush();
    const stolen = async () => (await server.stats()).balancer?.stolen ?? [];
    const least = async () => Math.min(...(await stolen()).slice(1));
    await expect.poll(least, { timeout: 30_000, interval: 100 }).toBeGreaterThan(20);
    stopping = true;
    expect(echoes.failed).toBe(0);
    expect((await server.stats()).balancer).toMatchObject({ policy: "affinity-accept", strays: 0 });
    expect((await client.stats()).total.tcpRstReceived).toBe(0);
  });
});
