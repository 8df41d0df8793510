/** Timestamps have an offset for each pair of hosts (RFC 7323 7.1), the same in all their connections. */
import { describe, expect, test } from "vitest";
import { KERNEL_BUILDS, KernelBench, Peer } from "../../helpers/kernelBench.ts";
import { createPair } from "../../helpers/migration.ts";

/** Timestamp of the SYN-ACK to this host, less the milliseconds since boot. */
function offsetTo(bench: KernelBench, address: string, port: number): number {
  const peer = new Peer(bench, { address, port, timestamp: 7 });
  peer.send({ flags: "syn" });
  const value = peer.expect({ flags: "syn ack" }).options.timestamps?.[0];
  peer.send({ flags: "rst", seq: 1 });
  return ((value ?? 0) - bench.nowMs) >>> 0;
}

describe.each(KERNEL_BUILDS)("timestamp offsets, %s build", (build) => {
  test("differ from host to host and say nothing of the clock", () => {
    const bench = new KernelBench({ build });
    bench.listen(80);
    const offsets = Array.from({ length: 64 }, (_, n) => offsetTo(bench, `10.0.0.${2 + n}`, 40000));
    expect(new Set(offsets).size).toBe(64);
    // Spread over the whole of their space: a quarter of it each.
    for (const quarter of [0, 1, 2, 3])
      expect(offsets.filter((offset) => offset >>> 30 === quarter).length).toBeGreaterThan(4);
    expect(offsets).not.toContain(0);
  });

  test("are the same for all connections of a host, in time and in all kernels of a stack (RFC 6191)", () => {
    const { source, target } = createPair({ build });
    source.listen(80);
    target.listen(80);
    const offset = offsetTo(source, "10.0.0.9", 40000);
    source.advance(12_345);
    expect(offsetTo(source, "10.0.0.9", 40001)).toBe(offset);
    expect(offsetTo(target, "10.0.0.9", 40002)).toBe(offset);
    const other = new KernelBench({ build, seed: 5, stackSeed: 78 });
    other.listen(80);
    expect(offsetTo(other, "10.0.0.9", 40000)).not.toBe(offset);
  });
});
