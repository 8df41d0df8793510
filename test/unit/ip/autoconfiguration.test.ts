import fc from "../../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { formatAddress, parseAddress, parseCidr } from "../../../src/ip/address.ts";
import { Autoconfiguration } from "../../../src/ip/autoconfiguration.ts";
import { parseControl } from "../../../src/ip/controlPackets.ts";
import type { NetworkChange } from "../../../src/ip/networkChange.ts";
import { LINK_LOCAL_PREFIX, sipHash, stableAddress } from "../../../src/ip/stableAddress.ts";
import { concat, hex } from "../../helpers/packets.ts";
import { checksum6, extension, icmp6, ipv6, neighborMessage, parseIpv6 } from "../../helpers/packets6.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const SECRET = Uint8Array.from({ length: 16 }, (_, i) => i);
const ROUTER = "fe80::99";
const LINK_LOCAL = stableAddress(LINK_LOCAL_PREFIX, MAC, SECRET, 0);
const HOUR = 3600;

type Prefix = {
  prefix: string;
  length?: number;
  onLink?: boolean;
  autonomous?: boolean;
  valid?: number;
  preferred?: number;
};

type Link = { mtu?: number; hopLimit?: number; reachable?: number; retrans?: number };

function advertisement(
  routerS: number,
  prefixes: readonly Prefix[] = [],
  source = ROUTER,
  flags = 0,
  { mtu, hopLimit = 0, reachable = 0, retrans = 0 }: Link = {},
) {
  const options = prefixes.map(
    ({ prefix, length = 64, onLink = true, autonomous = true, valid = 86400, preferred = 14400 }) => {
      const option = new Uint8Array(32);
      option.set([3, 4, length, (onLink ? 0x80 : 0) | (autonomous ? 0x40 : 0)]);
      new DataView(option.buffer).setUint32(4, valid);
      new DataView(option.buffer).setUint32(8, preferred);
      option.set(parseAddress(prefix), 16);
      return option;
    },
  );
  if (mtu !== undefined) {
    const option = Uint8Array.of(5, 1, 0, 0, 0, 0, 0, 0);
    new DataView(option.buffer).setUint32(4, mtu);
    options.push(option);
  }
  const times = new Uint8Array(8);
  new DataView(times.buffer).setUint32(0, reachable);
  new DataView(times.buffer).setUint32(4, retrans);
  const body = concat(times, ...options);
  const rest = (hopLimit << 24) | (flags << 16) | routerS;
  return icmp6({ source, destination: "ff02::1", hopLimit: 255 }, 134, { rest: rest >>> 0, body });
}

function text(change: NetworkChange): string {
  if (change.type === "routeSet")
    return `route ${formatAddress(change.prefix)}/${change.prefixLength} ${formatAddress(change.gateway)}`;
  if (change.type === "routeRemove") return `no route ${formatAddress(change.prefix)}/${change.prefixLength}`;
  if (change.type === "linkSet") {
    return `link ${change.mtuBytes} ${change.hopLimit} ${change.reachableMs} ${change.retransMs}`;
  }
  const address = formatAddress(change.address);
  if (change.type === "gatewayAdd") return `also ${address}`;
  if (change.type === "gatewayRemove") return `not also ${address}`;
  if (change.type === "addressDeprecate") return `${change.deprecated ? "deprecate" : "prefer"} ${address}`;
  return `${change.type === "addressAdd" ? "add" : "remove"} ${address}`;
}

function create({ slaac = true, addresses = [] as string[], random = (): number => 0.5 } = {}) {
  const sent: Uint8Array[] = [];
  const changes: string[] = [];
  const conflicts: string[] = [];
  const machine = new Autoconfiguration({
    mac: MAC,
    secret: SECRET,
    addresses: [...addresses.map(parseCidr), { address: LINK_LOCAL, prefixLength: 64, family: 6 }],
    linkLocal: LINK_LOCAL,
    slaac,
    mtuBytes: 1500,
    random,
    send: (packet) => sent.push(packet),
    change: (change) => changes.push(text(change)),
    conflict: (address, given) => conflicts.push(`${formatAddress(address)} ${given}`),
  });
  machine.start(0);
  const run = (untilMs: number) => {
    while (machine.deadlineMs <= untilMs) machine.turn(machine.deadlineMs);
  };
  const input = (packet: Uint8Array, nowMs: number) => {
    const message = parseControl(packet);
    if (message) machine.input(message, nowMs);
  };
  const types = () => sent.splice(0).map((packet) => packet[packet[6] === 0 ? 48 : 40]);
  return { machine, sent, changes, conflicts, run, input, types, take: () => changes.splice(0) };
}

const own = (prefix: string, attempt = 0) => formatAddress(stableAddress(parseAddress(prefix), MAC, SECRET, attempt));

describe("Autoconfiguration (RFC 4862, RFC 4861 6.3)", () => {
  test("at the start: probes, listener reports, three solicitations in four-second steps", () => {
    const { run, types, sent } = create({ addresses: ["fd00::1/64"] });
    for (const packet of sent) {
      const { source, destination, payload } = parseIpv6(packet);
      const message = packet[6] === 0 ? payload.subarray(8) : payload;
      expect(checksum6(source, destination, 58, message)).toBe(0);
    }
    expect(types()).toEqual([135, 135, 143]);
    run(499);
    expect(types()).toEqual([]);
    run(500);
    expect(types()).toEqual([133]);
    run(1001);
    expect(types()).toEqual([143]);
    run(60_000);
    expect(types()).toEqual([133, 133]);
  });

  test("without slaac routers are neither asked nor heard", () => {
    const { run, types, input, changes } = create({ slaac: false });
    input(advertisement(1800, [{ prefix: "2001:db8::" }]), 10);
    run(60_000);
    expect(types()).not.toContain(133);
    expect(changes).toEqual([]);
  });

  test("an advertisement: default route, on-link route, and after a second without objection an address", () => {
    const { run, input, take, machine } = create();
    expect(machine.isConfigured).toBe(false);
    input(advertisement(1800, [{ prefix: "2001:db8::" }]), 10);
    expect(take()).toEqual([`route 2001:db8::/64 ::`, `route ::/0 ${ROUTER}`]);
    run(1009);
    expect(take()).toEqual([]);
    run(1011);
    expect(take()).toEqual([`add ${own("2001:db8::")}`]);
    expect(machine.isConfigured).toBe(true);
  });

  test.each([
    ["defended", neighborMessage({ source: "fe80::5", destination: "ff02::1" }, 136, own("2001:db8::"))],
    ["probed for by another", neighborMessage({ source: "::", destination: "ff02::1:ff00:1" }, 135, own("2001:db8::"))],
  ])("an address that is %s is given up for the next, three at most", (_name, objection) => {
    const { run, input, take, conflicts } = create();
    input(advertisement(1800, [{ prefix: "2001:db8::" }]), 10);
    take();
    input(objection, 500);
    expect(conflicts).toEqual([`${own("2001:db8::")} false`]);
    run(5000);
    expect(take()).toEqual([`add ${own("2001:db8::", 1)}`]);
  });

  test("our link-local address is exchanged when another has it; a given one is kept and told of", () => {
    const { input, take, conflicts, run } = create({ addresses: ["fd00::1/64"] });
    input(neighborMessage({ source: "fe80::5", destination: "ff02::1" }, 136, formatAddress(LINK_LOCAL)), 300);
    input(neighborMessage({ source: "fd00::5", destination: "ff02::1" }, 136, "fd00::1"), 300);
    run(2000);
    expect(conflicts).toEqual([`${formatAddress(LINK_LOCAL)} false`, "fd00::1 true"]);
    expect(take()).toEqual([`remove ${formatAddress(LINK_LOCAL)}`, `add ${own("fe80::", 1)}`]);
  });

  test("preferred, deprecated, invalid; the router's lifetime and the prefix's end", () => {
    const { run, input, take } = create();
    input(advertisement(100, [{ prefix: "2001:db8::", valid: 300, preferred: 200 }]), 0);
    run(150_000);
    const address = own("2001:db8::");
    expect(take()).toEqual(["route 2001:db8::/64 ::", `route ::/0 ${ROUTER}`, `add ${address}`, "no route ::/0"]);
    run(250_000);
    expect(take()).toEqual([`deprecate ${address}`]);
    run(400_000);
    expect(take()).toEqual([`remove ${address}`, "no route 2001:db8::/64"]);
  });

  test("a lifetime is not shortened below two hours by one advertisement (5.5.3 (e))", () => {
    const { run, input, take } = create();
    input(advertisement(0, [{ prefix: "2001:db8::", onLink: false, valid: 24 * HOUR, preferred: HOUR }]), 0);
    run(2000);
    take();
    input(advertisement(0, [{ prefix: "2001:db8::", onLink: false, valid: 1, preferred: 1 }]), 3000);
    run(2 * HOUR * 1000 - 1000);
    expect(take()).toEqual([`deprecate ${own("2001:db8::")}`]);
    run(2 * HOUR * 1000 + 4000);
    expect(take()).toEqual([`remove ${own("2001:db8::")}`]);
  });

  test("a renewed advertisement prefers the address again; lifetime 0 takes the router away", () => {
    const { run, input, take } = create();
    input(advertisement(1800, [{ prefix: "2001:db8::", onLink: false, preferred: 10 }]), 0);
    run(20_000);
    take();
    input(advertisement(0, [{ prefix: "2001:db8::", onLink: false }]), 21_000);
    expect(take()).toEqual([`prefer ${own("2001:db8::")}`, "no route ::/0"]);
  });

  test("of two routers the more preferred one counts (RFC 4191)", () => {
    const { input, take } = create();
    input(advertisement(1800, []), 0);
    input(advertisement(1800, [], "fe80::98", 0x08), 1);
    input(advertisement(1800, [], "fe80::97", 0x18), 2);
    input(advertisement(0, [], "fe80::98", 0x08), 3);
    // The others are for when it does not answer (RFC 4861 6.3.6).
    expect(take()).toEqual([
      `route ::/0 ${ROUTER}`,
      `also ${ROUTER}`,
      "route ::/0 fe80::98",
      "also fe80::97",
      `not also ${ROUTER}`,
      `route ::/0 ${ROUTER}`,
    ]);
  });

  describe("what routers advertise about the link (RFC 4861 6.3.4)", () => {
    const about = (link: Link, source = ROUTER) => advertisement(1800, [], source, 0, link);
    const links = (changes: readonly string[]) => changes.filter((change) => change.startsWith("link"));

    test("MTU, hop limit and times; 0 leaves what was there, what came last counts", () => {
      const { input, take } = create();
      input(about({ mtu: 1400, hopLimit: 50, reachable: 20_000, retrans: 2000 }), 0);
      expect(links(take())).toEqual(["link 1400 50 20000 2000"]);
      input(about({}), 2000);
      input(about({ mtu: 1400, hopLimit: 50, reachable: 20_000, retrans: 2000 }), 4000);
      expect(links(take())).toEqual([]);
      input(about({ mtu: 1300 }, "fe80::98"), 6000);
      expect(links(take())).toEqual(["link 1300 50 20000 2000"]);
      input(about({ mtu: 1500 }), 8000);
      expect(links(take())).toEqual(["link 1500 50 20000 2000"]);
    });

    test.each<[string, Link]>([
      ["below IPv6's least MTU", { mtu: 1279 }],
      ["above the device's MTU", { mtu: 1501 }],
      ["of more than 32 bits' worth", { mtu: 0xffffffff }],
      ["reachable for more than an hour", { reachable: 3_600_001 }],
      ["that would have dead routers used for long", { retrans: 10_001 }],
    ])("%s: left out", (_name, link) => {
      const { input, take } = create();
      input(about({ mtu: 1400, reachable: 20_000, retrans: 2000 }), 0);
      take();
      input(about(link), 2000);
      expect(links(take())).toEqual([]);
    });

    test("times that would have neighbours asked all the time are raised", () => {
      const { input, take } = create();
      input(about({ reachable: 1, retrans: 1 }), 0);
      expect(links(take())).toEqual(["link 0 0 100 10"]);
    });

    test("the reachable time: half to one and a half of what is advertised, drawn anew every two hours", () => {
      const draws = [0, 0.999, 0.25];
      const { input, take, run } = create({ random: () => draws.shift() ?? 0.5 });
      // The first draw is the delay of the solicitation.
      input(about({ reachable: 20_000 }), 0);
      expect(links(take())).toEqual(["link 0 0 29980 0"]);
      for (let s = 600; s <= 7200; s += 600) {
        run(s * 1000);
        input(about({ reachable: 20_000 }), s * 1000);
      }
      expect(links(take())).toEqual(["link 0 0 15000 0"]);
    });

    test("routers that disagree: one change a second, the last that was heard", () => {
      const { input, take, run } = create();
      for (let ms = 0; ms < 1000; ms += 10) input(about({ mtu: ms % 20 === 0 ? 1300 : 1400 }), ms);
      expect(links(take())).toEqual(["link 1300 0 0 0"]);
      run(1000);
      expect(links(take())).toEqual(["link 1400 0 0 0"]);
      run(5000);
      expect(links(take())).toEqual([]);
    });

    test("an address is probed for as long as a neighbour has time to answer (RFC 4862 5.4)", () => {
      const { input, take, run } = create();
      input(advertisement(1800, [{ prefix: "2001:db8::" }], ROUTER, 0, { retrans: 3000 }), 10);
      run(3000);
      expect(take().filter((change) => change.startsWith("add"))).toEqual([]);
      run(3010);
      expect(take()).toEqual([`add ${own("2001:db8::")}`]);
    });
  });

  test("a router that says that it is none (any more) is not used; the next one is (RFC 4861 7.2.5)", () => {
    const { input, take } = create();
    const says = (address: string, flags: number) =>
      neighborMessage({ source: address, destination: "ff02::1" }, 136, address, undefined, flags);
    input(advertisement(1800), 0);
    input(advertisement(1800, [], "fe80::98"), 1);
    take();
    input(says(ROUTER, 0xa0000000), 2);
    input(says("fe80::5", 0x20000000), 3);
    expect(take()).toEqual([]);
    input(says(ROUTER, 0x20000000), 4);
    expect(take()).toEqual(["not also fe80::98", "route ::/0 fe80::98"]);
    input(says("fe80::98", 0x20000000), 5);
    expect(take()).toEqual(["no route ::/0"]);
    // Only what it advertises as a router makes it one again.
    input(says(ROUTER, 0xa0000000), 6);
    expect(take()).toEqual([]);
    input(advertisement(1800), 7);
    expect(take()).toEqual([`route ::/0 ${ROUTER}`]);
  });

  test.each([
    ["link-local", { prefix: "fe80::" }],
    ["of another length", { prefix: "2001:db8::", length: 60, onLink: false }],
    ["preferred longer than valid", { prefix: "2001:db8::", valid: 10, preferred: 20 }],
    ["not valid", { prefix: "2001:db8::", valid: 0, preferred: 0, onLink: false }],
  ] as [string, Prefix][])("no address from a prefix that is %s", (_name, prefix) => {
    const { run, input, changes } = create();
    input(advertisement(0, [prefix]), 0);
    run(5000);
    expect(changes).toEqual([]);
  });

  test("a hundred prefixes and routers: a few are taken", () => {
    const { run, input, changes } = create();
    for (let i = 0; i < 100; i++) {
      input(advertisement(1800, [{ prefix: `2001:db8:0:${i.toString(16)}::` }], `fe80::${(i + 1).toString(16)}`), i);
    }
    run(10_000);
    expect(changes.filter((change) => change.startsWith("add")).length).toBe(8);
    expect(changes.filter((change) => change.startsWith("route")).length).toBe(9);
  });

  test("a listener query is answered within its time (RFC 3810)", () => {
    const { run, input, types } = create();
    run(20_000);
    types();
    const query = extension(58, Uint8Array.of(5, 2, 0, 0, 1, 0));
    const body = concat(Uint8Array.of(130, 0, 0, 0, 0x03, 0xe8, 0, 0), new Uint8Array(20));
    input(ipv6({ source: ROUTER, destination: "ff02::1", nextHeader: 0, hopLimit: 1 }, query, body), 20_000);
    run(20_499);
    expect(types()).toEqual([]);
    run(20_501);
    expect(types()).toEqual([143]);
  });

  test("any packet: no exception, bounded answers", () => {
    const property = fc.property(
      fc.array(fc.uint8Array({ minLength: 8, maxLength: 120 }), { maxLength: 30 }),
      (bodies) => {
        const { run, input, machine } = create();
        bodies.forEach((body, i) => {
          const type = [130, 134, 135, 136][i % 4] as number;
          const packet = icmp6({ source: ROUTER, destination: "ff02::1", hopLimit: 255 }, type, { body });
          input(packet, i * 100);
          run(i * 100);
        });
        expect(machine.deadlineMs).toBeGreaterThan(0);
      },
    );
    fc.assert(property, { numRuns: 200 });
  });
});

test("SipHash-2-4: the vectors of its paper", () => {
  expect(sipHash(SECRET, new Uint8Array(0))).toBe(0x726fdb47dd0e0e31n);
  expect(
    sipHash(
      SECRET,
      Uint8Array.from({ length: 15 }, (_, i) => i),
    ),
  ).toBe(0xa129ca6149be45e5n);
});

test("stable addresses differ by prefix, station and attempt, and by nothing else", () => {
  const make = (prefix: string, mac = MAC, attempt = 0) =>
    formatAddress(stableAddress(parseAddress(prefix), mac, SECRET, attempt));
  expect(make("2001:db8::")).toBe(make("2001:db8::ffff"));
  const all = [
    make("2001:db8::"),
    make("2001:db8:0:1::"),
    make("2001:db8::", hex("020000000002")),
    make("2001:db8::", MAC, 1),
  ];
  expect(new Set(all.map((address) => address.slice(-19))).size).toBe(4);
});
