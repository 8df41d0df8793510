import { describe, expect, test } from "vitest";
import { createMemory, loadModule } from "../../../../src/wasm/load.ts";
import { RX_CONTROL_BASE } from "../../../../src/layout/kernelMemory.ts";
import { RING_BASE, RING_SIZE } from "../../../../src/layout/frameRing.ts";
import { parsePoint } from "../../../../src/sim/point.ts";
import { runPoint } from "../../../../src/sim/run.ts";
import { ServerKernel } from "../../../../src/sim/engine/serverKernel.ts";
import { memoryFor } from "../../../../src/sim/engine/boot.ts";
import { needsLittle } from "../../../../src/sim/engine/server.ts";
import { FrameRing } from "../../../../src/views/frameRing.ts";

const web = { design: "netpopcorn", workload: "web-epoll", cores: 4 };

describe("memory of simulated kernels", () => {
  test("boots for few and for many connections, small and large messages", async () => {
    const module = await loadModule("kernel", false);
    for (const connectionsMax of [1, 20_480, 65_537, 1 << 20]) {
      for (const bytes of [1, 600, 64_000]) {
        const rings = { rxRingBytes: 1 << 20, txRingBytes: 1 << 18 };
        const tuning = memoryFor(
          { connectionsMax, open: 100_000, ...rings },
          { messageBytes: bytes, responseBytes: bytes },
        );
        const mac = Uint8Array.of(2, 0, 0, 0, 1, 1);
        const options = { module, kernelId: 0, seed: new Uint32Array(8), mac, addresses: ["10.7.255.1/16"], tuning };
        const kernel = new ServerKernel(options, connectionsMax, false);
        expect(kernel.listen(80, 100, -1, 0)).toBeGreaterThanOrEqual(0);
        expect(kernel.isFull).toBe(false);
      }
    }
  });

  test("a long TIME-WAIT, open arrivals, many connections and large messages are given all there is", () => {
    expect(needsLittle(parsePoint(web))).toBe(true);
    const large = [{ timeWaitS: 60 }, { arrivalsPerSec: 1000 }, { concurrency: 100_000 }, { responseBytes: 8192 }];
    for (const options of large) expect(needsLittle(parsePoint({ ...web, ...options }))).toBe(false);
  });

  test("a kernel that gets full begins again with more room, and nobody notices", async () => {
    // All load on one of 32 cores: its kernel has more connections in TIME-WAIT than a small one holds.
    const skew = { hotGroups: 128, hotShare: 1 };
    const point = parsePoint({ ...web, cores: 32, skew, policy: "static", concurrency: 500, durationS: 0.8 });
    expect(needsLittle(point)).toBe(true);
    const { failedConnections, losses, simulatedPackets } = await runPoint(point);
    expect(simulatedPackets).toBeGreaterThan(20_480 * 8);
    expect(failedConnections + losses.synRetransmits).toBe(0);
  });
});

test("a ring starts over only when it is empty", () => {
  const memory = createMemory(2 << 16, false);
  const words = new Int32Array(memory.buffer);
  words[(RX_CONTROL_BASE + RING_BASE) >> 2] = 65536;
  words[(RX_CONTROL_BASE + RING_SIZE) >> 2] = 4096;
  const ring = new FrameRing(memory, RX_CONTROL_BASE);
  ring.push(Uint8Array.of(1, 2, 3));
  ring.push(Uint8Array.of(4));
  ring.rewind();
  expect(ring.shift()).toEqual(Uint8Array.of(1, 2, 3));
  ring.rewind();
  expect(ring.head).toBeGreaterThan(0);
  expect(ring.shift()).toEqual(Uint8Array.of(4));
  ring.rewind();
  expect([ring.head, ring.tail]).toEqual([0, 0]);
  ring.push(Uint8Array.of(5));
  expect(ring.addressOf(ring.head)).toBe(65536);
  expect(ring.shift()).toEqual(Uint8Array.of(5));
});
