import { describe, expect, it } from "vitest";
import { type CapturedFrame, readCapture } from "../../../src/device/pcapReader.ts";
import { CAPTURE_IN, CAPTURE_OUT, interfaceBlock, packetBlock, sectionHeader } from "../../../src/device/pcapng.ts";
import { Prng } from "../../../src/sim/prng.ts";
import { concat, hex, pattern } from "../../helpers/packets.ts";

const malformed = expect.objectContaining({ code: "ERR_CAPTURE_FORMAT" });
const read = (file: Uint8Array): CapturedFrame[] => [...readCapture(file)];

/** A classic file with two frames, in any of its four forms. */
function classic(little: boolean, nanoseconds: boolean): Uint8Array {
  const file = new Uint8Array(24 + 16 + 3 + 16 + 60);
  const view = new DataView(file.buffer);
  const words = [nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4, little ? 0x00040002 : 0x00020004, 0, 0, 65535, 1];
  for (const [i, word] of words.entries()) view.setUint32(i * 4, word, little);
  const put = (at: number, seconds: number, fraction: number, bytes: number, original: number): void => {
    const header = [seconds, fraction, bytes, original];
    for (const [i, word] of header.entries()) view.setUint32(at + i * 4, word, little);
    file.set(pattern(bytes, at), at + 16);
  };
  put(24, 0xfffffffe, 999_999, 3, 1500);
  put(43, 1, 2, 60, 60);
  return file;
}

const FILE = concat(
  sectionHeader(),
  interfaceBlock("queue0"),
  interfaceBlock("queue1"),
  packetBlock(0, 1_700_000_000_123_456_789n, pattern(61, 1), CAPTURE_IN),
  packetBlock(1, 1_700_000_000_123_456_790n, pattern(1514, 2), CAPTURE_OUT),
  packetBlock(1, 0n, new Uint8Array(0), CAPTURE_OUT),
);

describe("pcapng", () => {
  it("reads back what it writes, to the nanosecond", () => {
    expect(read(FILE)).toEqual([
      {
        timeNs: 1_700_000_000_123_456_789n,
        interfaceId: 0,
        linkType: 1,
        frame: pattern(61, 1),
        originalBytes: 61,
        direction: "in",
      },
      {
        timeNs: 1_700_000_000_123_456_790n,
        interfaceId: 1,
        linkType: 1,
        frame: pattern(1514, 2),
        originalBytes: 1514,
        direction: "out",
      },
      { timeNs: 0n, interfaceId: 1, linkType: 1, frame: new Uint8Array(0), originalBytes: 0, direction: "out" },
    ]);
  });

  it("reads a big-endian section after a little-endian one, other resolutions and block types", () => {
    const section = hex("0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c");
    // Link type 101, snap length 4, if_tsresol 2^-10, if_tsoffset 100 s.
    const options = hex("0009 0001 8a000000 000e 0008 0000000000000064 0000 0000");
    const link = concat(hex("00000001 0000002c 0065 0000 00000004"), options, hex("0000002c"));
    const unknown = hex("0bad0bad 00000010 01020304 00000010");
    const simple = hex("00000003 00000014 00000009 aabbccdd 00000014");
    const old = hex("00000002 00000024 0000 0007 00000000 00000600 00000002 00000003 eeff0000 00000024");
    const [a, b, c, first, second] = read(concat(FILE, section, unknown, link, simple, old));
    expect([a, b, c].map((frame) => frame?.interfaceId)).toEqual([0, 1, 1]);
    expect(first).toMatchObject({ timeNs: 0n, linkType: 101, frame: hex("aabbccdd"), originalBytes: 9 });
    expect(second).toMatchObject({ timeNs: 101_500_000_000n, linkType: 101, frame: hex("eeff"), originalBytes: 3 });
  });

  it.each([
    ["an unknown magic number", hex("01020304 05060708")],
    ["nothing", new Uint8Array(0)],
    [
      "a packet of an interface that is not described",
      concat(sectionHeader(), packetBlock(0, 0n, pattern(9), CAPTURE_IN)),
    ],
    ["a section without byte-order magic", hex("0a0d0d0a 1c000000 00000000 01000000 ffffffff ffffffff 1c000000")],
  ])("refuses %s", (_, file) => {
    expect(() => read(file)).toThrow(malformed);
  });

  it("gives the frames before the place where a file ends or breaks", () => {
    for (let length = 1; length < FILE.length; length++) {
      const frames: CapturedFrame[] = [];
      const take = (): void => {
        for (const frame of readCapture(FILE.subarray(0, length))) frames.push(frame);
      };
      // A file that ends between two blocks is whole.
      let whole = false;
      try {
        take();
        whole = true;
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_CAPTURE_FORMAT" });
      }
      expect(frames).toEqual(read(FILE).slice(0, frames.length));
      if (whole) expect(FILE.length - length).toBeGreaterThan(11);
    }
  });

  it("survives any change of any byte: frames or a clean refusal", () => {
    const prng = new Prng(11);
    for (let round = 0; round < 4000; round++) {
      const file = (prng.below(4) === 0 ? classic(prng.below(2) === 0, true) : FILE).slice();
      for (let i = prng.below(4); i >= 0; i--) file[prng.below(Math.min(file.length, 300))] = prng.u32();
      try {
        for (const { frame } of readCapture(file)) expect(frame.length).toBeLessThanOrEqual(file.length);
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_CAPTURE_FORMAT" });
      }
    }
  });
});

describe("pcap", () => {
  it.each([
    [true, false],
    [true, true],
    [false, false],
    [false, true],
  ])("reads little-endian %s, nanoseconds %s", (little, nanoseconds) => {
    const unit = nanoseconds ? 1n : 1000n;
    expect(read(classic(little, nanoseconds))).toEqual([
      {
        timeNs: 4_294_967_294_000_000_000n + 999_999n * unit,
        interfaceId: 0,
        linkType: 1,
        frame: pattern(3, 24),
        originalBytes: 1500,
        direction: undefined,
      },
      {
        timeNs: 1_000_000_000n + 2n * unit,
        interfaceId: 0,
        linkType: 1,
        frame: pattern(60, 43),
        originalBytes: 60,
        direction: undefined,
      },
    ]);
  });

  it("refuses a file that ends within a record", () => {
    const file = classic(true, false);
    for (const length of [10, 30, 42, 44, 60, file.length - 1])
      expect(() => read(file.subarray(0, length))).toThrow(malformed);
    expect(read(file.subarray(0, 43))).toHaveLength(1);
  });
});
