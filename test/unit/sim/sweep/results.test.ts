import { describe, expect, test } from "vitest";
import { parsePoint } from "../../../../src/sim/point.ts";
import { combineCell, mergeCdfs } from "../../../../src/sim/sweep/combine.ts";
import { toCsv } from "../../../../src/sim/sweep/csv.ts";
import { planCells } from "../../../../src/sim/sweep/plan.ts";
import { estimate } from "../../../../src/sim/sweep/statistics.ts";
import { formatTimeLeft, pointWeight, TimeLeft } from "../../../../src/sim/sweep/timeLeft.ts";
import { SHARES } from "../../../../src/sim/types.ts";
import { sampleResult } from "../../../helpers/sampleResult.ts";

const point = parsePoint({ design: "linux", cores: 2, workload: "web-epoll" });

describe("estimate", () => {
  test("is the mean with Student's interval", () => {
    // Mean 3, standard deviation sqrt(2.5), t(4) = 2.776: half width 2.776 * sqrt(2.5 / 5).
    const { mean, halfWidth } = estimate([1, 2, 3, 4, 5]);
    expect(mean).toBe(3);
    expect(halfWidth).toBeCloseTo(1.963, 3);
    expect(estimate([7])).toEqual({ mean: 7, halfWidth: null });
    expect(estimate([7, 7])).toEqual({ mean: 7, halfWidth: 0 });
    // Beyond the table; 1.984 for 100 degrees of freedom.
    const many = Array.from({ length: 101 }, (_, index) => index % 2);
    expect(estimate(many).halfWidth).toBeCloseTo((1.984 * Math.sqrt(25.2475 / 100)) / Math.sqrt(101), 3);
  });
});

describe("repeats", () => {
  const [cell] = planCells([point], 2, "build");
  if (cell === undefined) throw new Error("no cell");

  test("one result stays as it is, without an interval", () => {
    const result = sampleResult(point);
    expect(combineCell(cell, [result])).toEqual({ point, result, repeats: 1 });
  });

  test("several become means; shares still sum to 1", () => {
    const a = sampleResult(point, { connsPerSec: 100, failedConnections: 0, utilization: [0.5, 1] });
    const b = sampleResult(point, { connsPerSec: 200, failedConnections: 3, utilization: [1, 0], locks: [] });
    const { result, repeats, intervals } = combineCell(cell, [a, b]);
    expect(repeats).toBe(2);
    expect(result).toMatchObject({ connsPerSec: 150, failedConnections: 1.5, utilization: [0.75, 0.5] });
    expect(result.simulatedPackets).toBe(a.simulatedPackets + b.simulatedPackets);
    expect(SHARES.reduce((sum, name) => sum + result.shares[name], 0)).toBeCloseTo(1, 9);
    // A lock that one repeat did not see counts as 0 there.
    expect(result.locks[0]?.acquisitions).toBe(500);
    // Standard error 50, t(1) = 12.706.
    expect(intervals?.connsPerSec[0]).toBeCloseTo(150 - 635.3, 1);
    expect(intervals?.connsPerSec[1]).toBeCloseTo(150 + 635.3, 1);
  });

  test("distributions are mixed", () => {
    const mixed = mergeCdfs([
      { us: [10, 20], cdf: [0.5, 1] },
      { us: [15, 20, 40], cdf: [0.2, 0.8, 1] },
    ]);
    expect(mixed.us).toEqual([10, 15, 20, 40]);
    for (const [index, share] of [0.25, 0.35, 0.9, 1].entries()) expect(mixed.cdf[index]).toBeCloseTo(share, 9);
  });

  test("a mixed distribution stays short, rises, and ends at 1", () => {
    const long = (shift: number) => ({
      us: Array.from({ length: 1000 }, (_, index) => index + shift),
      cdf: Array.from({ length: 1000 }, (_, index) => (index + 1) / 1000),
    });
    const { us, cdf } = mergeCdfs([long(0), long(0.5)]);
    expect(us.length).toBeLessThanOrEqual(401);
    expect(cdf.at(-1)).toBe(1);
    expect(cdf.every((share, index) => index === 0 || share >= (cdf[index - 1] ?? 0))).toBe(true);
  });
});

describe("the time left", () => {
  const at = (design: string, cores: number) => parsePoint({ design, cores, workload: "web-epoll" });

  test("is unknown until something is done, and 0 at the end", () => {
    const timeLeft = new TimeLeft(new Map([["a", at("linux", 1)]]), 1);
    expect(timeLeft.leftMs(1e6)).toBeUndefined();
    // Before the first is done, its fraction tells.
    timeLeft.onProgress("a", 0.25);
    expect(timeLeft.leftMs(100)).toBeCloseTo(300, 6);
    timeLeft.onDone("a", 100);
    expect(timeLeft.leftMs(1e6)).toBe(0);
    expect(timeLeft.done).toBe(1);
  });

  test("follows each design's own pace and is shared by the jobs", () => {
    const tasks = new Map([
      ["a", at("linux", 4)],
      ["b", at("linux", 4)],
      ["c", at("mtcp", 4)],
      ["d", at("mtcp", 4)],
    ]);
    const timeLeft = new TimeLeft(tasks, 1);
    timeLeft.onDone("a", 1_000);
    // mtcp is taken to be like what is known.
    expect(timeLeft.leftMs(1e6)).toBeCloseTo(3_000, 6);
    timeLeft.onDone("c", 200);
    expect(timeLeft.leftMs(1e6)).toBeCloseTo(1_200, 6);
    timeLeft.onProgress("b", 0.5);
    expect(timeLeft.leftMs(1e6)).toBeCloseTo(700, 6);
    expect(timeLeft.done).toBeCloseTo(2.5, 9);
    const two = new TimeLeft(tasks, 2);
    two.onDone("a", 1_000);
    expect(two.leftMs(1e6)).toBeCloseTo(1_500, 6);
    // However many jobs, the longest simulation takes its time.
    two.onDone("b", 1_000);
    two.onDone("c", 1_000);
    expect(two.leftMs(1e6)).toBeCloseTo(1_000, 6);
  });

  test("more cores weigh more, up to a limit; unknown keys change nothing", () => {
    expect(pointWeight(at("linux", 16))).toBe(4 * pointWeight(at("linux", 1)));
    expect(pointWeight(at("linux", 128))).toBe(pointWeight(at("linux", 32)));
    const timeLeft = new TimeLeft(new Map(), 4);
    timeLeft.onDone("a", 1);
    timeLeft.onProgress("a", 1);
    expect(timeLeft.done).toBe(0);
  });

  test("reads well", () => {
    const texts = [0, 4_400, 99_000, 100_000, 3_600_000, 7_260_000].map(formatTimeLeft);
    expect(texts).toEqual(["0 s", "4 s", "99 s", "2 min", "60 min", "2 h 1 min"]);
  });
});

test("CSV quotes what must be quoted", () => {
  expect(
    toCsv(
      ["a", "b"],
      [
        ["x,y", 'say "no"'],
        [1.5, undefined],
      ],
    ),
  ).toBe('a,b\r\n"x,y","say ""no"""\r\n1.5,\r\n');
});
