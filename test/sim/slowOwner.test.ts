/**
 * Goal: a connection that has an exact filter of its kernel's own (we have opened it) lives on when its group moves,
 * however long the device's owner takes to have the filter lead to the new kernel. Virtual time; the owner stands
 * still.
 */
import { expect, test } from "vitest";
import { createSegment } from "../../src/device/card/segment.ts";
import { parseAddress } from "../../src/ip/address.ts";
import type { KernelHost } from "../../src/kernel/host.ts";
import { EVENT_ACCEPTABLE, EVENT_READABLE } from "../../src/layout/event.ts";
import { createStack } from "../../src/stack.ts";

const MS = 1e6;
const PORT = 80;
const [OWNER, FROM, TO] = [0, 1, 2] as const;
const CONNECTIONS = 4;
/** Longer than late frames are forwarded, and less than what the supervisor calls a hang. */
const STILL_MS = 300;
const tuning = { memoryBytes: 24 << 20, connectionsMax: 64 };

test("while the owner stands still the old kernel forwards", async () => {
  const segment = await createSegment({ shared: false, portsMax: 4, seed: 1 });
  // Its groups are the remote port's: what comes from one service would all go to one kernel.
  const device = segment.createCard({ queues: 3, preset: "82599" });
  const common = { drive: "manual", seed: 1, tuning } as const;
  const client = await createStack({ ...common, device, address: "10.7.0.1/24", balancer: "static" });
  const server = await createStack({ ...common, device: segment.createCard(), address: "10.7.0.2/24" });
  let nowNs = 1e9;
  /** Its connections are on their way. */
  let hasLeft = false;
  const run = (ms: number, ownerStands = false) => {
    for (const end = nowNs + ms * MS; nowNs < end; nowNs += MS / 4) {
      if (ownerStands && hasLeft) for (const kernel of client.kernels.slice(1)) kernel.turn(nowNs);
      else client.turn(nowNs);
      server.turn(nowNs);
    }
  };

  const accepted: number[] = [];
  const { handles: serving } = server.kernels[0] as KernelHost;
  const listener = serving.listen(PORT);
  serving.onEvents((words, first) => {
    if ((words[first + 1] as number) & EVENT_ACCEPTABLE) {
      for (let handle = serving.accept(listener); handle >= 0; handle = serving.accept(listener)) accepted.push(handle);
    }
  });
  const received = [0, 0, 0];
  for (const { kernelId, handles } of client.kernels) {
    handles.onHandOver({
      leave: () => {
        hasLeft = true;
        return true;
      },
      arrive: () => {},
    });
    handles.onEvents((words, first, count) => {
      for (let at = first; at < first + 4 * count; at += 4) {
        if (((words[at + 1] as number) & EVENT_READABLE) === 0) continue;
        while (handles.peek(words[at] as number) > 0) {
          received[kernelId] = (received[kernelId] as number) + handles.available;
          handles.consume(words[at] as number, handles.available);
        }
      }
    });
  }
  device.moveFlowGroup(PORT, OWNER);
  const connect = () => client.kernels[FROM]?.opener?.connect(parseAddress("10.7.0.2"), PORT, 0, -1);
  // The owner grants filters first.
  connect();
  run(20);
  for (let i = 0; i < CONNECTIONS; i++) expect(connect()).toBeGreaterThanOrEqual(0);
  run(50);
  expect(accepted.length).toBeGreaterThanOrEqual(CONNECTIONS);
  expect(device.registers.filterCount).toBeGreaterThanOrEqual(CONNECTIONS);

  const area = serving.alloc(64);
  let sent = 0;
  const send = () => {
    for (const handle of accepted) if (serving.send(handle, area, 1) === 1) sent++;
  };
  let late = -1;
  client.migrate(PORT, TO).then(({ lateFrames }) => {
    late = lateFrames;
  });
  for (let ms = 0; ms < STILL_MS; ms++) {
    send();
    run(1, true);
  }
  for (let ms = 0; ms < 200; ms++) {
    send();
    run(1);
  }
  run(500);
  expect((await client.stats()).total.tcpRstSent).toBe(0);
  expect(received.reduce((sum, bytes) => sum + bytes, 0)).toBe(sent);
  expect(received[TO]).toBeGreaterThan(sent / 2);
  await new Promise((resolve) => setImmediate(resolve));
  expect(late).toBeGreaterThan(50);
  await Promise.all([server.close({ drainMs: 0 }), client.close({ drainMs: 0 })]);
  await segment.close();
});
