import { describe, expect, test } from "vitest";
import { HANDLE_INDEX_MASK } from "../../../src/layout/event.ts";
import { KERNEL_BUILDS, KernelBench, openPassive } from "../../helpers/kernelBench.ts";

describe.each(KERNEL_BUILDS)("connection slots, %s build", (build) => {
  test("an index in this batch of events is not given to another connection before the next poll", () => {
    const bench = new KernelBench({ build });
    const { peer, handle } = openPassive(bench);
    expect(bench.wasm.tcpClose(handle)).toBe(0);
    bench.advance(0);
    // The peer resets: the event that tells the end is in the batch that the application now works on.
    peer.send({ flags: "rst", seq: 1 });
    const opened = () => bench.connect(80) & HANDLE_INDEX_MASK;
    const index = handle & HANDLE_INDEX_MASK;
    expect(opened()).not.toBe(index);
    bench.advance(1);
    expect(opened()).toBe(index);
  });
});
