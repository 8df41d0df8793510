/**
 * Goal: a move that is undone does not hurt a connection of its group that a third kernel has stolen. Frames that came
 * to the new kernel meanwhile have to go to the thief, and not home, where nobody knows them. Virtual time.
 */
import { expect, test } from "vitest";
import type { Policy } from "../../src/balancer/policy.ts";
import { createSegment } from "../../src/device/card/segment.ts";
import { parseAddress } from "../../src/ip/address.ts";
import { createStack } from "../../src/stack.ts";
import type { Stack } from "../../src/types.ts";

const MS = 1e6;
const PORT = 80;
const [HOME, THIEF, TO] = [0, 1, 2] as const;
const tuning = { memoryBytes: 24 << 20, connectionsMax: 64 };

/** All that waits at home goes to the thief. */
const thievish: Policy = {
  name: "thievish",
  periodNs: MS,
  decide: ({ kernels }, state) => {
    const connections = kernels[HOME]?.pendingConnections ?? 0;
    return { moves: [], steals: connections > 0 ? [{ from: HOME, to: THIEF, connections }] : [], state };
  },
};

test("a move that the application of the thief refuses resets nothing", async () => {
  const segment = await createSegment({ shared: false, portsMax: 4, seed: 1 });
  const device = segment.createCard({ queues: 3 });
  const create = (options: object, address: string): Promise<Stack> =>
    createStack({ address: `${address}/24`, drive: "manual", seed: address, tuning, ...options } as never);
  const server = await create({ device, balancer: thievish }, "10.7.0.2");
  const client = await create({ device: segment.createCard() }, "10.7.0.1");
  let nowNs = 1e9;
  const turn = () => [server, client].map((stack) => stack.turn(nowNs)).includes(true);
  const run = (ms: number) => {
    for (const end = nowNs + ms * MS; nowNs < end; nowNs += MS / 4) while (turn());
  };

  // What kernels accept they read; only home never accepts.
  let received = 0;
  const accepted: number[] = [];
  for (const { kernelId, handles } of server.kernels) {
    const listener = handles.listen(PORT);
    // Nobody lets anything go.
    handles.onHandOver({ leave: () => undefined, arrive: () => {} });
    handles.onEvents((words, first) => {
      const handle = words[first] as number;
      if (handle === listener && kernelId !== HOME) while (handles.accept(listener) >= 0) accepted.push(kernelId);
      if (handle === listener) return;
      for (let at = handles.peek(handle); at > 0; at = handles.peek(handle)) {
        received += handles.available;
        handles.consume(handle, handles.available);
      }
    });
  }
  const { handles } = client.kernels[0] as (typeof client.kernels)[0] & object;
  const area = handles.alloc(64);
  const group = Array.from({ length: 4096 }, (_, i) => i).find((i) => device.flowGroupQueue(i) === HOME) as number;
  const peer = handles.connect(parseAddress("10.7.0.2"), PORT, 32_768 + group);
  run(20);
  expect(accepted).toEqual([THIEF]);
  // Late frames of the steal are forwarded no longer.
  run(200);
  let sent = 0;
  let refused = "";
  server.migrate(group, TO).catch(({ code }) => {
    refused = code;
  });
  // While the move is made, a byte comes in each turn.
  for (let turns = 0; turns < 40; turns++) {
    if (handles.send(peer, area, 1) === 1) sent++;
    turn();
  }
  await new Promise((resolve) => setImmediate(resolve));
  expect(refused).toBe("ERR_MIGRATION_PINNED");
  run(500);
  expect(received).toBe(sent);
  const { total } = await server.stats();
  expect(total.tcpRstSent).toBe(0);
  await Promise.all([server.close({ drainMs: 0 }), client.close({ drainMs: 0 })]);
  await segment.close();
});
