/**
 * Micro-benchmarks: each case does many items in one call (1,000 and more, inside wasm where the code is wasm) and
 * returns a checksum of its results. Reported is the median over tinybench's samples, in ns per item.
 */
import { Bench } from "tinybench";

export type MicroCase = {
  readonly name: string;
  /** Items that one call of `run` does. */
  readonly items: number;
  /** @returns a checksum of the results; the same in every call. */
  run(): number;
};

export type MicroResult = {
  readonly suite: string;
  readonly name: string;
  /** ns per item: median, and median absolute deviation, over calls. */
  readonly nsPerItem: number;
  readonly madNs: number;
  readonly samples: number;
  /** u32, as hex. */
  readonly checksum: string;
};

export type MicroOptions = {
  /** Measuring time of each case. Default 300. */
  readonly timeMs?: number;
};

/** What a *.bench.ts exports as `suite`. */
export type MicroSuite = {
  readonly name: string;
  cases(): readonly MicroCase[] | Promise<readonly MicroCase[]>;
};

/** @throws Error when a case gives different checksums for the same input: then it does not measure what it says. */
export async function runSuite(suite: MicroSuite, options: MicroOptions = {}): Promise<MicroResult[]> {
  const cases = await suite.cases();
  const timeMs = options.timeMs ?? 300;
  // WASM code has no on-stack replacement, so many short calls must come before the long ones: tinybench's warm-up.
  const bench = new Bench({ name: suite.name, time: timeMs, warmupTime: timeMs / 2, warmupIterations: 50 });
  const checksums = new Map<string, number>();
  for (const { name, run } of cases) {
    bench.add(name, () => {
      const checksum = run() >>> 0;
      const before = checksums.get(name);
      if (before !== undefined && before !== checksum) throw new Error(`${suite.name}/${name}: result changed`);
      checksums.set(name, checksum);
    });
  }
  await bench.run();
  return cases.map(({ name, items }) => {
    const result = bench.getTask(name)?.result;
    if (!result || !("latency" in result)) {
      throw new Error(`${suite.name}/${name} failed`, {
        cause: result && "error" in result ? result.error : undefined,
      });
    }
    const { latency } = result;
    return {
      suite: suite.name,
      name,
      nsPerItem: (latency.p50 * 1e6) / items,
      madNs: (latency.mad * 1e6) / items,
      samples: latency.samplesCount,
      checksum: (checksums.get(name) ?? 0).toString(16).padStart(8, "0"),
    };
  });
}
