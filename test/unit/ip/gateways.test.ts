/** Redirects (RFC 1122 3.2.2.2, RFC 4861 8) and default gateways that take over from one another (RFC 1122 3.3.1.5). */
import { describe, expect, test } from "vitest";
import { parseAddress } from "../../../src/ip/address.ts";
import { SCRATCH_BASE } from "../../../src/layout/kernelMemory.ts";
import {
  arp,
  concat,
  ethernet,
  icmp,
  ipv4,
  macBytes,
  parseArp,
  parseEthernet,
  pattern,
  udpPacket,
  v4Bytes,
} from "../../helpers/packets.ts";
import { frame6, icmp6, neighborMessage } from "../../helpers/packets6.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS, type ProbeOptions } from "../../helpers/probeIp.ts";

const OWN = "10.0.0.1";
const FAR = "198.51.100.7";
const FAR6 = "2001:db8:ffff::7";
const ROUTERS = ["10.0.0.11", "10.0.0.12", "10.0.0.13"] as const;
const ROUTERS6 = ["fe80::11", "fe80::12", "fe80::13"] as const;
const macOf = (router: string): string => `02:00:00:00:00:${router.slice(-2)}`;

class World {
  readonly probe: IpProbe;
  readonly handle: number;
  /** Routers that answer when they are asked. */
  readonly alive: Set<string>;

  constructor(options: ProbeOptions & { others?: readonly string[] } = {}) {
    const { others = [], ...rest } = options;
    this.probe = new IpProbe({ addresses: [`${OWN}/24`, "fd00::1/64", "fe80::1/64"], gateway: ROUTERS[0], ...rest });
    for (const other of others) {
      this.probe.bytes.set(parseAddress(other), SCRATCH_BASE);
      expect(this.probe.wasm.gatewayAdd(SCRATCH_BASE)).toBe(0);
    }
    this.alive = new Set([...ROUTERS, ...ROUTERS6]);
    this.handle = this.probe.wasm.udpBind(-1, 5000);
  }

  /** Answers what is asked; returns where the rest goes. */
  #settle(): string[] {
    const to: string[] = [];
    for (let frames = this.probe.sent(); frames.length > 0; frames = this.probe.sent()) {
      for (const frame of frames) {
        const { etherType, destination, payload } = parseEthernet(frame);
        if (etherType === 0x0806) this.#arp(frame);
        else if (etherType === 0x86dd && payload[40] === 135) this.#neighbor(payload);
        else to.push(destination);
      }
    }
    return to;
  }

  #arp(frame: Uint8Array): void {
    const { targetV4 } = parseArp(frame);
    if (!this.alive.has(targetV4)) return;
    const senderMac = macOf(targetV4);
    this.probe.input(arp({ operation: "reply", senderMac, senderV4: targetV4, targetMac: OWN_MAC, targetV4: OWN }));
  }

  #neighbor(packet: Uint8Array): void {
    const target = ROUTERS6.find((router) => parseAddress(router).every((byte, i) => byte === packet[48 + i]));
    if (!target || !this.alive.has(target)) return;
    const addresses = { source: target, destination: "fe80::1" };
    this.probe.input(
      frame6(OWN_MAC, macOf(target), neighborMessage(addresses, 136, target, macOf(target), 0xe0000000)),
    );
  }

  /** Sends a datagram. @returns through which router it goes, by the end of its Ethernet address. */
  via(remote = FAR): string {
    this.probe.bytes.set(parseAddress(remote), SCRATCH_BASE);
    const source = this.probe.place(pattern(10));
    this.probe.wasm.udpSendTo(this.handle, source, 10, SCRATCH_BASE, 9);
    return this.#settle()
      .map((mac) => mac.slice(-2))
      .join();
  }

  /** Time, with a datagram every 100 ms. @returns the routers used, in order, without repetition. */
  during(ms: number, remote = FAR): string[] {
    const used: string[] = [];
    for (let left = ms; left > 0; left -= 100) {
      this.probe.advance(100);
      const now = this.via(remote);
      if (now !== "" && used.at(-1) !== now.slice(-2)) used.push(now.slice(-2));
    }
    return used;
  }
}

type Redirect = {
  from?: string;
  gateway?: string;
  quoteSource?: string;
  quoteDestination?: string;
  quotePort?: number;
};

function redirect4(more: Redirect = {}): Uint8Array {
  const quote = udpPacket(
    {
      source: more.quoteSource ?? OWN,
      destination: more.quoteDestination ?? FAR,
      sourcePort: more.quotePort ?? 5000,
      destinationPort: 9,
    },
    pattern(10),
  );
  const from = more.from ?? ROUTERS[0];
  const rest = new DataView(v4Bytes(more.gateway ?? ROUTERS[1]).buffer).getUint32(0);
  const packet = ipv4(
    { source: from, destination: OWN, protocol: 1 },
    icmp({ type: 5, code: 1, rest }, quote.subarray(0, 28)),
  );
  return ethernet({ destination: OWN_MAC, source: macOf(ROUTERS[0]) }, packet);
}

type Redirect6 = { from?: string; target?: string; destination?: string; hopLimit?: number; cut?: number };
function redirect6(more: Redirect6 = {}): Uint8Array {
  const target = more.target ?? ROUTERS6[1];
  const option = concat(Uint8Array.of(2, 1), macBytes(macOf(target)));
  const body = concat(parseAddress(target), parseAddress(more.destination ?? FAR6), option);
  const packet = icmp6(
    { source: more.from ?? ROUTERS6[0], destination: "fe80::1", hopLimit: more.hopLimit ?? 255 },
    137,
    { body: body.subarray(0, body.length - (more.cut ?? 0)) },
  );
  return frame6(OWN_MAC, macOf(ROUTERS6[0]), packet);
}

describe.each(PROBE_BUILDS)("redirects, %s build", (build) => {
  test("the gateway in use tells of a better one: for this destination, for ten minutes", () => {
    const world = new World({ build });
    expect(world.via()).toBe("11");
    world.probe.input(redirect4());
    expect(world.via()).toBe("12");
    expect(world.via("198.51.100.8")).toBe("11");
    expect(world.probe.counters()).toMatchObject({ icmpRedirects: 1, dropIcmpRedirect: 0 });
    // Whom we go by now may send us on, and nobody else.
    world.probe.input(redirect4({ gateway: ROUTERS[2] }));
    expect(world.via()).toBe("12");
    world.probe.input(redirect4({ from: ROUTERS[1], gateway: ROUTERS[2] }));
    expect(world.via()).toBe("13");
    world.probe.advance(601_000);
    expect(world.via()).toBe("11");
  });

  test.each<[string, Redirect]>([
    ["from another than the gateway", { from: "10.0.0.9" }],
    ["from afar", { from: "203.0.113.1" }],
    ["to a gateway that is not on our network", { gateway: "10.0.1.1" }],
    ["to ourselves", { gateway: OWN }],
    ["to the gateway itself", { gateway: ROUTERS[0] }],
    ["to a group", { gateway: "224.0.0.1" }],
    ["to everybody", { gateway: "10.0.0.255" }],
    ["about a packet of somebody else", { quoteSource: "10.0.0.77" }],
    ["about a packet that no socket of ours can have sent", { quotePort: 5001 }],
    ["about a host on the link", { quoteDestination: "10.0.0.50" }],
  ])("%s: not followed", (_, fields) => {
    const world = new World({ build });
    world.via();
    world.probe.input(redirect4(fields));
    expect(world.probe.counters()).toMatchObject({ icmpRedirects: 0, dropIcmpRedirect: 1 });
    expect(world.via()).toBe("11");
  });

  test("acceptRedirects 0: nobody is followed", () => {
    const world = new World({ build, tuning: { acceptRedirects: 0 } });
    world.via();
    world.probe.input(redirect4());
    expect(world.probe.counters()).toMatchObject({ icmpRedirects: 0, dropIcmpRedirect: 1 });
    expect(world.via()).toBe("11");
  });

  test("a gateway that was recommended and does not answer is forgotten", () => {
    const world = new World({ build });
    world.via();
    world.alive.delete(ROUTERS[1]);
    world.probe.input(redirect4());
    expect(world.during(5000)).toEqual(["11"]);
  });

  test("thousands are kept in a bounded table, the latest ones", () => {
    const world = new World({ build });
    const host = (i: number) => `198.51.${100 + (i >> 8)}.${i & 255}`;
    world.via();
    for (let i = 1; i <= 2000; i++) {
      if (i % 500 === 0) world.probe.advance(100);
      world.probe.input(redirect4({ quoteDestination: host(i) }));
    }
    expect(world.probe.counters()).toMatchObject({ icmpRedirects: 2000 });
    const redirected = Array.from({ length: 2000 }, (_, i) => world.via(host(i + 1))).filter((via) => via === "12");
    expect(redirected).toHaveLength(32);
    expect(world.via(host(2000))).toBe("12");
  });

  test("IPv6: a better router, and a destination that is on the link after all", () => {
    const world = new World({ build, gateway: ROUTERS6[0] });
    expect(world.via(FAR6)).toBe("11");
    world.probe.input(redirect6());
    expect(world.via(FAR6)).toBe("12");
    world.via("2001:db8:ffff::13");
    world.probe.input(redirect6({ target: "2001:db8:ffff::13", destination: "2001:db8:ffff::13" }));
    expect(world.via("2001:db8:ffff::13")).toBe("13");
    expect(world.probe.counters()).toMatchObject({ icmpRedirects: 2 });
  });

  test.each<[string, Redirect6]>([
    ["from another router", { from: ROUTERS6[2] }],
    ["not from a link-local address", { from: "2001:db8::1" }],
    ["to a router that is not named by its link-local address", { target: "2001:db8::12" }],
    ["to the router itself", { target: ROUTERS6[0] }],
    ["about a group", { destination: "ff02::1:2" }],
    ["about an address of ours", { destination: "fd00::1" }],
    ["that is too short", { cut: 9 }],
    ["with half an option", { cut: 4 }],
  ])("IPv6, %s: not followed", (_, fields) => {
    const world = new World({ build, gateway: ROUTERS6[0] });
    world.via(FAR6);
    world.probe.input(redirect6(fields));
    expect(world.probe.counters()).toMatchObject({ icmpRedirects: 0, dropIcmpRedirect: 1 });
    expect(world.via(FAR6)).toBe("11");
  });

  test("IPv6, what has passed a router: dropped", () => {
    const world = new World({ build, gateway: ROUTERS6[0] });
    world.via(FAR6);
    world.probe.input(redirect6({ hopLimit: 254 }));
    expect(world.probe.counters()).toMatchObject({ icmpRedirects: 0, dropNdMalformed: 1 });
  });
});

describe.each(PROBE_BUILDS)("a neighbour that is no router any more (RFC 4861 7.2.5), %s build", (build) => {
  /** Bits of an advertisement: router, override. */
  const ROUTER = 0x80000000;
  const OVERRIDE = 0x20000000;

  function advertised(world: World, target: string, flags: number, mac = macOf(target), destination = "fe80::1") {
    world.probe.input(
      frame6(OWN_MAC, mac, neighborMessage({ source: target, destination }, 136, target, mac, flags >>> 0)),
    );
  }

  /** Advertisements that the control path gets. */
  const told = (world: World) => world.probe.counters().controlPackets;

  function create(): World {
    const world = new World({ build, gateway: ROUTERS6[0], others: [ROUTERS6[1]] });
    expect(world.probe.wasm.controlOpen()).toBe(0);
    world.via(FAR6);
    return world;
  }

  test("that a gateway says so is told to the control path, once", () => {
    const world = create();
    advertised(world, ROUTERS6[0], ROUTER | OVERRIDE);
    expect(told(world)).toBe(0);
    advertised(world, ROUTERS6[0], OVERRIDE);
    expect(told(world)).toBe(1);
    advertised(world, ROUTERS6[0], OVERRIDE, macOf(ROUTERS6[0]), "ff02::1");
    expect(told(world)).toBe(2);
    // One that this kernel does not send to may be another kernel's.
    advertised(world, ROUTERS6[1], OVERRIDE);
    expect(told(world)).toBe(3);
    // No gateway of ours.
    advertised(world, ROUTERS6[2], OVERRIDE);
    expect(told(world)).toBe(3);
  });

  test.each(["fe80::1", "ff02::1"])("to %s: what may not override what we know says nothing", (destination) => {
    const world = create();
    advertised(world, ROUTERS6[0], 0, "02:00:00:00:00:66", destination);
    expect(told(world)).toBe(0);
  });

  test("redirects to it are forgotten; to a host on the link they are not", () => {
    const world = create();
    world.probe.input(redirect6());
    world.probe.input(redirect6({ target: "2001:db8:ffff::13", destination: "2001:db8:ffff::13" }));
    expect(world.via(FAR6)).toBe("12");
    advertised(world, ROUTERS6[1], OVERRIDE);
    expect(world.via(FAR6)).toBe("11");
    advertised(world, "2001:db8:ffff::13", OVERRIDE);
    expect(world.via("2001:db8:ffff::13")).toBe("13");
  });
});

describe.each(PROBE_BUILDS)("several default gateways, %s build", (build) => {
  test.each([
    { family: 4, routers: ROUTERS, far: FAR },
    { family: 6, routers: ROUTERS6, far: FAR6 },
  ])("IPv$family: the next takes over from one that does not answer, until that does again", ({ routers, far }) => {
    const world = new World({ build, gateway: routers[0], others: routers.slice(1) });
    expect(world.via(far)).toBe("11");
    world.alive.delete(routers[0]);
    // Found out by the neighbour's own probes, when its last confirmation is old.
    expect(world.during(60_000, far)).toEqual(["11", "12"]);
    world.alive.delete(routers[1]);
    expect(world.during(60_000, far)).toEqual(["12", "13"]);
    world.alive.add(routers[0]);
    // It is asked once a minute.
    expect(world.during(90_000, far)).toEqual(["13", "11"]);
  });

  test.each([
    { family: 4, routers: ROUTERS, far: FAR },
    { family: 6, routers: ROUTERS6, far: FAR6 },
  ])("IPv$family: one that is back and asks for us before we ask for it is asked, too", ({ family, routers, far }) => {
    const world = new World({ build, gateway: routers[0], others: routers.slice(1) });
    const [first] = routers;
    world.via(far);
    world.alive.delete(first);
    expect(world.during(60_000, far)).toEqual(["11", "12"]);
    // What it sends makes it known, but does not show that it hears us.
    if (family === 4) {
      world.probe.input(arp({ operation: "request", senderMac: macOf(first), senderV4: first, targetV4: OWN }));
    } else {
      const question = neighborMessage({ source: first, destination: "fe80::1" }, 135, "fe80::1", macOf(first));
      world.probe.input(frame6(OWN_MAC, macOf(first), question));
    }
    expect(world.during(1000, far)).toEqual(["12"]);
    world.alive.add(first);
    expect(world.during(90_000, far)).toEqual(["12", "11"]);
  });

  test("other neighbours that do not answer do not stand in a gateway's way", () => {
    const world = new World({ build, others: ROUTERS.slice(1) });
    for (let host = 100; host < 120; host++) world.via(`10.0.0.${host}`);
    world.probe.advance(20_000);
    expect(world.via()).toBe("11");
    world.alive.delete(ROUTERS[0]);
    expect(world.during(60_000).at(-1)).toBe("12");
  });

  test("all of them dead: the first is tried", () => {
    const world = new World({ build, others: ROUTERS.slice(1) });
    world.via();
    world.alive.clear();
    world.during(120_000);
    world.alive.add(ROUTERS[0]);
    expect(world.during(70_000).at(-1)).toBe("11");
  });

  test("those of the other family are no help", () => {
    const world = new World({ build, others: ROUTERS6 });
    world.alive.delete(ROUTERS[0]);
    expect(world.during(20_000)).toEqual([]);
  });
});

test("how long an unconfirmed neighbour is remembered can be set (RFC 1122 2.3.2.1)", () => {
  for (const [neighborExpiryMs, forgotten] of [
    [60_000, true],
    [3_600_000, false],
  ] as const) {
    const { probe } = new World({ tuning: { neighborExpiryMs } });
    const host = { senderMac: macOf("10.0.0.50"), senderV4: "10.0.0.50" };
    probe.input(arp({ operation: "request", ...host, targetV4: OWN }));
    const index = probe.wasm.neighborSeen(
      new DataView(v4Bytes("10.0.0.50").buffer).getUint32(0, true),
      probe.place(macBytes(macOf("10.0.0.50"))),
    );
    probe.advance(130_000);
    expect(probe.wasm.neighborAddress(index) === 0).toBe(forgotten);
  }
});
