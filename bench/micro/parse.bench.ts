import { Prng } from "../../src/sim/prng.ts";
import type { MicroSuite } from "./harness.ts";
import { createProbe, FREE, ITEMS } from "./inputs.ts";

/** Distance of frames, and where in it they start: as in LIMITS, no two headers in one set of the first-level cache. */
const STRIDE = 2112;
const FRAME_BYTES = 60;

/** A TCP segment without payload, whole and with a right header checksum, from one of many clients. */
function writeFrame(view: DataView, at: number, prng: Prng): void {
  for (let i = 0; i < FRAME_BYTES; i++) view.setUint8(at + i, 0);
  view.setUint16(at + 12, 0x0800);
  view.setUint16(at + 14, 0x4500);
  view.setUint16(at + 16, 40);
  view.setUint16(at + 20, 0x4000);
  view.setUint16(at + 22, 0x4006);
  view.setUint32(at + 26, 0x0a000000 + prng.below(1 << 16) + 2);
  view.setUint32(at + 30, 0x0a000001);
  let sum = 0;
  for (let i = 14; i < 34; i += 2) sum += view.getUint16(at + i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(at + 24, ~sum & 0xffff);
  view.setUint16(at + 34, prng.u32() & 0xffff);
  view.setUint16(at + 36, 80);
  view.setUint32(at + 38, prng.u32());
  view.setUint32(at + 42, prng.u32());
  view.setUint16(at + 46, 0x5010);
  view.setUint16(at + 48, 0xffff);
}

/** The same in plain JavaScript. */
function parseInScript(view: DataView, at: number): number {
  if (view.getUint16(at + 12) !== 0x0800 || view.getUint8(at + 14) >> 4 !== 4) return 0;
  const headerBytes = (view.getUint8(at + 14) & 15) << 2;
  if (headerBytes < 20 || view.getUint16(at + 16) > FRAME_BYTES - 14) return 0;
  let sum = 0;
  for (let i = 0; i < headerBytes; i += 2) sum += view.getUint16(at + 14 + i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  if (sum !== 0xffff || view.getUint8(at + 23) !== 6) return 0;
  const tcp = at + 14 + headerBytes;
  const numbers = view.getUint32(tcp + 4) ^ view.getUint32(tcp + 8);
  const offset = (view.getUint8(tcp + 12) >> 4) << 2;
  return view.getUint32(tcp, true) ^ numbers ^ offset ^ view.getUint8(tcp + 13) ^ view.getUint16(tcp + 14);
}

export const suite: MicroSuite = {
  name: "parse",
  cases() {
    const { wasm, memory } = createProbe(3);
    const view = new DataView(memory.buffer);
    const prng = new Prng(3);
    const at = FREE + 10;
    for (let i = 0; i < ITEMS; i++) writeFrame(view, at + i * STRIDE, prng);
    return [
      {
        name: "Ethernet, IPv4 with checksum, TCP",
        items: ITEMS,
        run: () => wasm.parseBatch(at, STRIDE, ITEMS, FRAME_BYTES),
      },
      {
        name: "the same in plain JavaScript (DataView)",
        items: ITEMS,
        run: () => {
          let result = 0;
          for (let i = 0; i < ITEMS; i++) result = (result + parseInScript(view, at + i * STRIDE)) | 0;
          return result;
        },
      },
    ];
  },
};
