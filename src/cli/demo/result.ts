/** What one run of the demo has measured; everything that is shown, printed or plotted is made from it. */

/** The state of the run at one instant, counted from the start of the load. */
export type DemoSample = {
  readonly seconds: number;
  readonly kernels: readonly KernelSample[];
  /** Connections that clients have completed, with every byte as it should be. */
  readonly completed: number;
  readonly failed: number;
  /** Connections open on the clients' side. */
  readonly open: number;
};

export type KernelSample = {
  /** Connections that this kernel has served since the start. */
  readonly served: number;
  /** Share of the time since the last sample in which the kernel's thread had work, 0..1. */
  readonly load: number;
};

export type KernelResult = {
  readonly served: number;
  /** Mean over the run, 0..1. */
  readonly load: number;
  /** Frames that the card has put into this kernel's queue. */
  readonly queueFrames: number;
  readonly retransmits: number;
};

export type LatencyUs = {
  readonly mean: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  /** (microseconds, percent at or below), both rising. */
  readonly distribution: readonly (readonly [us: number, percent: number])[];
};

export type DemoResult = {
  readonly seed: number;
  /** How long the load lasted. */
  readonly seconds: number;
  readonly hosts: number;
  readonly clientThreads: number;
  readonly concurrency: number;
  readonly samples: readonly DemoSample[];
  readonly kernels: readonly KernelResult[];
  readonly completed: number;
  readonly failed: number;
  /** Why connections failed: errno name or ERR_*, and how often. */
  readonly failures: Readonly<Record<string, number>>;
  /** Bytes of responses that differed from what they should be, or were missing. */
  readonly bytesDiffering: number;
  readonly bytesExchanged: number;
  readonly latencyUs: LatencyUs;
};

/** Nothing failed, no byte differed, and something was done at all. */
export function isGood(result: DemoResult): boolean {
  return result.failed === 0 && result.bytesDiffering === 0 && result.completed > 0;
}

/** Over the load alone, without what was completed after it. */
export function connectionsPerSecond(result: DemoResult): number {
  const last = result.samples.at(-1);
  return last !== undefined && last.seconds > 0 ? last.completed / last.seconds : 0;
}

/** Connections per second that kernel `kernel` served between each sample and the one before. */
export function servedPerSecond(samples: readonly DemoSample[], kernel: number): number[] {
  return samples.map((sample, index) => {
    const before = samples[index - 1];
    const seconds = sample.seconds - (before?.seconds ?? 0);
    const served = (sample.kernels[kernel]?.served ?? 0) - (before?.kernels[kernel]?.served ?? 0);
    return seconds > 0 ? served / seconds : 0;
  });
}

/** Each part in percent of their sum; zeros when the sum is 0. */
export function percentShares(parts: readonly number[]): number[] {
  const sum = parts.reduce((total, part) => total + part, 0);
  return parts.map((part) => (sum > 0 ? (100 * part) / sum : 0));
}
