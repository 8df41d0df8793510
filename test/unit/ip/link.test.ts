/** What routers advertise about the link (RFC 4861 6.3.4), as a kernel obeys it. Who is believed: autoconfiguration. */
import { describe, expect, test } from "vitest";
import { parseAddress } from "../../../src/ip/address.ts";
import { SCRATCH_BASE } from "../../../src/layout/kernelMemory.ts";
import { EHOSTUNREACH } from "../../../src/layout/status.ts";
import { parseEthernet, pattern } from "../../helpers/packets.ts";
import { FRAGMENT, frame6, icmp6, neighborMessage, parseIpv6 } from "../../helpers/packets6.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS } from "../../helpers/probeIp.ts";

const OWN = "fd00::1";
const PEER = "fd00::2";
const PEER_MAC = "02:00:00:00:00:02";
const UDP = 17;
const ICMPV6 = 58;
const SOLICITED = 0x40000000;
const between = { source: PEER, destination: OWN };

describe.each(PROBE_BUILDS)("an advertised link, %s build", (build) => {
  class World {
    readonly probe = new IpProbe({ build, addresses: [`${OWN}/64`, "fe80::1/64", "10.0.0.1/24"] });
    readonly #handle = this.probe.wasm.udpBind(-1, 5000);

    input(packet: Uint8Array): void {
      this.probe.input(frame6(OWN_MAC, PEER_MAC, packet));
    }

    confirm(): void {
      this.input(neighborMessage(between, 136, PEER, PEER_MAC, SOLICITED));
    }

    send(bytes = 1, to = PEER): number {
      this.probe.bytes.set(parseAddress(to), SCRATCH_BASE);
      return this.probe.wasm.udpSendTo(this.#handle, this.probe.place(pattern(bytes)), bytes, SCRATCH_BASE, 9);
    }

    sent() {
      return this.probe.sent().map((frame) => parseIpv6(parseEthernet(frame).payload));
    }

    /** Solicitations within this time, which is looked at every millisecond: when, after how many ms. */
    asks(ms: number): number[] {
      const times: number[] = [];
      for (let at = 1; at <= ms; at++) {
        this.probe.advance(1);
        for (const { nextHeader, payload } of this.sent()) {
          if (nextHeader === ICMPV6 && payload[0] === 135) times.push(at);
        }
      }
      return times;
    }
  }

  function connected(): World {
    const world = new World();
    world.send();
    world.confirm();
    world.sent();
    return world;
  }

  const sizes = (world: World) => world.sent().map(({ payload }) => payload.length + 40);

  test("MTU: larger datagrams and echo replies leave in fragments; back at the device's they leave whole", () => {
    const world = connected();
    world.probe.wasm.linkAdvertise(1300, 0);
    world.send(1252);
    expect(sizes(world)).toEqual([1300]);
    world.send(1253);
    const pieces = world.sent();
    expect(pieces.map(({ nextHeader }) => nextHeader)).toEqual([FRAGMENT, FRAGMENT]);
    expect(Math.max(...pieces.map(({ payload }) => payload.length + 40))).toBeLessThanOrEqual(1300);
    world.input(icmp6(between, 128, { body: pattern(1400) }));
    expect(world.sent().map(({ nextHeader }) => nextHeader)).toEqual([FRAGMENT, FRAGMENT]);
    world.probe.wasm.linkAdvertise(0, 0);
    world.send(1400);
    expect(sizes(world)).toEqual([1448]);
  });

  test.each([1279, 1500, 9000])("an MTU of %i is not one for this device", (mtu) => {
    const world = connected();
    world.probe.wasm.linkAdvertise(mtu, 0);
    world.send(1400);
    expect(sizes(world)).toEqual([1448]);
  });

  test("hop limit: of what leaves over IPv6, groups apart", () => {
    const world = connected();
    const hops = () => world.sent().map(({ nextHeader, hopLimit }) => [nextHeader, hopLimit]);
    world.probe.wasm.linkAdvertise(0, 17);
    world.send();
    expect(hops()).toEqual([[UDP, 17]]);
    world.input(icmp6(between, 128));
    expect(hops()).toEqual([[ICMPV6, 17]]);
    world.send(1, "ff02::1:2");
    expect(hops()).toEqual([[UDP, 1]]);
    world.send(1, "fd00::3");
    // RFC 4861 7.1.1: a solicitation has to be believed.
    expect(hops()).toEqual([[ICMPV6, 255]]);
    world.probe.wasm.linkAdvertise(0, 0);
    world.send();
    expect(hops()).toEqual([[UDP, 64]]);
  });

  test("Retrans Timer: between solicitations, also those under way; three, then the neighbour is unreachable", () => {
    const world = new World();
    world.send();
    expect(world.sent().length).toBe(1);
    world.probe.wasm.neighborTimes(0, 200);
    expect(world.asks(1000).map((ms) => Math.round(ms / 10) * 10)).toEqual([200, 400]);
    expect(world.send()).toBe(EHOSTUNREACH);
    const slow = new World();
    slow.probe.wasm.neighborTimes(0, 3000);
    slow.send();
    expect(slow.sent().length).toBe(1);
    expect(slow.asks(10_000).map((ms) => Math.round(ms / 10) * 10)).toEqual([3000, 6000]);
  });

  test("a longer Retrans Timer does not put off what is due: changes do not keep a dead neighbour alive", () => {
    const world = new World();
    world.send();
    world.sent();
    const asked: number[] = [];
    for (let i = 0; i < 6; i++) {
      world.probe.wasm.neighborTimes(0, i % 2 === 0 ? 1500 : 1400);
      asked.push(...world.asks(900).map(() => i));
    }
    expect(asked.length).toBe(2);
    expect(world.send()).toBe(EHOSTUNREACH);
  });

  test("ARP keeps its own times", () => {
    const world = new World();
    world.probe.wasm.neighborTimes(100, 200);
    world.send(1, "::ffff:10.0.0.2");
    world.probe.sent();
    const counted = () => world.probe.counters().arpRequestsSent ?? 0;
    const before = counted();
    world.probe.advance(900);
    expect(counted()).toBe(before);
    world.probe.advance(200);
    expect(counted()).toBe(before + 1);
  });

  describe("Reachable Time", () => {
    /** After how many ms a datagram every 100 ms makes the kernel doubt, so that it asks five seconds later. */
    function doubtMs(world: World): number {
      for (let ms = 100; ms <= 120_000; ms += 100) {
        world.send();
        world.sent();
        const [asked] = world.asks(100);
        if (asked !== undefined) return ms - 5000;
      }
      return 0;
    }

    test.each([
      [0, 30_000],
      [2000, 2000],
      [60_000, 60_000],
    ])("%i: a confirmation is good for %i ms", (advertised, expected) => {
      const world = new World();
      world.probe.wasm.neighborTimes(advertised, 0);
      world.send();
      world.confirm();
      expect(Math.abs(doubtMs(world) - expected)).toBeLessThanOrEqual(300);
    });

    test("shorter: what is left of a confirmation is cut to it; longer: not made longer", () => {
      const cut = connected();
      cut.probe.advance(1000);
      cut.probe.wasm.neighborTimes(2000, 0);
      expect(Math.abs(doubtMs(cut) - 2000)).toBeLessThanOrEqual(300);
      const kept = connected();
      kept.probe.advance(20_000);
      kept.probe.wasm.neighborTimes(3_600_000, 0);
      expect(Math.abs(doubtMs(kept) - 10_000)).toBeLessThanOrEqual(300);
    });

    test("longer: one that is doubted already stays so", () => {
      const world = connected();
      world.probe.advance(31_000);
      world.probe.wasm.neighborTimes(3_600_000, 0);
      expect(doubtMs(world)).toBeLessThanOrEqual(300);
    });
  });
});
