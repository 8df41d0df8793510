import fc from "../helpers/property.ts";
import { expect, test } from "vitest";
import { NetPopcornError } from "../../src/errors.ts";
import { formatAddress, formatCidr, formatMac, parseAddress, parseCidr, parseMac } from "../../src/ip/address.ts";

const addresses = fc.oneof(
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  // Many zero groups, where "::" and the mapped form live.
  fc.array(fc.constantFrom(0, 0, 0, 0xff, 1), { minLength: 16, maxLength: 16 }).map((bytes) => Uint8Array.from(bytes)),
  fc
    .uint8Array({ minLength: 4, maxLength: 4 })
    .map((v4) => Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...v4])),
);

test("an address survives being written and read", () => {
  fc.assert(
    fc.property(addresses, (address) => {
      expect(parseAddress(formatAddress(address))).toEqual(address);
    }),
  );
});

test("the written form is canonical: the URL parser of the platform writes IPv6 alike", () => {
  fc.assert(
    fc.property(addresses, (address) => {
      const text = formatAddress(address);
      if (!text.includes(":")) return;
      expect(new URL(`http://[${text}]/`).hostname).toBe(`[${text}]`);
    }),
  );
});

test("a prefix survives being written and read", () => {
  fc.assert(
    fc.property(addresses, fc.nat(128), (address, bits) => {
      const text = formatAddress(address);
      const prefixLength = text.includes(":") ? bits : bits % 33;
      const cidr = parseCidr(`${text}/${prefixLength}`);
      expect(cidr.address).toEqual(address);
      expect(formatCidr(cidr)).toBe(`${text}/${prefixLength}`);
    }),
  );
});

test("an Ethernet address survives being written and read", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (mac) => {
      expect(parseMac(formatMac(mac))).toEqual(mac);
    }),
  );
});

test("any other text is refused with a code, never with another exception", () => {
  const nearMisses = fc.string({ unit: fc.constantFrom(..."0123456789abcdef:./ -%"), maxLength: 50 });
  fc.assert(
    fc.property(fc.oneof(nearMisses, fc.string()), (text) => {
      for (const parse of [parseAddress, parseCidr, parseMac]) {
        try {
          parse(text);
        } catch (error) {
          expect(error).toBeInstanceOf(NetPopcornError);
          expect((error as NetPopcornError).code).toBe("ERR_ADDRESS_FORMAT");
        }
      }
    }),
  );
});
