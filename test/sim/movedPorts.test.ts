/**
 * Goal: connections that we have opened live on after their group has moved, whatever their old kernel opens then: its
 * share of the ports still has theirs. The card groups by the remote port, so shares decide. Virtual time.
 */
import { describe, expect, test } from "vitest";
import { createSegment } from "../../src/device/card/segment.ts";
import { parseAddress } from "../../src/ip/address.ts";
import type { KernelHost } from "../../src/kernel/host.ts";
import { EVENT_ACCEPTABLE, EVENT_ERROR, EVENT_READABLE } from "../../src/layout/event.ts";
import { INFO_STATE, STATE_ESTABLISHED } from "../../src/layout/option.ts";
import { EADDRNOTAVAIL, EAGAIN } from "../../src/layout/status.ts";
import { createStack } from "../../src/stack.ts";

const MS = 1e6;
const PORT = 80;
const [OWNER, FROM, TO] = [0, 1, 2] as const;
const KERNELS = 3;
/** Ports of each kernel's share. */
const SHARE = 64;
const CONNECTIONS = 30;
const TIME_WAIT_MS = 2000;
/** More than a move takes. */
const MOVE_MS = 20;
const remote = parseAddress("10.7.0.2");

/** @param isPinned connections cannot leave: a move that has begun is undone. */
async function createPair({ isPinned = false } = {}) {
  const segment = await createSegment({ shared: false, portsMax: 4, seed: 1 });
  const device = segment.createCard({ queues: KERNELS, preset: "82599" });
  const memory = { memoryBytes: 24 << 20, connectionsMax: 256, timeWaitMs: TIME_WAIT_MS };
  const tuning = { ...memory, ephemeralPortFirst: 40_000, ephemeralPortLast: 40_000 + KERNELS * SHARE - 1 };
  const common = { drive: "manual", seed: 1 } as const;
  const client = await createStack({ ...common, tuning, device, address: "10.7.0.1/24", balancer: "static" });
  const card = segment.createCard();
  const server = await createStack({ ...common, tuning: memory, device: card, address: "10.7.0.2/24" });
  let nowNs = 1e9;
  const run = (ms: number) => {
    for (const end = nowNs + ms * MS; nowNs < end; nowNs += MS / 4) {
      client.turn(nowNs);
      server.turn(nowNs);
    }
  };

  const accepted: number[] = [];
  const { handles: serving } = server.kernels[0] as KernelHost;
  const listener = serving.listen(PORT);
  serving.onEvents((words, first, count) => {
    for (let at = first; at < first + 4 * count; at += 4) {
      if (((words[at + 1] as number) & EVENT_ACCEPTABLE) === 0) continue;
      for (let handle = serving.accept(listener); handle >= 0; handle = serving.accept(listener)) accepted.push(handle);
    }
  });
  const area = serving.alloc(64);
  const received = new Array<number>(KERNELS).fill(0);
  const arrived: number[] = [];
  let errors = 0;
  for (const { kernelId, handles } of client.kernels) {
    handles.onHandOver({ leave: () => (isPinned ? undefined : true), arrive: (handle) => void arrived.push(handle) });
    handles.onEvents((words, first, count) => {
      for (let at = first; at < first + 4 * count; at += 4) {
        const [handle, mask] = [words[at] as number, words[at + 1] as number];
        if ((mask & EVENT_ERROR) !== 0) errors++;
        while ((mask & EVENT_READABLE) !== 0 && handles.peek(handle) > 0) {
          received[kernelId] = (received[kernelId] as number) + handles.available;
          handles.consume(handle, handles.available);
        }
      }
    });
  }
  const connect = (kernelId: number): number => client.kernels[kernelId]?.opener?.connect(remote, PORT, 0, -1) ?? 0;
  return {
    client,
    device,
    received,
    accepted,
    run,
    errors: () => errors,
    /** @returns how many have been opened, and why the next was not. */
    open(kernelId: number, count: number) {
      let [opened, refusal] = [0, 0];
      for (let tries = 0; tries < 2 * count && opened < count; tries++) {
        const handle = connect(kernelId);
        if (handle >= 0) opened++;
        else refusal = handle;
        run(5);
      }
      return { opened, refusal };
    },
    /** A byte for each connection. @returns how many took it. */
    send: (handles: readonly number[]) => handles.filter((handle) => serving.send(handle, area, 1) === 1).length,
    async move(to: number, meanwhile?: () => void) {
      const moved = client.migrate(PORT, to);
      // Whether it is refused is looked at below.
      moved.catch(() => {});
      for (let i = 0; i < 2; i++) {
        for (let ms = 0; ms < 500; ms++) {
          if (ms < MOVE_MS) meanwhile?.();
          run(1);
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
      return (await moved).connections;
    },
    /** Those that have moved are closed by both sides. */
    endMoved(kernelId: number) {
      const { handles } = client.kernels[kernelId] as KernelHost;
      for (const handle of arrived.splice(0)) handles.close(handle);
      run(100);
      for (const handle of accepted.splice(0)) serving.close(handle);
      run(2 * TIME_WAIT_MS);
    },
    async close() {
      await Promise.all([server.close({ drainMs: 0 }), client.close({ drainMs: 0 })]);
      await segment.close();
    },
  };
}

describe("after their group has moved", () => {
  test.for([
    { name: "by filters of their own", home: OWNER },
    { name: "without filters, at home", home: FROM },
    { name: "by the hash", home: undefined },
  ])("connections opened $name live on", async ({ home }) => {
    const pair = await createPair();
    const { accepted, client, received, run } = pair;
    if (home !== undefined) pair.device.moveFlowGroup(PORT, home);
    expect(pair.open(FROM, CONNECTIONS).opened).toBe(CONNECTIONS);
    // By the hash these ports are of any share, and another kernel's have been chosen by it, too.
    if (home === undefined) expect(pair.open(OWNER, CONNECTIONS).opened).toBe(CONNECTIONS);
    run(100);
    const moved = accepted.slice();
    expect(await pair.move(TO)).toBe(moved.length);

    const again = pair.open(FROM, SHARE);
    if (home === undefined) pair.open(OWNER, SHARE);
    run(200);
    const before = received[TO] as number;
    expect(pair.send(moved)).toBe(moved.length);
    run(3000);
    expect(received[TO]).toBe(before + moved.length);
    expect(pair.errors()).toBe(0);
    expect((await client.stats()).total.tcpRstSent).toBe(0);
    // Of its share the kernel has got what was not in use, and has heard that there is no more.
    expect(again.opened).toBeGreaterThanOrEqual(SHARE - moved.length);
    expect(again.opened).toBeLessThan(SHARE);
    expect(again.refusal).toBe(EADDRNOTAVAIL);
    await pair.close();
  });

  test.for([{ home: OWNER }, { home: FROM }])(
    "and when they have ended their ports are their old kernel's ($home)",
    async ({ home }) => {
      const pair = await createPair();
      const { accepted, client, device, received, run } = pair;
      device.moveFlowGroup(PORT, home);
      expect(pair.open(FROM, CONNECTIONS).opened).toBe(CONNECTIONS);
      run(100);
      expect(await pair.move(TO)).toBe(CONNECTIONS);
      pair.endMoved(TO);

      expect(pair.open(FROM, SHARE).opened).toBe(SHARE);
      expect(pair.open(TO, SHARE).opened).toBe(SHARE);
      run(200);
      received.fill(0);
      expect(pair.send(accepted)).toBe(2 * SHARE);
      run(3000);
      expect(received).toEqual([0, SHARE, SHARE]);
      expect((await client.stats()).total.tcpRstSent).toBe(0);
      await pair.close();
    },
  );
});

describe("while their group moves, the new kernel", () => {
  /** A few opens each millisecond. @returns what has been opened, and the refusals. */
  function opener(host: KernelHost) {
    const outcome = { handles: [] as number[], refusals: new Set<number>() };
    const open = () => {
      for (let i = 0; i < 6 && outcome.handles.length < SHARE / 2; i++) {
        const handle = host.opener?.connect(remote, PORT, 0, -1) ?? 0;
        if (handle >= 0) outcome.handles.push(handle);
        else outcome.refusals.add(handle);
      }
    };
    return { outcome, open };
  }
  const stateOf = ({ handles }: KernelHost, handle: number) =>
    handles.words[(handles.info(handle) + INFO_STATE) >> 2] as number;

  test.for([{ isPinned: false }, { isPinned: true }])("opens nothing in it: undone $isPinned", async ({ isPinned }) => {
    const pair = await createPair({ isPinned });
    const { client, run } = pair;
    const host = client.kernels[TO] as KernelHost;
    expect(pair.open(FROM, CONNECTIONS).opened).toBe(CONNECTIONS);
    run(100);
    const { outcome, open } = opener(host);
    const moved = pair.move(TO, open);
    await (isPinned ? expect(moved).rejects.toThrow("cannot follow") : expect(moved).resolves.toBe(CONNECTIONS));
    expect([...outcome.refusals]).toContain(EAGAIN);
    run(3000);
    expect(outcome.handles.filter((handle) => stateOf(host, handle) !== STATE_ESTABLISHED)).toEqual([]);
    expect(pair.open(TO, 1).opened).toBe(1);
    expect(pair.errors()).toBe(0);
    expect((await client.stats()).total.tcpRstSent).toBe(0);
    await pair.close();
  });

  test("has whoever waits go on after it", async () => {
    const pair = await createPair();
    const { client, run } = pair;
    expect(pair.open(FROM, CONNECTIONS).opened).toBe(CONNECTIONS);
    run(100);
    const { handles } = client.kernels[TO] as KernelHost;
    let waiting: Promise<number> | undefined;
    await pair.move(TO, () => {
      if (waiting || handles.connect(remote, PORT) !== EAGAIN) return;
      waiting = handles.connectAsync(remote, PORT);
    });
    run(100);
    expect(await waiting).toBeGreaterThanOrEqual(0);
    await pair.close();
  });
});
