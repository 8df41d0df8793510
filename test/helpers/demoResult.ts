import type { DemoResult, DemoSample } from "../../src/cli/demo/result.ts";

/** A demo result as a run of `seconds` with evenly loaded kernels would give it, with some wave in it to look at. */
export function sampleDemoResult(kernels = 2, seconds = 10): DemoResult {
  const perKernelPerSecond = 24_000;
  const samples: DemoSample[] = [];
  let completed = 0;
  const served = new Array<number>(kernels).fill(0);
  for (let step = 0; step <= seconds * 4; step++) {
    for (let kernel = 0; kernel < kernels && step > 0; kernel++) {
      const count = Math.round(
        (perKernelPerSecond / 4) * (1 + 0.1 * Math.sin(step / 3 + kernel * 2)) * Math.min(1, step / 4),
      );
      served[kernel] = (served[kernel] ?? 0) + count;
      completed += count;
    }
    samples.push({
      seconds: step / 4,
      kernels: served.map((count, kernel) => ({ served: count, load: 0.8 + 0.15 * Math.sin(step / 4 + kernel) })),
      completed,
      failed: 0,
      open: 256,
    });
  }
  const distribution = Array.from({ length: 200 }, (_, index) => {
    const percent = index < 100 ? index : 100 - 10 ** (-(index - 100) / 33);
    return [Math.round(400 * (-Math.log(1 - percent / 100.01) + 0.3)), percent] as const;
  });
  const valueAt = (percent: number) => distribution.find((point) => point[1] >= percent)?.[0] ?? 0;
  return {
    seed: 1,
    seconds,
    hosts: 32,
    clientThreads: 2,
    concurrency: 256,
    samples,
    kernels: served.map((count, kernel) => ({
      served: count,
      load: 0.8 + 0.02 * kernel,
      queueFrames: count * 6 + kernel * 911,
      retransmits: kernel,
    })),
    completed,
    failed: 0,
    failures: {},
    bytesDiffering: 0,
    bytesExchanged: completed * 1564,
    latencyUs: { mean: 530, p50: valueAt(50), p99: valueAt(99), p999: valueAt(99.9), max: 9_000, distribution },
  };
}
