import fc from "../helpers/property.ts";
import { describe, expect, it } from "vitest";
import { PortInversion } from "../../src/rss/invert.ts";
import { TOEPLITZ_KEY_DEFAULT, toeplitz, toeplitzBuild, toeplitzReply } from "../../src/rss/toeplitz.ts";

/** A 16-byte address: IPv4 as ::ffff:a.b.c.d, or any other. */
function address(v4: boolean, bytes: Uint8Array): Uint8Array {
  return v4 ? Uint8Array.of(...new Array(10).fill(0), 0xff, 0xff, ...bytes.subarray(0, 4)) : bytes;
}

/** The packet's own hash input. */
function tuple(v4: boolean, source: Uint8Array, sourcePort: number, destination: Uint8Array, port: number): Uint8Array {
  const from = v4 ? 12 : 0;
  const ports = [sourcePort >> 8, sourcePort & 255, port >> 8, port & 255];
  return Uint8Array.of(...source.subarray(from), ...destination.subarray(from), ...ports);
}

const anyAddress = fc.uint8Array({ minLength: 16, maxLength: 16 });
const anyPort = fc.integer({ min: 1, max: 65535 });
const anyKey = fc.oneof(
  fc.uint8Array({ minLength: 40, maxLength: 40 }),
  fc.constant(Uint8Array.from(TOEPLITZ_KEY_DEFAULT)),
  // The symmetric key of Woo and Park, and one that does not hash at all: L has not full rank.
  fc.constant(new Uint8Array(40).map((_, i) => (i & 1 ? 0x5a : 0x6d))),
  fc.constant(new Uint8Array(40)),
);
const entryBits = fc.integer({ min: 0, max: 9 });

/** All ports of the range by the entry that the whole hash, computed from the packet's bytes, gives them. */
function bruteForce(hashOf: (port: number) => number, entries: number, first: number, last: number): number[][] {
  const ports: number[][] = Array.from({ length: entries }, () => []);
  for (let port = first; port <= last; port++) ports[hashOf(port) & (entries - 1)]?.push(port);
  return ports;
}

describe("PortInversion", () => {
  it("enumerates exactly the ports that hashing all 65,536 finds, ascending", () => {
    fc.assert(
      fc.property(
        anyKey,
        fc.boolean(),
        anyAddress,
        anyAddress,
        anyPort,
        entryBits,
        (key, v4, sourceBytes, destinationBytes, sourcePort, bits) => {
          const tables = toeplitzBuild(key);
          const entries = 1 << bits;
          const source = address(v4, sourceBytes);
          const destination = address(v4, destinationBytes);
          const input = tuple(v4, source, sourcePort, destination, 0);
          const hashOf = (port: number): number => {
            input[input.length - 2] = port >> 8;
            input[input.length - 1] = port & 255;
            return toeplitz(tables, input);
          };
          const fixed = toeplitzReply(tables, source, sourcePort, destination, v4);
          expect(fixed).toBe(hashOf(0));
          const inversion = new PortInversion(tables, v4 ? 4 : 6, entries, { first: 0, last: 65535 });
          bruteForce(hashOf, entries, 0, 65535).forEach((ports, entry) => {
            const target = (entry ^ fixed) & (entries - 1);
            const found = Array.from({ length: inversion.count(target) }, (_, i) => inversion.port(target, i));
            expect(found).toEqual(ports);
          });
        },
      ),
      { numRuns: 25 },
    );
  });

  it("keeps to any range of ports", () => {
    const tables = toeplitzBuild(TOEPLITZ_KEY_DEFAULT);
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 65535 }),
        fc.integer({ min: 0, max: 3000 }),
        entryBits,
        (first, size, bits) => {
          const last = Math.min(65535, first + size);
          const entries = 1 << bits;
          const inversion = new PortInversion(tables, 4, entries, { first, last });
          let countMax = 0;
          bruteForce((port) => inversion.contribution(port), entries, first, last).forEach((ports, target) => {
            const found = Array.from({ length: inversion.count(target) }, (_, i) => inversion.port(target, i));
            expect(found).toEqual(ports);
            countMax = Math.max(countMax, ports.length);
          });
          expect(inversion.countMax).toBe(countMax);
        },
      ),
      { numRuns: 200 },
    );
  });
});
