import { describe, expect, test } from "vitest";
import { createLatencyHistogram, sumLatency, summarizeLatency } from "../../../src/cli/demo/latency.ts";
import { sumFailures } from "../../../src/cli/demo/messages.ts";
import { demoReport, summaryLines } from "../../../src/cli/demo/report.ts";
import { connectionsPerSecond, isGood, percentShares, servedPerSecond } from "../../../src/cli/demo/result.ts";
import { renderLine, renderLive } from "../../../src/cli/demo/view.ts";
import { sampleDemoResult } from "../../helpers/demoResult.ts";

describe("result", () => {
  test("is good only when something was done, nothing failed and no byte differed", () => {
    const result = sampleDemoResult();
    expect(isGood(result)).toBe(true);
    expect(isGood({ ...result, failed: 1 })).toBe(false);
    expect(isGood({ ...result, bytesDiffering: 1 })).toBe(false);
    expect(isGood({ ...result, completed: 0 })).toBe(false);
  });

  test("rates are differences between samples over their time", () => {
    const kernel = (served: number) => [{ served, load: 0 }];
    const rest = { completed: 0, failed: 0, open: 0 };
    const samples = [
      { seconds: 0, kernels: kernel(0), ...rest },
      { seconds: 0.5, kernels: kernel(100), ...rest },
      { seconds: 1.5, kernels: kernel(400), ...rest },
    ];
    expect(servedPerSecond(samples, 0)).toEqual([0, 200, 300]);
    const late = { seconds: 2, kernels: kernel(500), completed: 500, failed: 0, open: 0 };
    expect(connectionsPerSecond({ ...sampleDemoResult(), completed: 900, samples: [...samples, late] })).toBe(250);
    expect(connectionsPerSecond({ ...sampleDemoResult(), samples: [] })).toBe(0);
  });

  test("shares add up to 100, or are zero when there is nothing to share", () => {
    expect(percentShares([1, 3])).toEqual([25, 75]);
    expect(percentShares([0, 0])).toEqual([0, 0]);
  });

  test("failures of several threads are summed by code", () => {
    expect(sumFailures([{ ECONNRESET: 2 }, { ECONNRESET: 1, ETIMEDOUT: 4 }])).toEqual({ ECONNRESET: 3, ETIMEDOUT: 4 });
  });
});

describe("latency", () => {
  test("percentiles come from all threads together, in three digits", () => {
    const threads = [createLatencyHistogram(), createLatencyHistogram()];
    for (let us = 1; us <= 10_000; us++) threads[us % 2]?.record(us);
    const latency = summarizeLatency(sumLatency(threads));
    expect(latency.p50 / 5_000).toBeCloseTo(1, 2);
    expect(latency.p99 / 9_900).toBeCloseTo(1, 2);
    expect(latency.p999 / 9_990).toBeCloseTo(1, 2);
    expect(latency.mean).toBeCloseTo(5_000, -2);
  });

  test("the distribution rises in both directions and ends at 100 %", () => {
    const histogram = createLatencyHistogram();
    for (let i = 0; i < 600; i++) histogram.record([5, 5, 5, 80, 80, 3_000][i % 6] ?? 0);
    const { distribution } = summarizeLatency(histogram);
    for (const [index, [us, percent]] of distribution.entries()) {
      const before = distribution[index - 1];
      if (before === undefined) continue;
      expect(us).toBeGreaterThan(before[0]);
      expect(percent).toBeGreaterThan(before[1]);
    }
    expect(distribution.at(-1)?.[1]).toBe(100);
    expect(distribution.find(([us]) => us === 5)?.[1]).toBe(50);
  });

  test("nothing recorded is nothing, not an error", () => {
    expect(summarizeLatency(sumLatency([createLatencyHistogram()]))).toMatchObject({
      p50: 0,
      max: 0,
      distribution: [],
    });
  });
});

describe("live view", () => {
  const result = sampleDemoResult(3);
  const state = { secondsTotal: 20, hosts: 32, concurrency: 256, samples: result.samples, p50Us: 340, p99Us: 1900 };

  test("no line is wider than the terminal, and every kernel has a line", () => {
    for (const columns of [60, 80, 200]) {
      const lines = renderLive(state, columns).split("\n");
      // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters.
      const widths = lines.map((line) => [...line.replace(/\u001b\[[0-9;]*m/g, "")].length);
      expect(Math.max(...widths)).toBeLessThanOrEqual(columns);
      expect(lines.filter((line) => line.startsWith("kernel "))).toHaveLength(3);
    }
  });

  test("shows progress, rate and failures", () => {
    const text = renderLive({ ...state, samples: result.samples.map((s) => ({ ...s, failed: 12 })) }, 100);
    expect(text).toContain("50 %");
    expect(text).toContain("10.0 of 20 s");
    expect(text).toContain("12 failed");
    expect(text).toMatch(/\d\d,\d{3} conn\/s/);
  });

  test("works before the first sample, and with more kernels than lines", () => {
    expect(renderLive({ ...state, samples: [] }, 80)).toContain("0 completed");
    expect(renderLine({ ...state, samples: [] })).toContain("0 conn/s");
    const many = sampleDemoResult(40, 1);
    expect(renderLive({ ...state, samples: many.samples }, 80)).toContain("… and 24 more kernels");
  });

  test("a line for logs is one line of plain text", () => {
    const line = renderLine(state);
    expect(line).toMatch(
      /^ 10\/20 s {2}\d\d,\d{3} conn\/s {2}[\d,]+ completed {2}0 failed {2}p99 1\.90 ms {2}load k0 /,
    );
    expect(line).toMatch(/^[\x20-\x7eµ]*$/);
  });
});

describe("report", () => {
  test("has the four plots, a row for each kernel, and the verdict", () => {
    const report = demoReport(sampleDemoResult(3), [["command", "netpopcorn demo"]]);
    expect(report.charts.map((chart) => chart.kind)).toEqual(["timeSeries", "timeSeries", "distribution", "share"]);
    expect(report.tables[0]?.rows).toHaveLength(3);
    expect(report.verdict).toEqual({ isGood: true, text: "every connection completed, every byte as sent" });
  });

  test("says what went wrong", () => {
    const bad = { ...sampleDemoResult(), failed: 3, failures: { ECONNRESET: 3 }, bytesDiffering: 17 };
    const report = demoReport(bad, []);
    expect(report.verdict).toEqual({ isGood: false, text: "3 connections failed, 17 bytes differ" });
    expect(report.figures.filter((figure) => figure.isBad)).toHaveLength(2);
    expect(summaryLines(bad).join("\n")).toContain("3 failed (ECONNRESET 3)");
    expect(demoReport({ ...bad, completed: 0, failed: 0, bytesDiffering: 0 }, []).verdict.text).toBe(
      "no connection was made",
    );
  });
});
