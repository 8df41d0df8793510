import type { MicroCase, MicroSuite } from "./harness.ts";
import { createProbe, FREE, ITEMS } from "./inputs.ts";

/** RFC 1071 in plain JavaScript, for comparison. */
function sumInScript(bytes: Uint8Array, at: number, length: number): number {
  let sum = 0;
  for (let i = 0; i + 1 < length; i += 2) sum += (bytes[at + i] as number) | ((bytes[at + i + 1] as number) << 8);
  if (length & 1) sum += bytes[at + length - 1] as number;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** One packet over and over is in the first-level cache; many are in the second, or in memory. */
const STRIDE_FAR = 2112;

export const suite: MicroSuite = {
  name: "checksum",
  cases() {
    const { wasm, bytes } = createProbe(1);
    const sizes = [20, 40, 64, 1460];
    const target = FREE + 32 * 1024 * 1024;
    const inWasm = sizes.map((size): MicroCase => {
      return { name: `sumBytes ${size} B`, items: ITEMS, run: () => wasm.sumBatch(FREE, 64, ITEMS, size) };
    });
    const copies = [64, 1460].map((size): MicroCase => {
      return {
        name: `copyAndSum ${size} B`,
        items: ITEMS,
        run: () => wasm.copyAndSumBatch(target, FREE, 64, ITEMS, size),
      };
    });
    const far: MicroCase = {
      name: "copyAndSum 1460 B, over 4 MiB",
      items: 2 * ITEMS,
      run: () => wasm.copyAndSumBatch(target, FREE, STRIDE_FAR, 2 * ITEMS, 1460),
    };
    const script: MicroCase = {
      name: "plain JavaScript 1460 B",
      items: ITEMS,
      run: () => {
        let result = 0;
        for (let i = 0; i < ITEMS; i++) {
          result = ((result << 1) | (result >>> 31)) ^ sumInScript(bytes, FREE + 64 * i, 1460);
        }
        return result;
      },
    };
    return [...inWasm, ...copies, far, script];
  },
};
