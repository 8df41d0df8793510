import { describe, expect, it } from "vitest";
import type { CardOptions } from "../../../src/device/card/card.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import { VNET_GSO_TCPV4, VNET_NEEDS_CSUM } from "../../../src/layout/frameRing.ts";
import { CardKernel } from "../../helpers/cardKernel.ts";
import {
  BROADCAST_MAC,
  concat,
  ethernet,
  internetChecksum,
  ipv4,
  parseEthernet,
  parseIpv4,
  parseTcp,
  parseUdp,
  pattern,
  tcp,
  udp,
  v4Bytes,
} from "../../helpers/packets.ts";

const FIELDS = { source: "10.0.0.9", destination: "10.0.0.1", sourcePort: 40_000, destinationPort: 80 };

async function pairOf(sender: CardOptions, receiver: CardOptions, impaired = false): Promise<[CardKernel, CardKernel]> {
  const segment = await createSegment({ shared: false, portsMax: 4, impairments: impaired ? { delayNs: 1 } : {} });
  return [sender, receiver].map((options, index) => {
    const kernel = new CardKernel(index, { rxLanes: 4, ringBytes: 1 << 18 });
    kernel.port = segment.createCard(options).openPort(0, kernel.pair);
    return kernel;
  }) as [CardKernel, CardKernel];
}

/** A frame as a kernel hands it over that leaves the checksum to the card: the field holds the pseudo-header's sum. */
function partial(protocol: number, segment: Uint8Array, field: number): Uint8Array {
  const pseudo = concat(
    v4Bytes(FIELDS.source),
    v4Bytes(FIELDS.destination),
    Uint8Array.of(0, protocol, segment.length >> 8, segment.length & 255),
  );
  new DataView(segment.buffer, segment.byteOffset).setUint16(field, ~internetChecksum(pseudo) & 0xffff);
  const packet = ipv4({ ...FIELDS, protocol, identification: 7 }, segment);
  return ethernet({ destination: BROADCAST_MAC, source: "02:00:00:00:00:63", etherType: 0x0800 }, packet);
}

function vnet(fields: { field: number; gsoSize?: number; gsoType?: number }): Uint8Array {
  const header = new Uint8Array(12);
  const view = new DataView(header.buffer);
  view.setUint8(0, VNET_NEEDS_CSUM);
  view.setUint8(1, fields.gsoType ?? 0);
  view.setUint16(2, 54, true);
  view.setUint16(4, fields.gsoSize ?? 0, true);
  view.setUint16(6, 34, true);
  view.setUint16(8, fields.field, true);
  return header;
}

const offload = { checksumOffload: true };

describe("checksum offload", () => {
  it.each([0, 1, 2, 63, 64, 1459, 1460])(
    "fills TCP and UDP checksums for a card without it (%d bytes)",
    async (bytes) => {
      const [a, b] = await pairOf(offload, {});
      const payload = pattern(bytes, bytes);
      a.pair.tx.push(partial(6, tcp(FIELDS, payload), 16), 0, vnet({ field: 16 }));
      a.pair.tx.push(partial(17, udp(FIELDS, payload), 6), 0, vnet({ field: 6 }));
      a.port?.transmit(0);
      const [first, second] = b
        .received()
        .map(({ frame, vnet }) => ({ ip: parseIpv4(parseEthernet(frame).payload), vnet }));
      expect(parseTcp((first as { ip: ReturnType<typeof parseIpv4> }).ip)).toMatchObject({
        checksumValid: true,
        payload,
      });
      expect(parseUdp((second as { ip: ReturnType<typeof parseIpv4> }).ip)).toMatchObject({
        checksumValid: true,
        payload,
      });
      expect([first?.vnet[0], second?.vnet[0]]).toEqual([0, 0]);
    },
  );

  it("hands partial checksums on between cards that both have it", async () => {
    const [a, b] = await pairOf(offload, offload);
    const frame = partial(6, tcp(FIELDS, pattern(100, 1)), 16);
    a.pair.tx.push(frame, 0, vnet({ field: 16 }));
    a.port?.transmit(0);
    expect(b.received()).toMatchObject([{ frame, vnet: vnet({ field: 16 }) }]);
  });

  it("fills them before an impaired link, where bits may change", async () => {
    const [a, b] = await pairOf(offload, offload, true);
    a.pair.tx.push(partial(6, tcp(FIELDS, pattern(100, 1)), 16), 0, vnet({ field: 16 }));
    a.port?.transmit(0);
    a.port?.transmit(1);
    const [got] = b.received();
    expect(got?.vnet[0]).toBe(0);
    expect(parseTcp(parseIpv4(parseEthernet(got?.frame as Uint8Array).payload)).checksumValid).toBe(true);
  });

  it("ignores a request that points outside the frame", async () => {
    const [a, b] = await pairOf(offload, {});
    const frame = partial(6, tcp(FIELDS), 16);
    const wild = vnet({ field: 16 });
    new DataView(wild.buffer).setUint16(6, 65000, true);
    a.pair.tx.push(frame, 0, wild);
    a.port?.transmit(0);
    expect(b.frames()).toEqual([frame]);
  });
});

describe("segmentation offload", () => {
  const large = { checksumOffload: true, tsoBytesMax: 65_000 };

  it.each([
    [65_000, 1448, false],
    [2897, 1448, false],
    [2896, 1448, true],
    [1449, 1448, true],
    [10_001, 100, true],
  ])("cuts %d bytes into segments of %d", async (bytes, gsoSize, impaired) => {
    const [a, b] = await pairOf(large, {}, impaired);
    const payload = pattern(bytes, 5);
    const segment = tcp(
      { ...FIELDS, seq: 0xfffffff0, ack: 77, flags: "ack psh fin", options: { timestamps: [1, 2] } },
      payload,
    );
    a.pair.tx.push(partial(6, segment, 16), 0, vnet({ field: 16, gsoSize, gsoType: VNET_GSO_TCPV4 }));
    for (let i = 0; i < 4; i++) a.port?.transmit(i);
    const got = b.frames().map((frame) => parseIpv4(parseEthernet(frame).payload));
    expect(got).toHaveLength(Math.ceil(bytes / gsoSize));
    let at = 0;
    got.forEach((ip, i) => {
      const cut = parseTcp(ip);
      const last = i === got.length - 1;
      expect(ip).toMatchObject({ checksumValid: true, identification: 7 + i });
      expect(cut).toMatchObject({ checksumValid: true, seq: (0xfffffff0 + at) >>> 0, ack: 77 });
      expect(cut.options).toMatchObject({ timestamps: [1, 2] });
      expect(cut.flags.split(" ").sort()).toEqual(last ? ["ack", "fin", "psh"] : ["ack"]);
      expect(Buffer.compare(cut.payload, payload.subarray(at, at + gsoSize))).toBe(0);
      at += cut.payload.length;
    });
    expect(at).toBe(bytes);
  });

  it("hands large frames on uncut to a card that takes them", async () => {
    const [a, b] = await pairOf(large, large);
    const frame = partial(6, tcp(FIELDS, pattern(20_000, 1)), 16);
    a.pair.tx.push(frame, 0, vnet({ field: 16, gsoSize: 1448, gsoType: VNET_GSO_TCPV4 }));
    a.port?.transmit(0);
    expect(Buffer.compare(b.frames()[0] as Uint8Array, frame)).toBe(0);
  });

  it("drops requests that make no sense, and goes on", async () => {
    const [a, b] = await pairOf(large, {});
    const frame = partial(6, tcp(FIELDS, pattern(5000, 1)), 16);
    const requests = [
      { gsoSize: 0, gsoType: VNET_GSO_TCPV4 },
      { gsoSize: 1, gsoType: VNET_GSO_TCPV4 },
      { gsoSize: 1448, gsoType: 3 },
      { gsoSize: 1448, gsoType: 4 },
    ];
    for (const request of requests) a.pair.tx.push(frame, 0, vnet({ field: 16, ...request }));
    a.pair.tx.push(frame.slice(0, 40), 0, vnet({ field: 16, gsoSize: 1448, gsoType: VNET_GSO_TCPV4 }));
    a.pair.tx.push(frame.slice(0, 54), 0, vnet({ field: 16, gsoSize: 1448, gsoType: VNET_GSO_TCPV4 }));
    const plain = partial(6, tcp(FIELDS), 16);
    a.pair.tx.push(plain);
    for (let i = 0; i < 3; i++) a.port?.transmit(0);
    expect(b.frames()).toEqual([plain]);
  });
});
