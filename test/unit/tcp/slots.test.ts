import { describe, expect, test } from "vitest";
import { HANDLE_INDEX_MASK } from "../../../src/layout/event.ts";
import { ENOBUFS } from "../../../src/layout/status.ts";
import { KERNEL_BUILDS, KernelBench, openPassive } from "../../helpers/kernelBench.ts";

describe.each(KERNEL_BUILDS)("connection slots, %s build", (build) => {
  test("a slot rests until 256 others have become free", () => {
    const bench = new KernelBench({ build, tuning: { connectionsMax: 300 } });
    const lastUse = new Map<number, number>();
    for (let use = 0; use < 800; use++) {
      const handle = bench.connect(80);
      const slot = handle & HANDLE_INDEX_MASK;
      expect(use - (lastUse.get(slot) ?? -Infinity)).toBeGreaterThan(256);
      lastUse.set(slot, use);
      expect(bench.wasm.tcpAbort(handle)).toBe(0);
      bench.advance(1);
    }
    expect(lastUse.size).toBeLessThan(300);
  });

  test("an index in this batch of events is not given to another connection before the next poll", () => {
    const bench = new KernelBench({ build, tuning: { connectionsMax: 1 } });
    const { peer, handle } = openPassive(bench);
    expect(bench.wasm.tcpClose(handle)).toBe(0);
    bench.advance(0);
    // The peer resets: the event that tells the end is in the batch that the application now works on.
    peer.send({ flags: "rst", seq: 1 });
    const index = handle & HANDLE_INDEX_MASK;
    expect(bench.connect(80)).toBe(ENOBUFS);
    bench.advance(1);
    expect(bench.connect(80) & HANDLE_INDEX_MASK).toBe(index);
  });
});
