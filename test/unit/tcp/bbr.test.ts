/**
 * What BBR's phases do with losses, and with those that turn out to be none: a sender over a path with a bottleneck, in
 * virtual time. The phase shows in the pacing rate, as the path's is known: each has its gain.
 */
import { describe, expect, test } from "vitest";
import { RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import { CONGESTION_BBR } from "../../../src/layout/option.ts";
import * as TCPI from "../../../src/layout/tcpInfo.ts";
import { KERNEL_BUILDS, KernelBench, type KernelBuild, Peer } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";

const MSS = 1000;
const RTT_MS = 50;
/** The bottleneck passes a segment each millisecond. */
const RATE = 1e6;
const BDP = RTT_MS;
const PLENTY = pattern(1 << 20);
const WHOLE = pattern(400 * MSS);
const QUEUE_MAX = 200;
/** Late enough to be taken for lost. */
const LATE_MS = 30;

type Fate = "late" | "lost" | undefined;
/** At the end of a millisecond. `gain`: pacing rate over the bottleneck's. `cwnd`, `queued` before it: segments. */
type Look = { readonly ms: number; readonly gain: number; readonly cwnd: number; readonly queued: number };

/** A sender, a bottleneck, a delay, and a receiver that tells of each segment, as RFC 2018 and 2883 want it. */
class Path {
  readonly looks: Look[] = [];
  readonly #bench: KernelBench;
  readonly #peer: Peer;
  readonly #handle: number;
  readonly #fate: (ms: number) => Fate;
  readonly #queue: number[] = [];
  readonly #flying: { readonly atMs: number; readonly segment: number }[] = [];
  /** Segments received ahead of `#next`. */
  readonly #ahead = new Set<number>();
  #next = 0;
  #ms = 0;
  /** The application writes a segment each so many milliseconds; undefined: more than ever leaves. */
  everyMs: number | undefined;
  /** What is written ends with a segment. */
  wholeSegments = false;

  /** @param fate of the segment that leaves the bottleneck in this millisecond. */
  constructor(build: KernelBuild, fate: (ms: number) => Fate = () => undefined) {
    const tuning = { congestionControl: CONGESTION_BBR, sndBufferBytesMax: 1 << 20 };
    this.#fate = fate;
    this.#bench = new KernelBench({ build, noDelay: true, tuning });
    const listener = this.#bench.listen(80);
    this.#peer = new Peer(this.#bench, { mss: MSS, sack: true, windowScale: 7, window: 16_384 });
    this.#peer.send({ flags: "syn" });
    this.#peer.expect({ flags: "syn ack" });
    this.#bench.advance(RTT_MS);
    this.#peer.send({ flags: "ack" });
    this.#handle = this.#bench.wasm.tcpAccept(listener);
  }

  run(ms: number): readonly Look[] {
    for (const endMs = this.#ms + ms; this.#ms < endMs; ) this.#step();
    return this.looks;
  }

  #step(): void {
    if (this.everyMs !== undefined) {
      if (this.#ms % this.everyMs === 0) this.#bench.write(this.#handle, PLENTY.subarray(0, MSS));
    } else if (this.wholeSegments) {
      if (this.#bench.info(this.#handle).sndQueuedBytes < WHOLE.length) this.#bench.write(this.#handle, WHOLE);
    } else this.#bench.queue(this.#handle, PLENTY);
    this.#bench.advance(1);
    this.#ms++;
    const leaving = this.#queue.shift();
    const fate = leaving === undefined ? undefined : this.#fate(this.#ms);
    if (leaving !== undefined && fate !== "lost") {
      this.#flying.push({ atMs: this.#ms + RTT_MS + (fate === "late" ? LATE_MS : 0), segment: leaving });
    }
    for (const { segment } of this.#flying.filter(({ atMs }) => atMs === this.#ms)) this.#receive(segment);
    while (this.#flying.length > 0 && (this.#flying[0]?.atMs as number) <= this.#ms) this.#flying.shift();
    for (const { seq, payload } of this.#peer.all()) {
      for (let i = 0; i < payload.length / MSS; i++) {
        if (this.#queue.length < QUEUE_MAX) this.#queue.push((seq - 1) / MSS + i);
      }
    }
    expect(this.#bench.wasm.tcpInfo(this.#handle, RESULT_BASE)).toBe(0);
    const gain = this.#bench.memory.loadU32(RESULT_BASE + TCPI.TCPI_PACING_RATE) / RATE;
    const cwnd = this.#bench.info(this.#handle).cwndBytes / MSS;
    this.looks.push({ ms: this.#ms, gain, cwnd, queued: this.#queue.length });
  }

  #receive(segment: number): void {
    const isDuplicate = segment < this.#next || this.#ahead.has(segment);
    this.#ahead.add(segment);
    for (; this.#ahead.delete(this.#next); this.#next++);
    for (const old of this.#ahead) if (old < this.#next) this.#ahead.delete(old);
    const blocks: (readonly [number, number])[] = [];
    const add = (first: number, end: number) => blocks.push([1 + first * MSS, 1 + end * MSS]);
    if (isDuplicate) add(segment, segment + 1);
    const sorted = [...this.#ahead].sort((a, b) => b - a);
    for (let i = 0; i < sorted.length && blocks.length < 3; ) {
      const end = (sorted[i] as number) + 1;
      while (i + 1 < sorted.length && sorted[i + 1] === (sorted[i] as number) - 1) i++;
      add(sorted[i++] as number, end);
    }
    this.#peer.sendSack(1 + this.#next * MSS, ...blocks);
  }
}

/** Gains of the phases (draft-ietf-ccwg-bbr), between which these lie. */
const isStartup = ({ gain }: Look): boolean => gain > 2;
const isDrain = ({ gain }: Look): boolean => gain < 0.7;
const isProbeUp = ({ gain }: Look): boolean => gain > 1.15 && gain < 2;
const isBelow = ({ gain }: Look): boolean => gain < 1.05;

describe.each(KERNEL_BUILDS)("BBR, %s build", (build) => {
  const PROBE_MS = 3800;
  /** The first probe for bandwidth without disturbances: its first and last millisecond in PROBE_UP. */
  const undisturbed = new Path(build).run(PROBE_MS);
  const up = undisturbed.findIndex((look, i) => i > 1000 && isProbeUp(look));
  const down = undisturbed.findIndex((look, i) => i > up && isBelow(look));
  const between = (looks: readonly Look[], fromMs: number, toMs: number): readonly Look[] => looks.slice(fromMs, toMs);
  const withFate = (fate: Fate, fromMs: number, toMs: number, runMs = PROBE_MS): readonly Look[] =>
    new Path(build, (ms) => (ms >= fromMs && ms < toMs ? fate : undefined)).run(runMs);

  test("the path is as the other tests need it: STARTUP, a probe of about a round trip, a window of two", () => {
    expect(between(undisturbed, 320, 600).every(isStartup)).toBe(true);
    expect(between(undisturbed, 800, up).every(isBelow)).toBe(true);
    expect(Math.abs(down - up - RTT_MS)).toBeLessThan(RTT_MS / 4);
    expect(between(undisturbed, up, PROBE_MS).every(({ cwnd }) => cwnd > 2 * BDP)).toBe(true);
  });

  test("DRAIN: half the rate, until no more is in flight than the path holds", () => {
    const full = undisturbed.findIndex((look, i) => i > 350 && !isStartup(look));
    const drained = undisturbed.findIndex((look, i) => i > full && !isDrain(look));
    expect(between(undisturbed, full, drained).length).toBeGreaterThan(RTT_MS / 2);
    // STARTUP has filled the queue to the brim, and then it is empty.
    expect(undisturbed[full]?.queued).toBeGreaterThan(BDP / 2);
    expect(between(undisturbed, drained, up).every(({ queued }) => queued < 5)).toBe(true);
  });

  test("an application that sends little says nothing about the path: its bandwidth stays known over probes", () => {
    const path = new Path(build);
    path.wholeSegments = true;
    path.run(1500);
    path.everyMs = 10;
    // More than two cycles of probing.
    const looks = path.run(9000);
    expect(looks.filter((look, i) => i > 1500 && isProbeUp(look)).length).toBeGreaterThan(0);
    expect(between(looks, 1500, looks.length).every(({ gain }) => gain > 0.8)).toBe(true);
  });

  test("STARTUP goes on when it has ended for what was only late", () => {
    const looks = withFate("late", 320, 332, 1000);
    const ended = looks.findIndex((look, i) => i > 350 && isBelow(look));
    expect(ended).toBeLessThan(500);
    const undone = looks.findIndex((look, i) => i > ended && isStartup(look));
    expect(undone - ended).toBeLessThan(2 * RTT_MS);
    expect(undone).toBeGreaterThan(ended);
    // Not for a moment: three rounds without growth end it, as ever.
    expect(between(looks, undone, undone + 3 * RTT_MS).every(isStartup)).toBe(true);
  });

  test("a probe goes on when it has ended for what was only late", () => {
    const looks = withFate("late", up - 46, up - 42);
    expect(looks.findIndex((look, i) => i > 1000 && isProbeUp(look))).toBe(up);
    const ended = looks.findIndex((look, i) => i > up && isBelow(look));
    expect(ended - up).toBeLessThan(RTT_MS / 2);
    const undone = looks.findIndex((look, i) => i > ended && isProbeUp(look));
    expect(undone).toBeGreaterThan(ended);
    expect(undone - ended).toBeLessThan(2 * RTT_MS);
    expect(between(looks, undone, PROBE_MS).every(({ cwnd }) => cwnd > 2 * BDP)).toBe(true);
  });

  test("what is lost before a probe, found in REFILL, neither ends it nor bounds what is in flight", () => {
    const looks = withFate("lost", up - 72, up - 69);
    expect(between(looks, up + 2, down - 2).every(isProbeUp)).toBe(true);
    expect(looks[PROBE_MS - 1]?.cwnd).toBeGreaterThan(2 * BDP);
  });

  test("what a probe has lost bounds what is in flight, also when it is found in the round after it", () => {
    // Two segments: too many for a probe, and no lossy round.
    const looks = withFate("lost", down - 44, down - 42);
    expect(between(looks, up + 2, down - 2).every(isProbeUp)).toBe(true);
    expect(between(looks, down, down + 4).every(({ cwnd }) => cwnd > 2 * BDP)).toBe(true);
    const after = between(looks, down + 3 * RTT_MS, PROBE_MS);
    expect(after.every(({ cwnd }) => cwnd > 0.7 * BDP && cwnd < 1.3 * BDP)).toBe(true);
  });
});
