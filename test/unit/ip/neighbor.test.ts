import { describe, expect, test } from "vitest";
import { arp, BROADCAST_MAC, ipv4, macBytes, parseArp, parseEthernet, pattern, v4Word } from "../../helpers/packets.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS, TICK_NS } from "../../helpers/probeIp.ts";

const PEER_MAC = "02:00:00:00:00:02";
const OTHER_MAC = "02:00:00:00:00:99";
const PEER = "10.0.0.2";
const OWN = "10.0.0.1";

const reply = arp({ operation: "reply", senderMac: PEER_MAC, senderV4: PEER, targetMac: OWN_MAC, targetV4: OWN });
const request = arp({ operation: "request", senderMac: PEER_MAC, senderV4: PEER, targetV4: OWN });

function packet(mark: number, bytes = 40): Uint8Array {
  return ipv4({ source: OWN, destination: PEER, protocol: 253 }, pattern(bytes, mark));
}

describe.each(PROBE_BUILDS)("neighbour cache, %s build", (build) => {
  const find = (probe: IpProbe, v4: string) => probe.wasm.neighborFind(v4Word(v4));
  const address = (probe: IpProbe, index: number) => probe.wasm.neighborAddress(index) >>> 0;

  /** A probe whose entry for PEER is resolved; what it sent so far is taken. */
  function resolved(): { probe: IpProbe; index: number } {
    const probe = new IpProbe({ build });
    const index = find(probe, PEER);
    probe.input(reply);
    probe.sent();
    return { probe, index };
  }

  test("a new entry asks everybody for its address, once", () => {
    const probe = new IpProbe({ build });
    const index = find(probe, PEER);
    expect(find(probe, PEER)).toBe(index);
    expect(address(probe, index)).toBe(v4Word(PEER));
    expect(probe.sent().map(parseArp)).toEqual([
      {
        destination: BROADCAST_MAC,
        operation: "request",
        senderMac: OWN_MAC,
        senderV4: OWN,
        targetMac: "00:00:00:00:00:00",
        targetV4: PEER,
      },
    ]);
  });

  test("a packet for a resolved neighbour goes out at once, with its Ethernet header", () => {
    const { probe, index } = resolved();
    probe.send(index, packet(1));
    const [frame] = probe.sent().map(parseEthernet);
    expect(frame).toEqual({ destination: PEER_MAC, source: OWN_MAC, etherType: 0x0800, payload: packet(1) });
  });

  test("packets wait for the reply and then go out in order", () => {
    const probe = new IpProbe({ build });
    const index = find(probe, PEER);
    for (const mark of [1, 2, 3]) probe.send(index, packet(mark, 40 + mark));
    expect(probe.sent()).toHaveLength(1); // the request
    probe.input(reply);
    expect(probe.sent().map((frame) => parseEthernet(frame).payload)).toEqual([1, 2, 3].map((m) => packet(m, 40 + m)));
    probe.input(reply);
    expect(probe.sent()).toEqual([]);
  });

  test("at most 100 packets wait; the oldest goes first", () => {
    const probe = new IpProbe({ build });
    const index = find(probe, PEER);
    for (let mark = 0; mark < 103; mark++) probe.send(index, packet(mark));
    probe.sent();
    probe.input(reply);
    const marks = Array.from({ length: 100 }, (_, i) => i + 3);
    expect(probe.sent().map((frame) => parseEthernet(frame).payload)).toEqual(marks.map((m) => packet(m)));
    expect(probe.counters()).toMatchObject({ dropNeighborQueueFull: 3 });
  });

  test("waiting packets keep their checksum offload request", () => {
    const probe = new IpProbe({ build, checksumOffload: true });
    const handle = probe.wasm.udpBind(-1, 5000);
    expect(probe.udpSend(handle, pattern(10), PEER, 7)).toBe(10);
    probe.sent();
    probe.input(reply);
    const record = probe.firstRecord();
    expect(probe.bytes[record + 6]).toBe(1); // NEEDS_CSUM
    expect(probe.bytes[record + 12]).toBe(34); // csum_start
    expect(probe.bytes[record + 14]).toBe(6); // csum_offset
  });

  test("hold buffers are shared and bounded, and come back", () => {
    const probe = new IpProbe({ build, tuning: { neighborsMax: 1024 } });
    const slots = 256;
    for (let round = 0; round < 3; round++) {
      for (let host = 0; host < 64; host++) {
        const index = find(probe, `10.0.0.${100 + host}`);
        for (let mark = 0; mark < 8; mark++) probe.send(index, packet(mark));
      }
      const dropped = 64 * 8 - slots;
      expect(probe.counters().dropNeighborQueueFull).toBe(dropped * (round + 1));
      probe.advance(8000);
      probe.sent();
      expect(probe.counters().dropNeighborUnresolved).toBe(slots * (round + 1));
    }
  });

  test("requests go once a second, three times; then packets are dropped, refused for 3 s, and it starts again", () => {
    const probe = new IpProbe({ build });
    const index = find(probe, PEER);
    probe.send(index, packet(1));
    expect(probe.sent()).toHaveLength(1);
    probe.advance(900);
    expect(probe.sent()).toHaveLength(0);
    probe.advance(300);
    expect(probe.sent()).toHaveLength(1);
    probe.advance(1100);
    expect(probe.sent()).toHaveLength(1);
    expect(probe.wasm.neighborIsFailed(index)).toBe(0);
    probe.advance(1100);
    expect(probe.wasm.neighborIsFailed(index)).toBe(1);
    expect(probe.counters().dropNeighborUnresolved).toBe(1);
    probe.send(index, packet(2));
    expect(probe.counters().dropNeighborUnresolved).toBe(2);
    expect(find(probe, PEER)).toBe(index);
    expect(probe.sent()).toEqual([]);
    probe.advance(3200);
    expect(address(probe, index)).toBe(0);
    expect(probe.wasm.neighborHasDeadline()).toBe(0);
    find(probe, PEER);
    expect(probe.sent()).toHaveLength(1);
  });

  test("a late reply still resolves a failed entry", () => {
    const probe = new IpProbe({ build });
    const index = find(probe, PEER);
    probe.advance(3500);
    expect(probe.wasm.neighborIsFailed(index)).toBe(1);
    probe.sent();
    probe.input(reply);
    probe.send(index, packet(1));
    expect(probe.sent()).toHaveLength(1);
  });

  test("unconfirmed for 30 s: the next packet goes out, and a request to the neighbour itself behind it", () => {
    const { probe, index } = resolved();
    probe.advance(29_000);
    probe.send(index, packet(1));
    expect(probe.sent()).toHaveLength(1);
    probe.advance(2000);
    probe.send(index, packet(2));
    const frames = probe.sent();
    expect(frames).toHaveLength(2);
    expect(parseArp(frames[1] as Uint8Array)).toMatchObject({
      destination: PEER_MAC,
      operation: "request",
      targetMac: PEER_MAC,
    });
    probe.send(index, packet(3)); // still in use while it is asked
    expect(probe.sent()).toHaveLength(1);
    probe.input(reply);
    probe.advance(5000);
    expect(probe.sent()).toEqual([]);
    expect(address(probe, index)).toBe(v4Word(PEER));
  });

  test("no answer to three requests of its own: the entry goes", () => {
    const { probe, index } = resolved();
    probe.advance(31_000);
    probe.send(index, packet(1));
    probe.advance(3500);
    expect(probe.sent()).toHaveLength(1 + 3);
    expect(address(probe, index)).toBe(0);
  });

  test("confirmation by a higher layer keeps it from being asked, and ends the asking", () => {
    const { probe, index } = resolved();
    for (let i = 0; i < 4; i++) {
      probe.advance(20_000);
      probe.wasm.neighborConfirm(index);
      probe.send(index, packet(i));
      expect(probe.sent()).toHaveLength(1);
    }
    probe.advance(31_000);
    probe.send(index, packet(9));
    expect(probe.sent()).toHaveLength(2);
    probe.wasm.neighborConfirm(index);
    probe.advance(10_000);
    expect(probe.sent()).toEqual([]);
    expect(address(probe, index)).toBe(v4Word(PEER));
  });

  test("an entry that nobody confirms goes after 20 to 30 minutes, and no timer is left", () => {
    const { probe, index } = resolved();
    probe.advance(19 * 60_000);
    expect(address(probe, index)).toBe(v4Word(PEER));
    probe.advance(12 * 60_000);
    expect(address(probe, index)).toBe(0);
    expect(probe.wasm.neighborHasDeadline()).toBe(0);
    expect(probe.sent()).toEqual([]);
  });

  test("the next deadline is the earliest of all entries", () => {
    const probe = new IpProbe({ build });
    probe.advance(1000);
    find(probe, PEER);
    const retryTick = probe.wasm.neighborNextDeadlineTick() >>> 0;
    expect(Math.abs(retryTick * TICK_NS - 2e9)).toBeLessThanOrEqual(TICK_NS);
    probe.input(reply);
    const agingTick = probe.wasm.neighborNextDeadlineTick() >>> 0;
    find(probe, "10.0.0.3");
    expect(probe.wasm.neighborNextDeadlineTick() >>> 0).toBeLessThan(agingTick);
  });

  describe("input", () => {
    test("a request for our address is answered and its sender learnt", () => {
      const probe = new IpProbe({ build });
      probe.input(request);
      expect(probe.sent().map(parseArp)).toEqual([
        {
          destination: PEER_MAC,
          operation: "reply",
          senderMac: OWN_MAC,
          senderV4: OWN,
          targetMac: PEER_MAC,
          targetV4: PEER,
        },
      ]);
      probe.send(find(probe, PEER), packet(1));
      expect(probe.sent().map((frame) => parseEthernet(frame).destination)).toEqual([PEER_MAC]);
    });

    test("any of our addresses is answered for", () => {
      const probe = new IpProbe({ build, addresses: ["10.0.0.1/24", "192.168.5.7/24"] });
      probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: "192.168.5.8", targetV4: "192.168.5.7" }));
      expect(probe.sent().map(parseArp)).toMatchObject([{ senderV4: "192.168.5.7", targetV4: "192.168.5.8" }]);
    });

    test("a request for somebody else teaches nothing new", () => {
      const probe = new IpProbe({ build });
      probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: PEER, targetV4: "10.0.0.77" }));
      expect(probe.sent()).toEqual([]);
      find(probe, PEER);
      expect(probe.sent().map(parseArp)).toMatchObject([{ operation: "request", targetV4: PEER }]);
    });

    test("a reply nobody asked for teaches nothing", () => {
      const probe = new IpProbe({ build });
      probe.input(reply);
      find(probe, PEER);
      expect(probe.sent()).toHaveLength(1);
    });

    test("gratuitous ARP moves a known neighbour to its new address", () => {
      const { probe, index } = resolved();
      probe.input(arp({ operation: "request", senderMac: OTHER_MAC, senderV4: PEER, targetV4: PEER }));
      probe.send(index, packet(1));
      expect(probe.sent().map((frame) => parseEthernet(frame).destination)).toEqual([OTHER_MAC]);
      // Nothing but its word for it: it is asked soon.
      probe.advance(6000);
      probe.send(index, packet(2));
      expect(probe.sent()).toHaveLength(2);
    });

    test("an address probe (sender 0.0.0.0) for our address is answered and teaches nothing", () => {
      const probe = new IpProbe({ build });
      probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: "0.0.0.0", targetV4: OWN }));
      expect(probe.sent().map(parseArp)).toMatchObject([{ destination: PEER_MAC, senderV4: OWN, targetV4: "0.0.0.0" }]);
      expect(probe.counters().dropArpMalformed).toBe(0);
    });

    test("a sender beyond our networks is answered but not learnt", () => {
      const probe = new IpProbe({ build });
      probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: "172.16.0.9", targetV4: OWN }));
      expect(probe.sent()).toHaveLength(1);
      expect(probe.wasm.neighborHasDeadline()).toBe(0);
    });

    test("somebody who claims our address is counted, not believed, not answered", () => {
      const probe = new IpProbe({ build });
      probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: OWN, targetV4: OWN }));
      expect(probe.sent()).toEqual([]);
      expect(probe.counters()).toMatchObject({ arpConflicts: 1 });
    });

    test("our own frame come back is ignored", () => {
      const probe = new IpProbe({ build });
      probe.input(arp({ operation: "request", senderMac: OWN_MAC, senderV4: OWN, targetV4: OWN }));
      expect(probe.sent()).toEqual([]);
      expect(probe.counters()).toMatchObject({ arpConflicts: 0, dropArpMalformed: 0 });
    });

    const broken: [string, number, number[]][] = [
      ["hardware type", 14, [0, 6]],
      ["protocol type", 16, [0x86, 0xdd]],
      ["hardware address length", 18, [8]],
      ["protocol address length", 19, [16]],
      ["operation", 20, [0, 3]],
      ["group sender MAC", 22, [1]],
      ["broadcast sender MAC", 22, [255, 255, 255, 255, 255, 255]],
      ["zero sender MAC", 22, [0, 0, 0, 0, 0, 0]],
      ["multicast sender", 28, [224, 0, 0, 1]],
      ["loopback sender", 28, [127, 0, 0, 1]],
      ["broadcast sender", 28, [255, 255, 255, 255]],
      ["directed broadcast sender", 28, [10, 0, 0, 255]],
    ];
    test.each(broken)("wrong %s: dropped and counted", (_name, at, bytes) => {
      const { probe, index } = resolved();
      const frame = request.slice();
      frame.set(bytes, at);
      probe.input(frame);
      expect(probe.counters()).toMatchObject({ dropArpMalformed: 1 });
      expect(probe.sent()).toEqual([]);
      probe.send(index, packet(1));
      expect(probe.sent().map((sent) => parseEthernet(sent).destination)).toEqual([PEER_MAC]);
    });

    test("every length below 42 bytes is dropped", () => {
      const probe = new IpProbe({ build });
      for (let bytes = 14; bytes < 42; bytes++) probe.input(request.slice(0, bytes));
      expect(probe.counters()).toMatchObject({ dropArpMalformed: 28 });
      expect(probe.sent()).toEqual([]);
    });
  });

  describe("a full table", () => {
    test("the entry that was used longest ago makes room", () => {
      const probe = new IpProbe({ build, tuning: { neighborsMax: 4 } });
      const learn = (host: number) =>
        probe.input(
          arp({
            operation: "request",
            senderMac: `02:00:00:00:01:0${host}`,
            senderV4: `10.0.0.${host}`,
            targetV4: OWN,
          }),
        );
      for (const host of [2, 3, 4, 5]) {
        learn(host);
        probe.advance(100);
      }
      probe.send(find(probe, "10.0.0.2"), packet(1));
      probe.sent();
      const third = find(probe, "10.0.0.3");
      learn(6);
      expect(probe.counters()).toMatchObject({ neighborEvicted: 1 });
      expect(address(probe, third)).toBe(v4Word("10.0.0.6"));
      for (const host of [2, 4, 5, 6]) find(probe, `10.0.0.${host}`);
      expect(probe.sent().map(parseArp)).toMatchObject([{ operation: "reply" }]);
    });

    test("hosts that do not answer take half of it at most", () => {
      const probe = new IpProbe({ build, tuning: { neighborsMax: 8 } });
      for (let host = 2; host < 10; host++) {
        probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: `10.0.0.${host}`, targetV4: OWN }));
      }
      const results = [100, 101, 102, 103, 104, 105].map((host) => find(probe, `10.0.0.${host}`));
      expect(results.map((index) => index >= 0)).toEqual([true, true, true, true, false, false]);
      expect(probe.counters()).toMatchObject({ neighborEvicted: 4, neighborRefused: 2 });
      // Once they have failed they make room for others.
      probe.advance(3500);
      expect(find(probe, "10.0.0.105")).toBeGreaterThanOrEqual(0);
    });
  });

  test("addresses that no neighbour can have are refused", () => {
    const probe = new IpProbe({ build });
    for (const v4 of ["0.0.0.0", "127.0.0.2", "224.0.0.1", "255.255.255.255", "10.0.0.255"]) {
      expect(find(probe, v4)).toBe(-1);
    }
    // An own address has no neighbour: its packets do not leave the kernel.
    for (const own of [OWN, "127.0.0.1"]) expect(find(probe, own)).toBe(-2);
    expect(probe.sent()).toEqual([]);
  });

  test("a frame's source address serves for the answer, and never replaces a known one", () => {
    const probe = new IpProbe({ build });
    const index = probe.wasm.neighborSeen(v4Word(PEER), probe.place(macBytes(PEER_MAC)));
    expect(index).toBeGreaterThanOrEqual(0);
    probe.wasm.neighborSeen(v4Word(PEER), probe.place(macBytes(OTHER_MAC)));
    probe.send(index, packet(1));
    expect(probe.sent().map((frame) => parseEthernet(frame).destination)).toEqual([PEER_MAC]);
    expect(probe.wasm.neighborSeen(v4Word("10.9.9.9"), probe.place(macBytes(PEER_MAC)))).toBe(-1);
    expect(probe.wasm.neighborSeen(v4Word("10.0.0.3"), probe.place(macBytes(BROADCAST_MAC)))).toBe(-1);
  });

  test("an announcement names our address twice, to everybody", () => {
    const probe = new IpProbe({ build });
    probe.wasm.neighborAnnounce(v4Word(OWN));
    expect(probe.sent().map(parseArp)).toMatchObject([
      { destination: BROADCAST_MAC, operation: "request", senderV4: OWN, targetV4: OWN, senderMac: OWN_MAC },
    ]);
  });

  test("through a gateway when there is one", () => {
    const probe = new IpProbe({ build, gateway: "10.0.0.254" });
    probe.wasm.ipv4Send(-1, v4Word("8.8.8.8"), 253, probe.place(pattern(8)), 8);
    expect(probe.sent().map(parseArp)).toMatchObject([{ targetV4: "10.0.0.254" }]);
  });
});
