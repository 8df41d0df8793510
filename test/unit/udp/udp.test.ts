import { describe, expect, test } from "vitest";
import { OPTION_RCV_BUFFER_BYTES } from "../../../src/layout/option.ts";
import {
  EADDRINUSE,
  EADDRNOTAVAIL,
  EBADF,
  EINVAL,
  EMSGSIZE,
  ENETUNREACH,
  ENOBUFS,
} from "../../../src/layout/status.ts";
import { SCRATCH_BASE } from "../../../src/layout/kernelMemory.ts";
import {
  arp,
  concat,
  ethernet,
  fragmentIpv4,
  type Ipv4Fields,
  parseEthernet,
  parseIpv4,
  parseUdp,
  pattern,
  type UdpFields,
  udp,
  udpPacket,
} from "../../helpers/packets.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS, type ProbeOptions } from "../../helpers/probeIp.ts";

const PEER_MAC = "02:00:00:00:00:02";
const PEER = "10.0.0.2";
const OWN = "10.0.0.1";
const SECOND = "192.168.5.7";
const fromPeer = { destination: OWN_MAC, source: PEER_MAC };

describe.each(PROBE_BUILDS)("UDP, %s build", (build) => {
  function connected(options: ProbeOptions = {}): IpProbe {
    const probe = new IpProbe({ build, ...options });
    probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: PEER, targetV4: OWN }));
    probe.sent();
    return probe;
  }
  const fields = (port: number, more: Partial<UdpFields> = {}): UdpFields => ({
    source: PEER,
    destination: OWN,
    sourcePort: 4000,
    destinationPort: port,
    ...more,
  });
  function deliver(probe: IpProbe, to: UdpFields, payload: Uint8Array, ip: Partial<Ipv4Fields> = {}): void {
    probe.input(ethernet(fromPeer, udpPacket(to, payload, ip)));
  }
  const bind = (probe: IpProbe, port: number, addressIndex = -1) => probe.wasm.udpBind(addressIndex, port);

  describe("bind", () => {
    test("port and address once; wildcard and specific sockets side by side", () => {
      const probe = connected({ addresses: [`${OWN}/24`, `${SECOND}/24`] });
      expect(bind(probe, 53)).toBeGreaterThan(0);
      expect(bind(probe, 53)).toBe(EADDRINUSE);
      expect(bind(probe, 53, 0)).toBeGreaterThan(0);
      expect(bind(probe, 53, 0)).toBe(EADDRINUSE);
      expect(bind(probe, 53, 1)).toBeGreaterThan(0);
      expect(bind(probe, 54)).toBeGreaterThan(0);
    });

    test("wrong arguments", () => {
      const probe = connected({ addresses: [`${OWN}/24`, "fd00::1/64"] });
      expect(bind(probe, 65536)).toBe(EINVAL);
      // Behind the own addresses are 127.0.0.1 and ::1.
      expect(bind(probe, 53, 4)).toBe(EADDRNOTAVAIL);
      expect(bind(probe, 53, -4)).toBe(EADDRNOTAVAIL);
    });

    test("port 0: an ephemeral port, each once, until there is none", () => {
      const tuning = { ephemeralPortFirst: 50000, ephemeralPortLast: 50009 };
      const probe = connected({ tuning });
      bind(probe, 50003);
      const ports = Array.from({ length: 9 }, () => probe.wasm.udpLocalPort(bind(probe, 0)));
      expect(ports.toSorted()).toEqual([50000, 50001, 50002, 50004, 50005, 50006, 50007, 50008, 50009]);
      expect(bind(probe, 0)).toBe(EADDRINUSE);
    });

    test("ephemeral ports depend on the seed only", () => {
      const ports = (seed: number) => {
        const probe = connected({ seed });
        return Array.from({ length: 5 }, () => probe.wasm.udpLocalPort(bind(probe, 0)));
      };
      expect(ports(1)).toEqual(ports(1));
      expect(ports(1)).not.toEqual(ports(2));
    });

    test("the pool's limit; a closed socket makes room, its handle stays dead", () => {
      const probe = connected({ tuning: { udpSocketsMax: 3 } });
      const handles = [1, 2, 3].map((port) => bind(probe, port));
      expect(bind(probe, 4)).toBe(ENOBUFS);
      expect(probe.wasm.udpClose(handles[1] as number)).toBe(0);
      const next = bind(probe, 2);
      expect(next).toBeGreaterThan(0);
      expect(next).not.toBe(handles[1]);
      expect(probe.wasm.udpClose(handles[1] as number)).toBe(EBADF);
      expect(probe.wasm.udpLocalPort(next)).toBe(2);
    });

    test("no sockets configured: refused, and datagrams are nobody's", () => {
      const probe = connected({ tuning: { udpSocketsMax: 0 } });
      expect(bind(probe, 1)).toBe(ENOBUFS);
      deliver(probe, fields(1), pattern(8));
      expect(probe.counters()).toMatchObject({ dropUdpNoSocket: 1 });
    });

    test.each([0, 1, 0x20000000, 0x40000001, 0x41000000, -1])("handle %i was never one", (handle) => {
      const probe = connected();
      bind(probe, 53);
      expect(probe.wasm.udpClose(handle)).toBe(EBADF);
      expect(probe.wasm.udpRecvPeek(handle)).toBe(EBADF);
      expect(probe.wasm.udpRecvConsume(handle)).toBe(EBADF);
      expect(probe.wasm.udpLocalPort(handle)).toBe(EBADF);
      expect(probe.udpSend(handle, pattern(1), PEER, 1)).toBe(EBADF);
    });
  });

  describe("receive", () => {
    test("datagrams come in order with their sender, empty ones too", () => {
      const probe = connected();
      const handle = bind(probe, 53);
      deliver(probe, fields(53), pattern(10, 1));
      deliver(probe, fields(53, { source: "10.0.0.3", sourcePort: 65535 }), new Uint8Array(0));
      deliver(probe, fields(53), pattern(1472, 3));
      expect(probe.events()).toEqual([{ handle, mask: 128, status: 0, readableBytes: 1482 }]);
      expect(probe.udpReceive(handle)).toEqual({ payload: pattern(10, 1), remote: PEER, remotePort: 4000 });
      expect(probe.udpReceive(handle)).toEqual({ payload: new Uint8Array(0), remote: "10.0.0.3", remotePort: 65535 });
      expect(probe.udpReceive(handle)).toEqual({ payload: pattern(1472, 3), remote: PEER, remotePort: 4000 });
      expect(probe.udpReceive(handle)).toBeUndefined();
      expect(probe.counters()).toMatchObject({ udpReceived: 3, gaugeUdpBytes: 0 });
    });

    test("one event per socket and turn, a new one for what comes later", () => {
      const probe = connected();
      const handle = bind(probe, 53);
      const other = bind(probe, 54);
      for (const port of [53, 54, 53]) deliver(probe, fields(port), pattern(8));
      expect(probe.events().map((event) => event.handle)).toEqual([handle, other]);
      expect(probe.events()).toEqual([]);
      deliver(probe, fields(53), pattern(8));
      expect(probe.events()).toMatchObject([{ handle, readableBytes: 24 }]);
    });

    test("the specific socket comes before the wildcard, whichever was first", () => {
      for (const specificFirst of [true, false]) {
        const probe = connected({ addresses: [`${OWN}/24`, `${SECOND}/24`] });
        const first = bind(probe, 53, specificFirst ? 1 : -1);
        const second = bind(probe, 53, specificFirst ? -1 : 1);
        const [specific, wildcard] = specificFirst ? [first, second] : [second, first];
        deliver(probe, fields(53, { destination: SECOND }), pattern(1, 1));
        deliver(probe, fields(53), pattern(1, 2));
        expect(probe.udpReceive(specific)?.payload).toEqual(pattern(1, 1));
        expect(probe.udpReceive(wildcard)?.payload).toEqual(pattern(1, 2));
      }
    });

    test("many sockets, one bucket: each gets its own", () => {
      const probe = connected({ tuning: { udpSocketsMax: 64 } });
      const ports = Array.from({ length: 20 }, (_, i) => 1000 + 64 * i);
      const handles = ports.map((port) => bind(probe, port));
      for (const port of ports) deliver(probe, fields(port), pattern(4, port));
      for (const i of [3, 0, 19]) probe.wasm.udpClose(handles[i] as number);
      handles.forEach((handle, i) => {
        if (![3, 0, 19].includes(i)) expect(probe.udpReceive(handle)?.payload).toEqual(pattern(4, ports[i]));
      });
    });

    test("checksum 0 means none; padding behind the datagram is cut", () => {
      const probe = connected();
      const handle = bind(probe, 53);
      deliver(probe, fields(53, { checksum: 0 }), pattern(9));
      const packet = udpPacket(fields(53, { lengthBytes: 8 + 4 }), pattern(9));
      packet.set([0, 0], 26); // the checksum covered the longer datagram
      probe.input(ethernet(fromPeer, packet));
      expect(probe.udpReceive(handle)?.payload).toEqual(pattern(9));
      expect(probe.udpReceive(handle)?.payload).toEqual(pattern(4));
    });

    test.each([
      ["wrong checksum", { checksum: 0x1234 }, "dropUdpChecksum"],
      ["length below the header", { lengthBytes: 7 }, "dropUdpLength"],
      ["length beyond the packet", { lengthBytes: 18 }, "dropUdpLength"],
    ] as [string, Partial<UdpFields>, string][])("dropped and counted: %s", (_name, wrong, counter) => {
      const probe = connected();
      const handle = bind(probe, 53);
      deliver(probe, fields(53, wrong), pattern(9));
      expect(probe.counters()).toMatchObject({ [counter]: 1, udpReceived: 0 });
      expect(probe.udpReceive(handle)).toBeUndefined();
      expect(probe.sent()).toEqual([]);
    });

    test("a datagram in fragments, the largest there is", () => {
      const probe = connected();
      const handle = bind(probe, 53);
      const whole = udp(fields(53), pattern(65507));
      for (const piece of fragmentIpv4({ source: PEER, destination: OWN, protocol: 17 }, whole, 1480)) {
        probe.input(ethernet(fromPeer, piece));
      }
      expect(probe.udpReceive(handle)?.payload).toEqual(pattern(65507));
    });

    test("broadcasts reach wildcard sockets only", () => {
      const probe = connected();
      const wildcard = bind(probe, 53);
      const specific = bind(probe, 53, 0);
      deliver(probe, fields(53, { destination: "10.0.0.255" }), pattern(3));
      expect(probe.udpReceive(specific)).toBeUndefined();
      expect(probe.udpReceive(wildcard)?.payload).toEqual(pattern(3));
    });

    test("a slow socket loses its own datagrams, nobody else's, and recovers", () => {
      const probe = connected();
      const slow = bind(probe, 53);
      const quick = bind(probe, 54);
      const large = pattern(1400);
      let taken = 0;
      while (probe.counters().dropUdpQueueFull === 0) {
        deliver(probe, fields(53), large);
        taken++;
      }
      expect(taken - 1).toBe(262144 / 2048);
      deliver(probe, fields(54), large);
      expect(probe.udpReceive(quick)?.payload).toEqual(large);
      for (let i = 0; i < taken - 1; i++) expect(probe.udpReceive(slow)?.payload).toEqual(large);
      deliver(probe, fields(53), large);
      expect(probe.udpReceive(slow)?.payload).toEqual(large);
      expect(probe.counters()).toMatchObject({ gaugeUdpBytes: 0, dropUdpQueueFull: 1 });
    });

    test("what one datagram gives back serves the next, with the pool otherwise full", () => {
      const probe = connected({ tuning: { udpSocketsMax: 1 } });
      const handle = bind(probe, 53);
      const mark = (n: number) => Uint8Array.of(n & 0xff, n >> 8);
      const slots = 4 * 256;
      for (let n = 0; n < slots; n++) deliver(probe, fields(53), mark(n));
      for (let n = 0; n < 3 * slots; n++) {
        expect(probe.udpReceive(handle)?.payload).toEqual(mark(n));
        deliver(probe, fields(53), mark(slots + n));
      }
      expect(probe.counters()).toMatchObject({ dropUdpQueueFull: 0, gaugeUdpBytes: slots * 256 });
    });

    test("a socket may hold half of the pool, whatever its limit: the others still get theirs", () => {
      const probe = connected({ tuning: { udpSocketsMax: 16 } });
      const flooded = bind(probe, 100);
      const other = bind(probe, 101);
      expect(probe.wasm.udpSetOption(flooded, OPTION_RCV_BUFFER_BYTES, 16 << 20)).toBe(0);
      // 16 chunks of 64 KiB, each of 32 such slots.
      const sent = 17 * 32;
      for (let n = 0; n < sent; n++) deliver(probe, fields(100), new Uint8Array(1000));
      const { dropUdpQueueFull, gaugeUdpBytes } = probe.counters();
      expect(gaugeUdpBytes).toBe(8 * 32 * 2048);
      expect(dropUdpQueueFull).toBe(sent - 8 * 32);
      deliver(probe, fields(101), pattern(1000));
      expect(probe.udpReceive(other)?.payload).toEqual(pattern(1000));
    });

    test("the pool is bounded for all sockets together, and all of it serves any size again", () => {
      const sockets = 16;
      const probe = connected({ tuning: { udpSocketsMax: sockets } });
      const handles = Array.from({ length: sockets }, (_, i) => bind(probe, 100 + i));
      const fill = (bytes: number) => {
        const before = probe.counters().dropUdpQueueFull;
        for (let port = 100; probe.counters().dropUdpQueueFull === before; port = port === 115 ? 100 : port + 1) {
          const whole = udp(fields(port, { checksum: 0 }), new Uint8Array(bytes));
          for (const piece of fragmentIpv4({ source: PEER, destination: OWN, protocol: 17 }, whole, 32768)) {
            probe.input(ethernet(fromPeer, piece));
          }
        }
      };
      // 16 x 64 KiB make 16 chunks; what one holds of each size, and again of the first.
      for (const [bytes, chunkHolds] of [
        [1, 256 * 256],
        [1000, 32 * 2048],
        [60_000, 65600],
        [1, 256 * 256],
      ] as const) {
        fill(bytes);
        expect(probe.counters().gaugeUdpBytes).toBe(16 * chunkHolds);
        for (const handle of handles) while (probe.udpReceive(handle)) {}
        expect(probe.counters()).toMatchObject({ gaugeUdpBytes: 0 });
      }
    });
  });

  describe("close", () => {
    test("what waits is dropped, the port is free, later datagrams are nobody's", () => {
      const probe = connected();
      const handle = bind(probe, 53);
      deliver(probe, fields(53), pattern(100));
      probe.wasm.udpClose(handle);
      expect(probe.events()).toEqual([]);
      expect(probe.counters()).toMatchObject({ gaugeUdpBytes: 0 });
      deliver(probe, fields(53), pattern(100));
      expect(probe.sent()).toHaveLength(1); // port unreachable
      expect(bind(probe, 53)).toBeGreaterThan(0);
    });

    test("closing and binding again in one turn does not fill the ready queue", () => {
      const probe = connected({ tuning: { udpSocketsMax: 2 } });
      for (let i = 0; i < 1000; i++) {
        const handle = bind(probe, 53);
        if (handle < 0) {
          expect(handle).toBe(ENOBUFS);
          expect(probe.events()).toEqual([]);
          continue;
        }
        deliver(probe, fields(53), pattern(8));
        probe.wasm.udpClose(handle);
        expect(probe.wasm.readyCount()).toBeLessThanOrEqual(2);
      }
    });
  });

  describe("send", () => {
    const datagrams = (probe: IpProbe) =>
      probe.sent().map((frame) => {
        const ip = parseIpv4(parseEthernet(frame).payload);
        return { ip, ...parseUdp(ip) };
      });

    test.each([0, 1, 8, 63, 1472])("%i bytes with a valid checksum", (bytes) => {
      const probe = connected();
      const handle = bind(probe, 53);
      expect(probe.udpSend(handle, pattern(bytes), PEER, 4000)).toBe(bytes);
      expect(datagrams(probe)).toMatchObject([
        { sourcePort: 53, destinationPort: 4000, lengthBytes: 8 + bytes, checksumValid: true, payload: pattern(bytes) },
      ]);
      expect(probe.counters()).toMatchObject({ udpSent: 1 });
    });

    test("a checksum that comes out as 0 is sent as all ones", () => {
      const probe = connected();
      const handle = bind(probe, 53);
      const payload = new Uint8Array(2);
      const zeros = udp({ source: OWN, destination: PEER, sourcePort: 53, destinationPort: 4000 }, payload);
      payload.set(zeros.subarray(6, 8)); // the sum of everything else, so that the whole sums to all ones
      probe.udpSend(handle, payload, PEER, 4000);
      expect(datagrams(probe)).toMatchObject([{ checksum: 0xffff, checksumValid: true }]);
    });

    test("checksum offload: the pseudo-header's sum, and where to put the rest", () => {
      const probe = connected({ checksumOffload: true });
      const handle = bind(probe, 53);
      probe.udpSend(handle, pattern(100), PEER, 4000);
      const record = probe.firstRecord();
      const vnet = probe.bytes.slice(record + 6, record + 18);
      expect([...vnet]).toEqual([1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0]); // NEEDS_CSUM, csum_start 34, csum_offset 6
      const [frame] = probe.sent();
      // 10.0.0.1 + 10.0.0.2 + 17 + 108 in 16-bit words
      expect(parseUdp(parseIpv4(parseEthernet(frame as Uint8Array).payload)).checksum).toBe(0x0a00 * 2 + 3 + 17 + 108);
    });

    test("larger than the MTU: in fragments with one checksum over all", () => {
      const probe = connected({ checksumOffload: true });
      const handle = bind(probe, 53);
      expect(probe.udpSend(handle, pattern(65507), PEER, 4000)).toBe(65507);
      const pieces = probe.sent().map((frame) => parseIpv4(parseEthernet(frame).payload));
      const whole = parseUdp({
        source: OWN,
        destination: PEER,
        payload: concat(...pieces.map((piece) => piece.payload)),
      });
      expect(whole).toMatchObject({ checksumValid: true, lengthBytes: 65515 });
      expect(whole.checksum).not.toBe(0);
      expect(whole.payload).toEqual(pattern(65507));
    });

    test("refusals", () => {
      const probe = connected();
      const handle = bind(probe, 53);
      expect(probe.udpSend(handle, pattern(1), PEER, 0)).toBe(EINVAL);
      expect(probe.udpSend(handle, pattern(1), PEER, 65536)).toBe(EINVAL);
      expect(probe.udpSend(handle, new Uint8Array(65508), PEER, 1)).toBe(EMSGSIZE);
      expect(probe.udpSend(handle, pattern(1), "8.8.8.8", 1)).toBe(ENETUNREACH);
      probe.bytes.fill(0xfd, SCRATCH_BASE, SCRATCH_BASE + 16); // an IPv6 address
      expect(probe.wasm.udpSendTo(handle, probe.place(pattern(1)), 1, SCRATCH_BASE, 1)).toBe(ENETUNREACH);
      expect(probe.sent()).toEqual([]);
      expect(probe.counters()).toMatchObject({ udpSent: 0 });
    });

    test("from the address that the socket is bound to", () => {
      const probe = connected({ addresses: [`${SECOND}/24`, `${OWN}/24`], gateway: PEER });
      probe.udpSend(bind(probe, 53, 1), pattern(1), "8.8.8.8", 9);
      expect(datagrams(probe)).toMatchObject([{ ip: { source: OWN } }]);
    });
  });
});
