import { describe, expect, it } from "vitest";
import { parseAddress, parseCidr, parseMac } from "../../../src/ip/address.ts";
import {
  type KernelConfig,
  resolveTuning,
  TUNING_RANGES,
  type Tuning,
  writeConfig,
} from "../../../src/kernel/config.ts";
import * as C from "../../../src/layout/config.ts";
import { CONFIG_BASE, MAP_BASE } from "../../../src/layout/kernelMemory.ts";
import { KernelMemory } from "../../../src/views/kernelMemory.ts";
import { createMemory } from "../../../src/wasm/load.ts";

describe("resolveTuning", () => {
  it("fills in defaults that lie in their own ranges", () => {
    const tuning = resolveTuning({}, 1);
    for (const [name, range] of Object.entries(TUNING_RANGES)) {
      const value = tuning[name as keyof Tuning];
      expect(value, name).toBeGreaterThanOrEqual(range.min);
      expect(value, name).toBeLessThanOrEqual(range.max);
    }
    expect(tuning).toMatchObject({
      timeWaitMs: 60_000,
      rtoMinUs: 200_000,
      rtoMaxUs: 120_000_000,
      rxRingBytes: 1 << 20,
    });
    expect(tuning.streamPoolBytes).toBe(tuning.memoryBytes / 2);
  });

  it("makes the rings of many lanes smaller, unless told otherwise", () => {
    expect(resolveTuning({}, 16).rxRingBytes).toBe(256 * 1024);
    expect(resolveTuning({ rxRingBytes: 1 << 21 }, 16).rxRingBytes).toBe(1 << 21);
  });

  it("halves the memory that was given for the stream pool", () => {
    expect(resolveTuning({ memoryBytes: 64 << 20 }, 1).streamPoolBytes).toBe(32 << 20);
  });

  it.each([
    [{ connectionsMax: 0 }, /connectionsMax is 0.*1 to 16777215/],
    [{ connectionsMax: 1.5 }, /connectionsMax is 1.5/],
    [{ timeWaitMs: -1 }, /timeWaitMs/],
    [{ timeWaitMs: Number.NaN }, /timeWaitMs is NaN/],
    [{ memoryBytes: 64 * 1024 * 1024 + 1 }, /memoryBytes.*multiple of 65536/],
    [{ rxRingBytes: 100_000 }, /rxRingBytes.*power of two/],
    [{ txRingBytes: 3 << 16 }, /txRingBytes.*power of two/],
    [{ ephemeralPortFirst: 60000, ephemeralPortLast: 50000 }, /ephemeralPortFirst is 60000.*at most ephemeralPortLast/],
    [{ rtoMinUs: 2_000_000, rtoMaxUs: 1_500_000 }, /rtoMinUs is 2000000/],
    [{ memoryBytes: 8 << 20, streamPoolBytes: 16 << 20 }, /streamPoolBytes/],
  ])("refuses %o with the option and its range", (tuning, message) => {
    expect(() => resolveTuning(tuning, 1)).toThrow(expect.objectContaining({ code: "ERR_OPTION_RANGE" }));
    expect(() => resolveTuning(tuning, 1)).toThrow(message);
  });

  it("refuses an option that does not exist", () => {
    const misspelt = { timeWaitMsec: 1 } as unknown as Partial<Tuning>;
    expect(() => resolveTuning(misspelt, 1)).toThrow(expect.objectContaining({ code: "ERR_OPTION_UNKNOWN" }));
  });
});

describe("writeConfig", () => {
  const config: KernelConfig = {
    kernelId: 3,
    seed: Uint32Array.of(1, 2, 3, 0xffffffff),
    mac: parseMac("02:00:5e:10:00:01"),
    addresses: [parseCidr("10.7.0.2/24"), parseCidr("fd07::2/64")],
    gateway: parseAddress("10.7.0.1"),
    mtuBytes: 1500,
    rxLanes: 2,
    tsoBytesMax: 65483,
    checksumOffload: true,
    timestamps: true,
    noDelay: false,
    tuning: resolveTuning({ memoryBytes: 4 << 20, connectionsMax: 77 }, 2),
  };

  it("writes every field at its place, little-endian, and nothing behind the record", () => {
    const memory = new KernelMemory(createMemory(4 << 20, false));
    writeConfig(memory, config);
    const word = (offset: number) => memory.loadU32(CONFIG_BASE + offset);
    expect(word(C.CONFIG_KERNEL_ID)).toBe(3);
    expect(word(C.CONFIG_SEED + 12)).toBe(0xffffffff);
    expect(word(C.CONFIG_CONNECTIONS_MAX)).toBe(77);
    expect(word(C.CONFIG_RX_LANES)).toBe(2);
    expect(word(C.CONFIG_RX_RING_BYTES)).toBe(256 * 1024);
    expect(word(C.CONFIG_TSO_BYTES_MAX)).toBe(65483);
    expect(word(C.CONFIG_FLAGS)).toBe(C.CONFIG_FLAG_CHECKSUM_OFFLOAD | C.CONFIG_FLAG_TIMESTAMPS);
    // 127.0.0.1 and ::1 are behind those given.
    expect(word(C.CONFIG_ADDRESS_COUNT)).toBe(4);
    const bytes = (offset: number, length: number) => [
      ...memory.bytes.subarray(CONFIG_BASE + offset, CONFIG_BASE + offset + length),
    ];
    expect(bytes(C.CONFIG_MAC, 8)).toEqual([2, 0, 0x5e, 0x10, 0, 1, 1500 & 255, 1500 >> 8]);
    expect(bytes(C.CONFIG_ADDRESSES + 10, 7)).toEqual([255, 255, 10, 7, 0, 2, 24]);
    expect(bytes(C.CONFIG_ADDRESSES + C.ADDRESS_SIZE_BYTES, 2)).toEqual([0xfd, 7]);
    expect(bytes(C.CONFIG_ADDRESSES + C.ADDRESS_SIZE_BYTES + C.ADDRESS_PREFIX_LENGTH, 1)).toEqual([64]);
    const loopback = C.CONFIG_ADDRESSES + 2 * C.ADDRESS_SIZE_BYTES;
    expect(bytes(loopback + 12, 5)).toEqual([127, 0, 0, 1, 32]);
    expect(bytes(loopback + C.ADDRESS_SIZE_BYTES + 15, 2)).toEqual([1, 128]);
    expect(bytes(C.CONFIG_GATEWAY + 12, 4)).toEqual([10, 7, 0, 1]);
    expect(memory.bytes.subarray(CONFIG_BASE + C.CONFIG_SIZE_BYTES, MAP_BASE).every((byte) => byte === 0)).toBe(true);
  });

  it("refuses more addresses than the record holds", () => {
    const memory = new KernelMemory(createMemory(4 << 20, false));
    const addresses = Array.from({ length: C.ADDRESSES_MAX + 1 }, (_, i) => parseCidr(`10.7.0.${i + 1}/24`));
    expect(() => writeConfig(memory, { ...config, addresses })).toThrow(/number of them.*1 to 32/);
  });
});
