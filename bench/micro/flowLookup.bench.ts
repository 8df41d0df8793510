import type { MicroCase, MicroSuite } from "./harness.ts";
import { createTcpProbe } from "./probeTcp.ts";

/** Look-ups per call; a multiple of the batch of 32. */
const LOOKUPS = 4096;
const BATCH = 32;
const ORDERS = 256;
const SEED = 12_345;

/**
 * Hash, look-up and touching the TCB of flows in random order: one after the other, where every look-up waits for its
 * misses, and staged in batches of 32 as ip/input.ts does it, where the misses overlap.
 */
function casesOf(name: string, flows: number): MicroCase[] {
  const wasm = createTcpProbe(flows);
  if (wasm.lookupPrepare(flows, SEED) !== 1) throw new Error(`no room for ${flows} flows`);
  // The same 4096 flows in each call would stay in the cache, and other flows in each call would change the checksum.
  // So each call takes one of many orders, and the checksum is that of a last, short, batch which is always the same.
  const run = (lookup: typeof wasm.lookupSerial): (() => number) => {
    let order = 0;
    return () => {
      order = (order + 1) % ORDERS;
      lookup(flows, LOOKUPS, SEED + order);
      return lookup(flows, BATCH, SEED);
    };
  };
  return [
    { name: `${name}, one after the other`, items: LOOKUPS + BATCH, run: run(wasm.lookupSerial) },
    { name: `${name}, staged by 32`, items: LOOKUPS + BATCH, run: run(wasm.lookupStaged) },
  ];
}

export const suite: MicroSuite = {
  name: "flow look-up",
  cases: () => [...casesOf("1k flows", 1000), ...casesOf("64k flows", 64_000), ...casesOf("1M flows", 1_000_000)],
};
