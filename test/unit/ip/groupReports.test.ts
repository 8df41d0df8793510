import { describe, expect, test } from "vitest";
import { parseAddress } from "../../../src/ip/address.ts";
import { GroupReports } from "../../../src/ip/groupReports.ts";
import { parseGroupQuery } from "../../../src/ip/groupPackets.ts";
import { concat, internetChecksum, parseIpv4, v4Bytes } from "../../helpers/packets.ts";
import { checked, checksum6, parseIpv6 } from "../../helpers/packets6.ts";

const GROUP = "239.1.2.3";
const OTHER = "224.0.0.251";

/** What an IGMP packet says: "v3 joined 239.1.2.3 → 224.0.0.22". */
function igmpText(packet: Uint8Array): string {
  const ip = parseIpv4(packet);
  expect(ip).toMatchObject({ ttl: 1, tos: 0xc0, protocol: 2, checksumValid: true });
  expect([...packet.subarray(20, 24)]).toEqual([0x94, 4, 0, 0]);
  const message = ip.payload;
  expect(internetChecksum(message)).toBe(0);
  const address = (at: number) => [...message.subarray(at, at + 4)].join(".");
  const types: Record<number, string> = { 18: "v1 report", 22: "v2 report", 23: "v2 leave" };
  if (message[0] !== 0x22) return `${types[message[0] as number]} ${address(4)} to ${ip.destination}`;
  const records = Array.from({ length: message[7] as number }, (_, i) => {
    expect([...message.subarray(9 + 8 * i, 12 + 8 * i)]).toEqual([0, 0, 0]);
    return `${["", "", "is", "left", "joined"][message[8 + 8 * i] as number]} ${address(12 + 8 * i)}`;
  });
  return `v3 ${records.join(", ")} to ${ip.destination}`;
}

function igmpQuery(code: number, group = "0.0.0.0", isV3 = true): Uint8Array {
  const message = new Uint8Array(isV3 ? 12 : 8);
  message.set([0x11, code]);
  message.set(v4Bytes(group), 4);
  const header = new Uint8Array(24);
  header.set([0x46, 0, 0, 24 + message.length, 0, 0, 0, 0, 1, 2]);
  return concat(header, message);
}

function mldQuery(code: number, group = "::", isV2 = true): Uint8Array {
  const message = new Uint8Array(isV2 ? 28 : 24);
  message.set([130, 0, 0, 0, code >> 8, code & 255]);
  message.set(parseAddress(group), 8);
  return checked({ source: "fe80::9", destination: "ff02::1", nextHeader: 58, hopLimit: 1 }, message, 2);
}

function world(family: 4 | 6, random = 0.5) {
  const packets: Uint8Array[] = [];
  const reports = new GroupReports({
    family,
    source: () => parseAddress(family === 4 ? "10.0.0.1" : "fe80::1"),
    random: () => random,
    send: (packet) => packets.push(packet),
  });
  let nowMs = 1000;
  /** What is sent in this time, with the instant from now. */
  const sent = (ms: number, text: (packet: Uint8Array) => string): string[] => {
    const begin = nowMs;
    const lines: string[] = [];
    const take = () => {
      for (const packet of packets.splice(0)) lines.push(`${Math.round(nowMs - begin)}: ${text(packet)}`);
    };
    take();
    while (reports.deadlineMs <= begin + ms) {
      nowMs = Math.max(nowMs, reports.deadlineMs);
      reports.turn(nowMs);
      take();
    }
    nowMs = begin + ms;
    return lines;
  };
  const query = (packet: Uint8Array) => {
    const parsed = parseGroupQuery(packet);
    if (!parsed) throw new Error("not taken for a query");
    reports.input(parsed, nowMs);
  };
  return { reports, sent, query, update: (...groups: string[]) => reports.update(groups.map(parseAddress), nowMs) };
}

describe("IGMP", () => {
  test("joining and leaving is told twice, within a second (RFC 3376 5.1)", () => {
    const { update, sent } = world(4);
    update(GROUP);
    expect(sent(5000, igmpText)).toEqual([
      "0: v3 joined 239.1.2.3 to 224.0.0.22",
      "500: v3 joined 239.1.2.3 to 224.0.0.22",
    ]);
    update(GROUP, OTHER);
    expect(sent(100, igmpText)).toEqual(["0: v3 joined 224.0.0.251 to 224.0.0.22"]);
    // What has not been told often enough is taken back at once.
    update();
    expect(sent(5000, igmpText)).toEqual([
      "0: v3 left 239.1.2.3, left 224.0.0.251 to 224.0.0.22",
      "500: v3 left 239.1.2.3, left 224.0.0.251 to 224.0.0.22",
    ]);
  });

  test("all hosts, other families and groups within the host are told to nobody", () => {
    const { update, sent } = world(4);
    update("224.0.0.1", "ff02::fb");
    expect(sent(5000, igmpText)).toEqual([]);
    const six = world(6);
    six.update("224.0.0.251", "ff02::1", "ff01::fb");
    expect(six.sent(5000, () => "")).toEqual([]);
  });

  test("a query is answered once, by all groups, some time within what it grants (RFC 3376 5.2)", () => {
    const { update, sent, query } = world(4);
    update(GROUP, OTHER);
    sent(5000, igmpText);
    query(igmpQuery(100));
    query(igmpQuery(100));
    expect(sent(20_000, igmpText)).toEqual(["5050: v3 is 239.1.2.3, is 224.0.0.251 to 224.0.0.22"]);
    query(igmpQuery(10, OTHER));
    expect(sent(20_000, igmpText)).toEqual(["550: v3 is 224.0.0.251 to 224.0.0.22"]);
    query(igmpQuery(10, "239.9.9.9"));
    expect(sent(20_000, igmpText)).toEqual([]);
    // 0x8f: (15 | 16) << 3 tenths of a second.
    query(igmpQuery(0x8f, OTHER));
    expect(sent(30_000, igmpText)).toEqual(["12450: v3 is 224.0.0.251 to 224.0.0.22"]);
  });

  test("an urgent query is not answered at once, nor more often than ten times a second", () => {
    const { update, sent, query } = world(4, 0);
    update(GROUP);
    sent(5000, igmpText);
    let answers = 0;
    for (let i = 0; i < 1000; i++) {
      query(igmpQuery(0));
      answers += sent(1, igmpText).length;
    }
    expect(answers).toBeGreaterThan(8);
    expect(answers).toBeLessThanOrEqual(10);
  });

  test("a router that speaks IGMPv2 is spoken to in it, for 260 s (RFC 3376 7.2.1)", () => {
    const { update, sent, query } = world(4);
    query(igmpQuery(10, "0.0.0.0", false));
    update(GROUP);
    expect(sent(20_000, igmpText)).toEqual([
      "0: v2 report 239.1.2.3 to 239.1.2.3",
      "5000: v2 report 239.1.2.3 to 239.1.2.3",
    ]);
    query(igmpQuery(10, GROUP, false));
    expect(sent(20_000, igmpText)).toEqual(["550: v2 report 239.1.2.3 to 239.1.2.3"]);
    update();
    expect(sent(20_000, igmpText)).toEqual([
      "0: v2 leave 239.1.2.3 to 224.0.0.2",
      "5000: v2 leave 239.1.2.3 to 224.0.0.2",
    ]);
    sent(260_000, igmpText);
    update(GROUP);
    expect(sent(1000, igmpText)[0]).toBe("0: v3 joined 239.1.2.3 to 224.0.0.22");
  });

  test("IGMPv1 knows reports only, and ten seconds", () => {
    const { update, sent, query } = world(4);
    query(igmpQuery(0, "0.0.0.0", false));
    update(GROUP);
    expect(sent(20_000, igmpText)).toHaveLength(2);
    query(igmpQuery(0, "0.0.0.0", false));
    expect(sent(20_000, igmpText)).toEqual(["5050: v1 report 239.1.2.3 to 239.1.2.3"]);
    update();
    expect(sent(20_000, igmpText)).toEqual([]);
  });

  test("the end of the host is the end of its memberships", () => {
    const { reports, update, sent } = world(4);
    update(GROUP);
    sent(5000, igmpText);
    reports.close();
    expect(sent(5000, igmpText)).toEqual(["0: v3 left 239.1.2.3 to 224.0.0.22"]);
  });
});

describe("MLD", () => {
  const mldText = (packet: Uint8Array): string => {
    const ip = parseIpv6(packet);
    expect(ip).toMatchObject({ hopLimit: 1, nextHeader: 0 });
    expect([...ip.payload.subarray(0, 8)]).toEqual([58, 0, 5, 2, 0, 0, 1, 0]);
    const message = ip.payload.subarray(8);
    expect(checksum6(ip.source, ip.destination, 58, message)).toBe(0);
    const kind = message[0] === 143 ? `v2 ${message[8]}` : `v1 ${message[0]}`;
    return `${kind} ...${message.at(-1)} to ff02::${(ip.destination[15] as number).toString(16)}`;
  };

  test("joining, answering and leaving by MLDv2 (RFC 3810)", () => {
    const { update, sent, query } = world(6);
    update("ff02::fb");
    expect(sent(5000, mldText)).toEqual(["0: v2 4 ...251 to ff02::16", "500: v2 4 ...251 to ff02::16"]);
    query(mldQuery(10_000));
    expect(sent(20_000, mldText)).toEqual(["5050: v2 2 ...251 to ff02::16"]);
    query(mldQuery(1000, "ff02::fb"));
    expect(sent(20_000, mldText)).toEqual(["550: v2 2 ...251 to ff02::16"]);
    update();
    expect(sent(5000, mldText)).toEqual(["0: v2 3 ...251 to ff02::16", "500: v2 3 ...251 to ff02::16"]);
  });

  test("a router that speaks MLDv1 (RFC 3810 8)", () => {
    const { update, sent, query } = world(6);
    query(mldQuery(1000, "::", false));
    update("ff02::fb");
    expect(sent(20_000, mldText)).toEqual(["0: v1 131 ...251 to ff02::fb", "5000: v1 131 ...251 to ff02::fb"]);
    update();
    expect(sent(20_000, mldText)[0]).toBe("0: v1 132 ...251 to ff02::2");
  });
});

test("sixty-four groups are told in packets that fit", () => {
  const { update, sent } = world(6);
  update(...Array.from({ length: 64 }, (_, i) => `ff02::1:${i}`));
  expect(sent(0, (packet) => (packet.length <= 1024 ? "fits" : "too long"))).toEqual(["0: fits", "0: fits"]);
});

test.each([[[]], [[0x46]], [[0x60]], [[0x46, ...new Array(40).fill(0)]], [[0x60, ...new Array(80).fill(0)]]])(
  "what is no query is taken for none: %j",
  (bytes) => {
    expect(parseGroupQuery(Uint8Array.from(bytes))).toBeUndefined();
  },
);
