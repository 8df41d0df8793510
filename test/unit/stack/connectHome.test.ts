/**
 * Active opens of several kernels on one card, whatever the card steers by: each reply lands in the kernel that has
 * opened, no two kernels use one tuple, and the ports end with EADDRNOTAVAIL.
 */
import { afterEach, describe, expect, it } from "vitest";
import type { Card, CardOptions } from "../../../src/device/card/card.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import type { Tuning } from "../../../src/kernel/config.ts";
import type { Handles } from "../../../src/kernel/handles.ts";
import {
  EVENT_ACCEPTABLE,
  EVENT_CLOSED,
  EVENT_CONNECTED,
  EVENT_ERROR,
  EVENT_HANDLE,
  EVENT_MASK,
  EVENT_PEER_CLOSED,
  EVENT_SIZE_BYTES,
} from "../../../src/layout/event.ts";
import { EADDRINUSE, EADDRNOTAVAIL, ENOBUFS } from "../../../src/layout/status.ts";
import { createStack } from "../../../src/stack.ts";
import type { Stack } from "../../../src/types.ts";

const SERVER = parseAddress("10.7.0.2");
const PORTS = [80, 81] as const;
const TURN_NS = 10_000;
const STEERING = {
  "the hash": { flowGroups: false },
  "the flow group of the local port": { localPorts: { first: 32768, last: 60999 } },
  "one of 64 flow groups": { localPorts: { first: 32768, last: 60999 }, flowGroups: 64 },
  // Its masks are fixed: the group is the remote port's, so a service's replies would all come to one queue.
  "exact filters": { preset: "82599" },
} as const satisfies Record<string, CardOptions>;
type SteeringName = keyof typeof STEERING;

type World = {
  readonly card: Card;
  readonly client: Stack;
  readonly turn: (turns: number, ns?: number) => void;
};

const cleanUp: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

async function createWorld(kernels: number, name: SteeringName, tuning: Partial<Tuning> = {}): Promise<World> {
  const segment = await createSegment({ shared: false, portsMax: kernels + 1 });
  const card = segment.createCard({ queues: kernels, ...STEERING[name] });
  const { registers } = card;
  if ("localPorts" in STEERING[name]) {
    for (let group = 0; group < card.capabilities.flowGroups; group++)
      registers.setFlowGroup(group, (group * 5) % kernels);
  }
  if (name === "exact filters") for (const port of PORTS) registers.setFlowGroup(port, kernels - 1);
  const own = { drive: "manual", seed: 7 } as const;
  const small = { memoryBytes: 32 << 20, streamPoolBytes: 4 << 20, rxRingBytes: 64 << 10, txRingBytes: 1 << 20 };
  const client = await createStack({
    ...own,
    device: card,
    address: "10.7.0.1/24",
    tuning: { ...small, connectionsMax: 32_000, ...tuning },
  });
  const server = await createStack({
    ...own,
    device: segment.createCard(),
    address: "10.7.0.2/24",
    tuning: { ...small, memoryBytes: 128 << 20, connectionsMax: 70_000, rxRingBytes: 1 << 20 },
  });
  cleanUp.push(
    () => client.close(),
    () => server.close(),
  );
  serve((server.kernels[0] as (typeof server.kernels)[0]).handles);
  let nowNs = 0;
  const turn = (turns: number, ns = TURN_NS) => {
    for (let i = 0; i < turns; i++) {
      nowNs += ns;
      client.turn(nowNs);
      server.turn(nowNs);
    }
  };
  // Until the neighbour is known only some SYNs can wait.
  for (const { handles } of client.kernels) handles.udpSend(handles.udpBind(9), handles.alloc(1), 1, SERVER, 9);
  turn(50);
  return { card, client, turn };
}

function forEachEvent(handles: Handles, visit: (handle: number, mask: number) => void): void {
  handles.onEvents((words, first, count) => {
    for (let i = 0; i < count; i++) {
      const at = first + (i * EVENT_SIZE_BYTES) / 4;
      visit(words[at + EVENT_HANDLE / 4] as number, (words[at + EVENT_MASK / 4] as number) & 0xffff);
    }
  });
}

/** Accepts everything, and closes when the peer has. */
function serve(handles: Handles): void {
  const listeners = PORTS.map((port) => handles.listen(port, 16384));
  forEachEvent(handles, (handle, mask) => {
    if (mask & EVENT_ACCEPTABLE) for (const listener of listeners) while (handles.accept(listener) >= 0);
    else if (mask & EVENT_PEER_CLOSED) handles.close(handle);
  });
}

type Opened = { readonly open: Set<number>; connected: number; failed: number; closed: number };

function openers(client: Stack): Opened[] {
  return client.kernels.map(({ handles }) => {
    const state: Opened = { open: new Set(), connected: 0, failed: 0, closed: 0 };
    forEachEvent(handles, (_handle, mask) => {
      if (mask & EVENT_CONNECTED) state.connected++;
      if (mask & EVENT_ERROR) state.failed++;
      if (mask & EVENT_CLOSED) state.closed++;
    });
    return state;
  });
}

const sumOf = (sent: Readonly<Record<string, number>>) => Object.values(sent).reduce((sum, count) => sum + count, 0);

const CONNECTS = 2000;
const WAVE = 400;

describe.each(Object.keys(STEERING) as SteeringName[])("connect() on a card steered by %s", (name) => {
  it.each([2, 4, 16])("brings the replies of %i kernels home", async (kernels) => {
    const { client, turn } = await createWorld(kernels, name);
    const states = openers(client);
    const { sent: before } = (await client.stats()).messages;
    for (let done = 0; done < CONNECTS; done += WAVE) {
      client.kernels.forEach(({ handles }, kernel) => {
        const { open } = states[kernel] as Opened;
        for (let i = 0; i < WAVE; i++) {
          const handle = handles.connect(SERVER, PORTS[i % PORTS.length] as number);
          expect(handle).toBeGreaterThanOrEqual(0);
          open.add(handle);
        }
      });
      for (let i = 0; i < 200 && states.some(({ connected }) => connected < done + WAVE); i++) turn(5);
      client.kernels.forEach(({ handles }, kernel) => {
        const { open } = states[kernel] as Opened;
        for (const handle of open) handles.close(handle);
        open.clear();
      });
      for (let i = 0; i < 200 && states.some(({ closed }) => closed < done + WAVE); i++) turn(5);
    }
    for (const { connected, failed, closed } of states) {
      expect({ connected, failed, closed }).toEqual({ connected: CONNECTS, failed: 0, closed: CONNECTS });
    }
    const { kernels: counters } = await client.stats();
    for (const { tcpNoListener, tcpRstReceived, tcpRstSent, tcpRetransmits } of counters) {
      const nothing = { tcpNoListener: 0, tcpRstReceived: 0, tcpRstSent: 0, tcpRetransmits: 0 };
      expect({ tcpNoListener, tcpRstReceived, tcpRstSent, tcpRetransmits }).toEqual(nothing);
    }
    // No message for a connection; where filters are leased, some for each block of 64.
    const { sent } = (await client.stats()).messages;
    if (name !== "exact filters") expect(sent).toEqual(before);
    expect(sumOf(sent) - sumOf(before)).toBeLessThan((kernels * CONNECTS) / 10);
  });

  it("refuses with EADDRNOTAVAIL when the ports of a kernel are used up", async () => {
    const range = { ephemeralPortFirst: 40_000, ephemeralPortLast: 40_999 };
    const { client, turn } = await createWorld(4, name, range);
    openers(client);
    const opened = client.kernels.map(({ handles }) => {
      let count = 0;
      let handle = 0;
      for (; handle >= 0 && count < 2000; count++) handle = handles.connect(SERVER, 80);
      expect(handle).toBe(EADDRNOTAVAIL);
      return count - 1;
    });
    // Every port of the range has been used, by one kernel.
    expect(opened.reduce((a, b) => a + b, 0)).toBe(1000);
    expect(Math.min(...opened)).toBeGreaterThan(150);
    await expect(client.connect({ address: "10.7.0.2", port: 80 })).rejects.toMatchObject({ code: "EADDRNOTAVAIL" });
    // Towards another service they are free.
    expect(client.kernels[2]?.handles.connect(SERVER, 81)).toBeGreaterThanOrEqual(0);
    turn(400);
    const { total } = await client.stats();
    expect([total.tcpNoListener, total.tcpRstReceived, total.tcpRstSent]).toEqual([0, 0, 0]);
  });

  it("takes a given local port in the kernel where it is home, once", async () => {
    const { client } = await createWorld(4, name);
    for (let localPort = 50_000; localPort < 50_040; localPort++) {
      const results = client.kernels.map(({ handles }) => handles.connect(SERVER, 80, localPort));
      expect(results.filter((handle) => handle >= 0)).toHaveLength(1);
      expect(results.filter((handle) => handle === EADDRNOTAVAIL)).toHaveLength(3);
      const again = client.kernels.map(({ handles }) => handles.connect(SERVER, 80, localPort));
      expect(again.filter((handle) => handle === EADDRINUSE)).toHaveLength(1);
      expect(again.filter((handle) => handle === EADDRNOTAVAIL)).toHaveLength(3);
    }
  });
});

it("a kernel alone finds the last free port of its range, wherever that is", async () => {
  const range = { ephemeralPortFirst: 40_000, ephemeralPortLast: 49_999 };
  const { client } = await createWorld(1, "the hash", range);
  const { handles } = client.kernels[0] as (typeof client.kernels)[0];
  const open = Array.from({ length: 10_000 }, () => handles.connect(SERVER, 80));
  expect(open.filter((handle) => handle < 0)).toEqual([]);
  expect(handles.connect(SERVER, 80)).toBe(EADDRNOTAVAIL);
  for (const index of [9990, 5000, 10]) {
    handles.abort(open[index] as number);
    expect(handles.connect(SERVER, 80)).toBeGreaterThanOrEqual(0);
    expect(handles.connect(SERVER, 80)).toBe(EADDRNOTAVAIL);
  }
});

describe("exact filters of active opens", () => {
  it("stay through TIME-WAIT and are gone after it", async () => {
    const { card, client, turn } = await createWorld(2, "exact filters", { timeWaitMs: 3000 });
    const [first, second] = client.kernels.map(({ handles }) => handles) as [Handles, Handles];
    const [away] = openers(client) as [Opened];
    const open = Array.from({ length: 100 }, () => first.connect(SERVER, 80));
    // The group of port 80 is the second kernel's: it needs none.
    second.connect(SERVER, 80);
    // Leased in blocks of 64.
    expect(card.registers.filterCount).toBe(128);
    turn(50);
    expect(away.connected).toBe(100);
    for (const handle of open.slice(0, 50)) first.close(handle);
    for (const handle of open.slice(50, 75)) first.abort(handle);
    turn(100);
    expect(card.registers.filterCount).toBe(128);
    // Found to be over within a second, kept for three of TIME-WAIT, and given back when nobody has needed them.
    turn(25, 2e8);
    expect(card.registers.filterCount).toBe(128);
    turn(50, 2e8);
    expect(card.registers.filterCount).toBe(25);
    await client.close();
    expect(card.registers.filterCount).toBe(0);
  });

  it("make room in TIME-WAIT, then refuse with ENOBUFS", async () => {
    const { card, client, turn } = await createWorld(2, "exact filters");
    const { handles } = client.kernels[0] as (typeof client.kernels)[0];
    const [state] = openers(client) as [Opened];
    const open: number[] = [];
    const fill = () => {
      for (;;) {
        const handle = handles.connect(SERVER, PORTS[open.length % 2] as number);
        if (handle < 0) return handle;
        open.push(handle);
      }
    };
    expect(fill()).toBe(ENOBUFS);
    expect(open).toHaveLength(8192);
    for (let i = 0; i < 400 && state.connected < 8192; i++) turn(5);
    expect(state.connected).toBe(8192);
    for (const handle of open.splice(0, 100)) handles.close(handle);
    turn(200);
    // A refusal holds for ten milliseconds.
    turn(1, 1e7);
    expect(fill()).toBe(ENOBUFS);
    // The two services share what there was; one may have some of its last block left.
    expect(open.length).toBeGreaterThan(8192 - 64);
    expect(card.registers.filterCount).toBe(8192);
  });

  it("need no message per connection when the table is full, either", async () => {
    const { client, turn } = await createWorld(3, "exact filters", { timeWaitMs: 100 });
    // The service is the third kernel's; the first is the owner, and its own messages do not count.
    const [first, second] = client.kernels.map(({ handles }) => handles) as [Handles, Handles];
    const states = openers(client);
    const asked = async () => (await client.stats()).messages.sent.filtersAsk ?? 0;
    const fill = (handles: Handles) => {
      for (let open: number[] = []; ; turn(1)) {
        const handle = handles.connect(SERVER, 80);
        if (handle < 0) return { open, refusal: handle };
        open = [...open, handle];
      }
    };
    const held = Array.from({ length: 40 }, () => second.connect(SERVER, 80));
    const { refusal } = fill(first);
    expect(refusal).toBe(ENOBUFS);
    for (let i = 0; i < 400 && states.some(({ open, connected }) => open.size > connected); i++) turn(5);
    // Their filters stay the second kernel's: ten connections that ask for more each, and get none.
    for (const handle of held.splice(0, 10)) second.close(handle);
    turn(100);
    turn(20, 1e8);
    const before = await asked();
    for (let i = 0; i < 10; i++, turn(1)) expect(second.connect(SERVER, 80)).toBeGreaterThanOrEqual(0);
    expect((await asked()) - before).toBe(1);
    for (let i = 0; i < 100; i++, turn(1)) expect(second.connect(SERVER, 80)).toBe(ENOBUFS);
    expect((await asked()) - before).toBe(2);
    // A refusal does not last.
    for (const handle of held.splice(0, 10)) second.abort(handle);
    turn(2, 2e7);
    expect(second.connect(SERVER, 80)).toBeGreaterThanOrEqual(0);
  });
});
