import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { pcap } from "../../../src/cli/pcap.ts";
import { arp, ethernet, tcpPacket } from "../../helpers/packets.ts";

const HOST_MAC = "02:00:00:00:00:01";
const PEER_MAC = "02:00:00:00:00:02";
const HOST = "10.0.0.1";

/** A classic pcap file, microseconds, little-endian, Ethernet. */
function captureFile(frames: readonly Uint8Array[], linkType = 1): Uint8Array {
  const start = new Uint8Array(24);
  const parts: Uint8Array[] = [start];
  const header = new DataView(start.buffer);
  header.setUint32(0, 0xa1b2c3d4, true);
  header.setUint16(4, 2, true);
  header.setUint16(6, 4, true);
  header.setUint32(16, 65535, true);
  header.setUint32(20, linkType, true);
  frames.forEach((frame, i) => {
    const record = new Uint8Array(16);
    const view = new DataView(record.buffer);
    view.setUint32(4, i * 1000, true);
    view.setUint32(8, frame.length, true);
    view.setUint32(12, frame.length, true);
    parts.push(record, frame);
  });
  return new Uint8Array(Buffer.concat(parts));
}

function syn(sourcePort: number, corrupt = false): Uint8Array {
  const tcp = { source: "10.0.0.2", destination: HOST, sourcePort, destinationPort: 80, seq: 1, flags: "syn" } as const;
  const frame = ethernet({ destination: HOST_MAC, source: PEER_MAC }, tcpPacket(tcp, new Uint8Array(0)));
  // A bit of the sequence number.
  if (corrupt) frame[14 + 20 + 7] = (frame[14 + 20 + 7] as number) ^ 1;
  return frame;
}

describe("netpopcorn pcap", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "netpopcorn-pcap-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  async function run(content: Uint8Array, options: { kernels?: number; address?: string } = {}) {
    const file = join(folder, "capture.pcap");
    writeFileSync(file, content);
    const results: Record<string, unknown>[] = [];
    const output = { isJson: true, result: (object: object) => void results.push({ ...object }), progress: () => {} };
    await pcap(file, { kernels: 4, seed: 1, ...options }, output);
    return results;
  }

  it("brings every frame to a kernel, spread by the card, and counts what is wrong with them", async () => {
    const frames = Array.from({ length: 64 }, (_, i) => syn(10_000 + i));
    const request = arp({ operation: "request", senderMac: PEER_MAC, senderV4: "10.0.0.2", targetV4: HOST });
    const [result] = await run(captureFile([request, ...frames, syn(20_000, true)]));
    expect(result).toMatchObject({ frames: 66, flows: 65, errors: { dropTcpChecksum: 1 } });
    const queues = (result as { queues: number[] }).queues;
    expect(queues).toHaveLength(4);
    expect(queues.reduce((sum, count) => sum + count, 0)).toBe(66);
    expect(Math.min(...queues)).toBeGreaterThan(0);
  });

  it("takes the side that it is told to take", async () => {
    await expect(run(captureFile([syn(1)]), { address: "10.0.0.9" })).rejects.toMatchObject({ code: "EADDRNOTAVAIL" });
    const [result] = await run(captureFile([syn(1)]), { address: HOST, kernels: 1 });
    expect(result).toEqual({ frames: 1, flows: 1, queues: [1], errors: {} });
  });

  it("says what is wrong with a file", async () => {
    await expect(run(Uint8Array.of(1, 2, 3, 4, 5))).rejects.toMatchObject({ code: "ERR_CAPTURE_FORMAT" });
    await expect(run(captureFile([syn(1)], 113))).rejects.toMatchObject({ code: "ERR_CAPTURE_EMPTY" });
    const output = { isJson: true, result: () => {}, progress: () => {} };
    const missing = join(folder, "missing");
    await expect(pcap(missing, { kernels: 1, seed: 1 }, output)).rejects.toMatchObject({ code: "ENOENT" });
  });
});
