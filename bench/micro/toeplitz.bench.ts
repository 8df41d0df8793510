import { TOEPLITZ_KEY_DEFAULT, toeplitz, toeplitzBuild } from "../../src/rss/toeplitz.ts";
import type { MicroSuite } from "./harness.ts";
import { createProbe, FREE, ITEMS } from "./inputs.ts";

/** The definition in plain JavaScript: for every input bit that is set, the 32 key bits from there. */
function bitwiseInScript(key: Uint8Array, input: Uint8Array, at: number, length: number): number {
  let hash = 0;
  let window = new DataView(key.buffer, key.byteOffset).getUint32(0);
  for (let i = 0; i < length; i++) {
    const byte = input[at + i] as number;
    const next = key[i + 4] as number;
    for (let bit = 0; bit < 8; bit++) {
      if (byte & (0x80 >> bit)) hash ^= window;
      window = (window << 1) | ((next >> (7 - bit)) & 1);
    }
  }
  return hash;
}

export const suite: MicroSuite = {
  name: "toeplitz",
  cases() {
    const { wasm, bytes } = createProbe(2);
    const [tables, key, input] = [FREE, FREE + 65536, FREE + 2 * 65536];
    bytes.set(TOEPLITZ_KEY_DEFAULT, key);
    wasm.toeplitzBuild(tables, key);
    const scriptTables = toeplitzBuild(TOEPLITZ_KEY_DEFAULT);
    const scriptKey = Uint8Array.from(TOEPLITZ_KEY_DEFAULT);
    const tuples = Array.from({ length: ITEMS }, (_, i) => bytes.subarray(input + 16 * i, input + 16 * i + 12));
    const inScript = (hash: (i: number) => number): number => {
      let result = 0;
      for (let i = 0; i < ITEMS; i++) result = ((result << 1) | (result >>> 31)) ^ hash(i);
      return result;
    };
    return [
      { name: "table, IPv4 4-tuple", items: ITEMS, run: () => wasm.toeplitzV4Batch(tables, input, ITEMS) },
      { name: "table, IPv6 4-tuple", items: ITEMS, run: () => wasm.toeplitzV6Batch(tables, input, ITEMS) },
      { name: "bit by bit, IPv4", items: ITEMS, run: () => wasm.toeplitzBitwiseBatch(key, input, 16, ITEMS, 12) },
      {
        name: "table in plain JavaScript, IPv4",
        items: ITEMS,
        run: () => inScript((i) => toeplitz(scriptTables, tuples[i] as Uint8Array)),
      },
      {
        name: "bit by bit in plain JavaScript, IPv4",
        items: ITEMS,
        run: () => inScript((i) => bitwiseInScript(scriptKey, bytes, input + 16 * i, 12)),
      },
    ];
  },
};
