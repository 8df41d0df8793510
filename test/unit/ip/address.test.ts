import { describe, expect, test } from "vitest";
import { NetPopcornError } from "../../../src/errors.ts";
import {
  addressFamily,
  formatAddress,
  formatCidr,
  formatMac,
  parseAddress,
  parseCidr,
  parseMac,
} from "../../../src/ip/address.ts";

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof NetPopcornError) return error.code;
    throw error;
  }
  return "no error";
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

describe("parseAddress", () => {
  test.each([
    ["10.7.0.2", "00000000000000000000ffff0a070002"],
    ["0.0.0.0", "00000000000000000000ffff00000000"],
    ["255.255.255.255", "00000000000000000000ffffffffffff"],
    ["::", "00000000000000000000000000000000"],
    ["::1", "00000000000000000000000000000001"],
    ["fd07::2", "fd070000000000000000000000000002"],
    ["2001:DB8:0:0:8:800:200C:417A", "20010db80000000000080800200c417a"],
    ["1:2:3:4:5:6:7::", "00010002000300040005000600070000"],
    ["::ffff:10.7.0.2", "00000000000000000000ffff0a070002"],
    ["64:ff9b::192.0.2.33", "0064ff9b0000000000000000c0000221"],
    ["1:2:3:4:5:6:1.2.3.4", "00010002000300040005000601020304"],
  ])("%s", (text, bytes) => {
    expect(hex(parseAddress(text))).toBe(bytes);
  });

  test.each([
    "",
    "10.7.0",
    "10.7.0.2.1",
    "10.7.0.256",
    "10.7.0.02",
    "0x0a.7.0.2",
    "10.7.0.2 ",
    "10.7.0.-2",
    "10.7.0.2/24",
    "localhost",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7:8::",
    "::12345",
    "::g",
    "1.2.3.4::",
    "::1.2.3.4:5",
    "::1.2.3",
    "fe80::1%eth0",
  ])("refuses %j", (text) => {
    expect(codeOf(() => parseAddress(text))).toBe("ERR_ADDRESS_FORMAT");
  });

  test("the message names what was given, in one bounded line, and shows the right form", () => {
    expect(() => parseAddress("10.7.0")).toThrow('"10.7.0" is not an IP address; write it like 10.7.0.2 or fd07::2');
    const refused = () => parseAddress(`line\n${"x".repeat(1000)}`);
    expect(refused).toThrow(/^[^\n]{1,160}$/);
  });
});

describe("formatAddress", () => {
  // RFC 5952, sections 4 and 5.
  test.each([
    ["2001:0db8::0001", "2001:db8::1"],
    ["2001:db8:0:0:0:0:2:1", "2001:db8::2:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:DB8::A", "2001:db8::a"],
    ["::", "::"],
    ["1::", "1::"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
  ])("%s becomes %s", (text, canonical) => {
    expect(formatAddress(parseAddress(text))).toBe(canonical);
  });

  test("refuses another length", () => {
    expect(codeOf(() => formatAddress(new Uint8Array(4)))).toBe("EINVAL");
  });
});

test("addressFamily tells IPv4-mapped addresses from IPv6", () => {
  expect(addressFamily(parseAddress("10.7.0.2"))).toBe(4);
  expect(addressFamily(parseAddress("::fffe:10.7.0.2"))).toBe(6);
  expect(addressFamily(parseAddress("1::ffff:10.7.0.2"))).toBe(6);
});

describe("parseCidr", () => {
  test.each([
    ["10.7.0.2/24", 4, 24, "10.7.0.2/24"],
    ["10.7.0.2/0", 4, 0, "10.7.0.2/0"],
    ["10.7.0.2/32", 4, 32, "10.7.0.2/32"],
    ["fd07::2/64", 6, 64, "fd07::2/64"],
    ["::/128", 6, 128, "::/128"],
    ["::ffff:10.7.0.2/120", 4, 24, "10.7.0.2/24"],
  ] as const)("%s", (text, family, prefixLength, formatted) => {
    const cidr = parseCidr(text);
    expect([cidr.family, cidr.prefixLength, formatCidr(cidr)]).toEqual([family, prefixLength, formatted]);
  });

  test.each([
    "10.7.0.2",
    "10.7.0.2/",
    "10.7.0.2/33",
    "10.7.0.2/-1",
    "10.7.0.2/2 4",
    "10.7.0.2/024",
    "10.7.0.2/24/8",
    "fd07::2/129",
    "::ffff:10.7.0.2/24",
    "/24",
  ])("refuses %j", (text) => {
    expect(codeOf(() => parseCidr(text))).toBe("ERR_ADDRESS_FORMAT");
  });
});

describe("Ethernet addresses", () => {
  test("are read with either separator and written with colons", () => {
    expect(hex(parseMac("02:00:5E:10:00:01"))).toBe("02005e100001");
    expect(formatMac(parseMac("02-00-5e-10-00-01"))).toBe("02:00:5e:10:00:01");
  });

  test.each(["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "02:00-5e:10:00:01", "2:0:5e:10:0:1", "02005e100001"])(
    "refuses %j",
    (text) => {
      expect(codeOf(() => parseMac(text))).toBe("ERR_ADDRESS_FORMAT");
    },
  );

  test("refuses to write another length", () => {
    expect(codeOf(() => formatMac(new Uint8Array(5)))).toBe("EINVAL");
  });
});
