import { expect, it } from "vitest";
import { forEachWaitingSyn } from "../../../src/balancer/flowScan.ts";
import type { ReplyTuple } from "../../../src/device/replySteering.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import { RING_BASE, RING_SIZE } from "../../../src/layout/frameRing.ts";
import { FrameRing } from "../../../src/views/frameRing.ts";
import { ethernet, tcp, tcpPacket, v4Mapped } from "../../helpers/packets.ts";
import { extension, frame6, ipv6 } from "../../helpers/packets6.ts";

const RING_AT = 4096;
const RING_BYTES = 1024;
const MACS = { destination: "02:00:00:00:00:01", source: "02:00:00:00:00:02" };
const PORTS = { sourcePort: 4242, destinationPort: 80 };
const V4 = { source: "10.7.0.1", destination: "10.7.0.2" };
const V6 = { source: "2001:db8::1", destination: "2001:db8::2" };

function ring(...frames: readonly Uint8Array[]): FrameRing {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const words = new Int32Array(memory.buffer);
  words[RING_BASE >> 2] = RING_AT;
  words[RING_SIZE >> 2] = RING_BYTES;
  const lane = new FrameRing(memory, 0);
  for (const frame of frames) expect(lane.push(frame)).toBe(true);
  return lane;
}

function waiting(lane: FrameRing): ReplyTuple[] {
  const found: ReplyTuple[] = [];
  forEachWaitingSyn(lane, (tuple) => found.push(tuple));
  return found;
}

const over4 = (flags: string, options?: Uint8Array) =>
  ethernet(MACS, tcpPacket({ ...V4, ...PORTS, flags }, undefined, options && { options }));

/** The checksum is nobody's business here: the kernel looks at it. */
function over6(flags: string): Uint8Array {
  const segment = tcp({ ...V4, ...PORTS, flags });
  return frame6(MACS.destination, MACS.source, ipv6({ ...V6, nextHeader: 6 }, segment));
}

it("finds SYNs over IPv4, with options, too, and over IPv6", () => {
  const v4 = { remote: v4Mapped(V4.source), local: v4Mapped(V4.destination), remotePort: 4242, localPort: 80 };
  const v6 = { remote: parseAddress(V6.source), local: parseAddress(V6.destination), remotePort: 4242, localPort: 80 };
  expect(waiting(ring(over4("syn"), over4("syn", new Uint8Array(8)), over6("syn ece cwr")))).toEqual([v4, v4, v6]);
});

it("passes over all that opens no connection, and what is cut off", () => {
  const others = ["syn ack", "ack", "rst", "fin ack"].flatMap((flags) => [over4(flags), over6(flags)]);
  expect(waiting(ring(...others))).toEqual([]);
  const behindOptions = ipv6({ ...V6, nextHeader: 0 }, extension(6, new Uint8Array(6)));
  expect(waiting(ring(frame6(MACS.destination, MACS.source, behindOptions)))).toEqual([]);
  for (const frame of [over4("syn"), over6("syn")]) {
    const header = frame.length - 20;
    for (let bytes = 0; bytes < header + 14; bytes += 3) expect(waiting(ring(frame.subarray(0, bytes)))).toEqual([]);
    expect(waiting(ring(frame.subarray(0, header + 14))).length).toBe(1);
  }
});

it("goes on behind the ring's end, and sees only what is not consumed", () => {
  const lane = ring(...Array.from({ length: 8 }, () => over4("syn")));
  for (let i = 0; i < 30; i++) {
    lane.shift();
    expect(lane.push(i % 2 === 0 ? over4("ack") : over6("syn"))).toBe(true);
    const acks = Math.min(Math.ceil((i + 1) / 2), 4);
    expect(waiting(lane).length).toBe(8 - acks);
  }
});
