import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { captureDevice, type CaptureSink, MemorySink, openFileSink } from "../../../src/device/capture.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import type { Device } from "../../../src/device/device.ts";
import { openPort } from "../../../src/device/openPort.ts";
import { readCapture } from "../../../src/device/pcapReader.ts";
import { VNET_NEEDS_CSUM } from "../../../src/layout/frameRing.ts";
import { CardKernel } from "../../helpers/cardKernel.ts";
import {
  concat,
  ethernet,
  internetChecksum,
  parseEthernet,
  parseIpv4,
  parseTcp,
  pattern,
  tcpPacket,
  v4Bytes,
} from "../../helpers/packets.ts";

async function cable(sink: CaptureSink, shared = false): Promise<{ device: Device; peer: CardKernel }> {
  const segment = await createSegment({ shared, portsMax: 4 });
  const device = captureDevice(segment.createCard({ checksumOffload: true }), sink, { name: "card", epochMs: 1000 });
  const peer = new CardKernel(1, { rxLanes: 4, shared });
  peer.port = segment.createCard({ checksumOffload: true }).openPort(0, peer.pair);
  return { device, peer };
}

const numbered = (value: number, bytes = 60): Uint8Array => pattern(bytes, value).fill(value, 0, 6);

describe("a captured device", () => {
  it("writes every frame both ways, once, with its time, while it works as before", async () => {
    const sink = new MemorySink();
    const { device, peer } = await cable(sink);
    const kernel = new CardKernel(0, { rxLanes: 4 });
    const port = device.openPort(0, kernel.pair);
    const expected: unknown[] = [];
    for (let turn = 1; turn <= 50; turn++) {
      const [down, up] = [numbered(turn, 60 + turn * 20), numbered(100 + turn, 1514)];
      peer.pair.tx.push(down);
      peer.port?.transmit(turn);
      port.receive(turn);
      // The kernel may leave frames in its lane for later turns; they are not to be written twice.
      if (turn % 3 === 0) expect(kernel.frames()).toHaveLength(3);
      kernel.pair.tx.push(up);
      port.transmit(turn);
      expect(peer.frames()).toEqual([up]);
      const timeNs = 1_000_000_000n + BigInt(turn);
      expected.push({ timeNs, frame: down, direction: "in" }, { timeNs, frame: up, direction: "out" });
    }
    const got = [...readCapture(sink.bytes())];
    expect(got.map(({ timeNs, frame, direction }) => ({ timeNs, frame: frame.slice(), direction }))).toEqual(expected);
    expect(device.queueFrames()).toEqual([50]);
    await device.close();
  });

  it("fills in checksums that are left to the card", async () => {
    const sink = new MemorySink();
    const { device, peer } = await cable(sink);
    const kernel = new CardKernel(0, { rxLanes: 4 });
    const port = device.openPort(0, kernel.pair);
    const fields = { source: "10.0.0.9", destination: "10.0.0.1", sourcePort: 4000, destinationPort: 80 };
    for (const bytes of [0, 1, 100, 1460]) {
      const pseudo = concat(
        v4Bytes(fields.source),
        v4Bytes(fields.destination),
        Uint8Array.of(0, 6, (20 + bytes) >> 8, (20 + bytes) & 255),
      );
      const packet = tcpPacket({ ...fields, checksum: ~internetChecksum(pseudo) & 0xffff }, pattern(bytes));
      const frame = ethernet(
        { destination: "02:00:00:00:00:01", source: "02:00:00:00:00:02", etherType: 0x0800 },
        packet,
      );
      kernel.pair.tx.push(frame, 0, Uint8Array.of(VNET_NEEDS_CSUM, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0));
      port.transmit(0);
      expect(peer.frames()).toEqual([frame]);
    }
    const captured = [...readCapture(sink.bytes())];
    expect(captured).toHaveLength(4);
    for (const { frame } of captured) {
      expect(parseTcp(parseIpv4(parseEthernet(frame).payload)).checksumValid).toBe(true);
    }
  });

  it("captures on the kernel's thread and brings the blocks to the sink", async () => {
    const sink = new MemorySink();
    const { device, peer } = await cable(sink, true);
    const kernel = new CardKernel(0, { rxLanes: 4, shared: true });
    const { descriptor, transfer } = device.describePort(0, kernel.pair.memory);
    expect(transfer).toHaveLength(2);
    const port = await openPort(descriptor, kernel.pair);
    kernel.pair.tx.push(numbered(1));
    port.transmit(5);
    peer.pair.tx.push(numbered(2));
    peer.port?.transmit(6);
    port.receive(7);
    port.close();
    await device.close();
    const got = [...readCapture(sink.bytes())];
    expect(got.map(({ frame, direction }) => [frame[0], direction])).toEqual([
      [1, "out"],
      [2, "in"],
    ]);
  });

  it("writes a file, and says why it cannot", async () => {
    const folder = mkdtempSync(join(tmpdir(), "capture-"));
    try {
      const sink = await openFileSink(join(folder, "a.pcapng"));
      const { device, peer } = await cable(sink);
      const kernel = new CardKernel(0, { rxLanes: 4 });
      const port = device.openPort(0, kernel.pair);
      for (let i = 0; i < 400; i++) {
        kernel.pair.tx.push(numbered(i & 255, 1500));
        port.transmit(i);
        peer.frames();
      }
      await device.close();
      await sink.close();
      expect([...readCapture(readFileSync(join(folder, "a.pcapng")))].map(({ frame }) => frame[0])).toEqual(
        Array.from({ length: 400 }, (_, i) => i & 255),
      );
      await expect(openFileSink(join(folder, "none", "b"))).rejects.toMatchObject({ code: "ERR_CAPTURE_FILE" });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
