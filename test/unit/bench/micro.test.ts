import { describe, expect, it } from "vitest";
import { suite as card } from "../../../bench/micro/card.bench.ts";
import { suite as checksum } from "../../../bench/micro/checksum.bench.ts";
import { suite as connect } from "../../../bench/micro/connect.bench.ts";
import { suite as crossing } from "../../../bench/micro/crossing.bench.ts";
import { suite as flowLookup } from "../../../bench/micro/flowLookup.bench.ts";
import { type MicroResult, type MicroSuite, runSuite } from "../../../bench/micro/harness.ts";
import { suite as messages } from "../../../bench/micro/messages.bench.ts";
import { suite as migration } from "../../../bench/micro/migration.bench.ts";
import { suite as parse } from "../../../bench/micro/parse.bench.ts";
import { suite as tcpInput } from "../../../bench/micro/tcpInput.bench.ts";
import { suite as toeplitz } from "../../../bench/micro/toeplitz.bench.ts";

/** One tiny round: the benchmarks still run, and their variants still compute the same thing. */
async function checksums(suite: MicroSuite): Promise<Map<string, string>> {
  const results = await runSuite(suite, { timeMs: 1 });
  for (const { nsPerItem, samples } of results) {
    expect(nsPerItem).toBeGreaterThan(0);
    expect(samples).toBeGreaterThan(0);
  }
  return new Map(results.map(({ name, checksum }: MicroResult) => [name, checksum]));
}

describe("micro-benchmarks", () => {
  it("checksum: one pass, two passes and plain JavaScript agree", async () => {
    const sums = await checksums(checksum);
    expect(sums.get("copyAndSum 64 B")).toBe(sums.get("sumBytes 64 B"));
    expect(sums.get("copyAndSum 1460 B")).toBe(sums.get("sumBytes 1460 B"));
    expect(sums.get("plain JavaScript 1460 B")).toBe(sums.get("sumBytes 1460 B"));
  });

  it("toeplitz: table, bits, wasm and plain JavaScript agree", async () => {
    const sums = await checksums(toeplitz);
    const v4 = [...sums].filter(([name]) => name.includes("IPv4")).map(([, sum]) => sum);
    expect(v4).toHaveLength(4);
    expect(new Set(v4).size).toBe(1);
  });

  it("messages: batches and single messages bring the same", async () => {
    const sums = await checksums(messages);
    expect(sums.get("16 B, batches of 16")).toBe(sums.get("16 B, one by one"));
    expect(sums.get("a poll that finds nothing")).toBe("00000000");
  });

  it("migration: every case moves what it says", async () => {
    const sums = await checksums(migration);
    const bytes = [...sums.values()].map((sum) => Number.parseInt(sum, 16));
    // A connection that has sent has an account, too (assembly/tcp/account.ts).
    expect(bytes[1]).toBe((bytes[0] as number) + 2 * 1024 * (1024 + 64));
    expect(bytes[2]).toBeGreaterThan(2 * 16 * (1 << 20));
  });

  it("parse: wasm and plain JavaScript agree", async () => {
    expect(new Set((await checksums(parse)).values()).size).toBe(1);
  });

  it("card: filters that match nothing change nothing", async () => {
    const sums = await checksums(card);
    expect(sums.get("RSS to 4 queues behind 4096 exact filters")).toBe(sums.get("RSS to 4 queues"));
    expect(sums.size).toBe(4);
  });

  it("connect: every way of choosing finds free ports", async () => {
    const sums = await checksums(connect);
    expect(sums.size).toBe(16);
    for (const [name, sum] of sums) {
      if (name.startsWith("connect()")) {
        expect([name, Number.parseInt(sum, 16)]).toEqual([name, 100]);
        continue;
      }
      const [empty, full] = name.includes("asking") ? [100, 2] : [1000, 100];
      expect(Number.parseInt(sum, 16)).toBe(name.includes("28232") ? empty : full);
    }
  });

  it("flow look-up: staged batches find what serial look-ups find", async () => {
    const sums = await checksums(flowLookup);
    expect(sums.size).toBe(6);
    for (const [name, sum] of sums) expect(sums.get(name.replace("one after the other", "staged by 32"))).toBe(sum);
  });

  it("TCP input: every segment is taken", async () => {
    const sums = await checksums(tcpInput);
    const taken = ["in order, 64 B", "in order, 1460 B", "pure ACKs of new data"].map((name) => sums.get(name));
    expect(taken.map((sum) => Number.parseInt(sum as string, 16) / 1024)).toEqual([64, 1460, 1000]);
  });

  it("crossing: both directions make all their calls", async () => {
    expect(new Set((await checksums(crossing)).values())).toEqual(new Set(["00001000"]));
  });

  it("refuses a case whose result changes", async () => {
    let calls = 0;
    const suite: MicroSuite = { name: "drift", cases: () => [{ name: "counter", items: 1, run: () => calls++ }] };
    await expect(runSuite(suite, { timeMs: 1 })).rejects.toThrow("drift/counter");
  });
});
