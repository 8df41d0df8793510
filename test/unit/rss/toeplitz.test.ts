import { describe, expect, it } from "vitest";
import { parseAddress } from "../../../src/ip/address.ts";
import {
  portsWord,
  TOEPLITZ_KEY_DEFAULT,
  toeplitz,
  toeplitzBuild,
  toeplitzV4,
  toeplitzV4Addresses,
} from "../../../src/rss/toeplitz.ts";
import { createProbe } from "../../helpers/probe.ts";

/**
 * Microsoft, "Verifying the RSS Hash Calculation": destination, its port, source, its port, hash of the addresses,
 * hash with ports. The hash input is source address, destination address, source port, destination port.
 */
const VECTORS = [
  ["161.142.100.80", 1766, "66.9.149.187", 2794, 0x323e8fc2, 0x51ccc178],
  ["65.69.140.83", 4739, "199.92.111.2", 14230, 0xd718262a, 0xc626b0ea],
  ["12.22.207.184", 38024, "24.19.198.95", 12898, 0xd2d0a5de, 0x5c2b394a],
  ["209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xafc7327f],
  ["202.188.127.2", 1303, "153.39.163.191", 44251, 0x5d1809c5, 0x10e828a2],
  ["3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2cc18cd5, 0x40207d3d],
  ["ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0f0c461c, 0xdde51bbf],
  ["fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4b61e985, 0x02d1feef],
] as const;

function packetOrder(text: string): Uint8Array {
  return parseAddress(text).subarray(text.includes(":") ? 0 : 12);
}

function word(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

describe.each(["release", "debug"] as const)(
  "assembly/rss/toeplitz (%s) against the RSS verification suite",
  (build) => {
    const { wasm, bytes, free } = createProbe(build);
    const tables = free;
    const key = free + 65536;
    const input = key + 64;
    bytes.set(TOEPLITZ_KEY_DEFAULT, key);
    wasm.toeplitzBuild(tables, key);

    it.each(VECTORS)("%s:%d from %s:%d", (destination, destinationPort, source, sourcePort, byAddresses, byPorts) => {
      const [from, to] = [packetOrder(source), packetOrder(destination)];
      const ports = portsWord(sourcePort, destinationPort);
      const v4 = from.length === 4;
      bytes.set(from, input);
      bytes.set(to, input + from.length);
      new DataView(bytes.buffer).setUint32(input + 2 * from.length, ports, true);
      const addresses = v4
        ? wasm.toeplitzV4Addresses(tables, word(from), word(to))
        : wasm.toeplitzV6Addresses(tables, input);
      const full = v4 ? wasm.toeplitzV4(tables, word(from), word(to), ports) : wasm.toeplitzV6(tables, input, ports);
      expect(addresses >>> 0).toBe(byAddresses);
      expect(full >>> 0).toBe(byPorts);
      expect(wasm.toeplitzBitwise(key, input, 2 * from.length) >>> 0).toBe(byAddresses);
      expect(wasm.toeplitzBitwise(key, input, 2 * from.length + 4) >>> 0).toBe(byPorts);
    });
  },
);

describe("src/rss/toeplitz against the RSS verification suite", () => {
  const tables = toeplitzBuild(TOEPLITZ_KEY_DEFAULT);

  it.each(VECTORS)("%s:%d from %s:%d", (destination, destinationPort, source, sourcePort, byAddresses, byPorts) => {
    const [from, to] = [packetOrder(source), packetOrder(destination)];
    const ports = Uint8Array.of(sourcePort >> 8, sourcePort & 255, destinationPort >> 8, destinationPort & 255);
    expect(toeplitz(tables, Uint8Array.of(...from, ...to))).toBe(byAddresses);
    expect(toeplitz(tables, Uint8Array.of(...from, ...to, ...ports))).toBe(byPorts);
    if (from.length > 4) return;
    expect(toeplitzV4Addresses(tables, word(from), word(to))).toBe(byAddresses);
    expect(toeplitzV4(tables, word(from), word(to), word(ports))).toBe(byPorts);
  });

  it("takes keys of 40 and 52 bytes only, and of 52 uses the first 40", () => {
    const long = [...TOEPLITZ_KEY_DEFAULT, ...new Array<number>(12).fill(0xff)];
    expect(toeplitzBuild(long)).toEqual(tables);
    expect(() => toeplitzBuild(new Uint8Array(41))).toThrow(expect.objectContaining({ code: "ERR_RSS_KEY" }));
  });
});
