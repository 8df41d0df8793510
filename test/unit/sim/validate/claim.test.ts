import { describe, expect, test } from "vitest";
import { parsePoint } from "../../../../src/sim/point.ts";
import {
  sensitivityRows,
  VARIED_CONSTANTS,
  type Variation,
  variations,
  variedPoint,
} from "../../../../src/sim/sweep/sensitivity.ts";
import type { PointResult } from "../../../../src/sim/types.ts";
import { type Claim, claimPoints, judge, missedRow, openRow, score } from "../../../../src/sim/validate/claim.ts";
import { CLAIMS, OPEN_CLAIMS } from "../../../../src/sim/validate/claims.ts";
import { sampleResult } from "../../../helpers/sampleResult.ts";

const point = (cores: number) => ({ design: "mtcp", cores, workload: "rpc" }) as const;

const claim: Claim = {
  id: "X1",
  what: "two to one",
  source: "nowhere",
  published: 2,
  unit: "×",
  basis: "read",
  points: { a: point(2), b: point(1) },
  value: (result) => result("a").connsPerSec / result("b").connsPerSec,
};

function results(a: number, b: number): ReadonlyMap<string, PointResult> {
  const sample = sampleResult(parsePoint(point(1)));
  return new Map([
    ["a", { ...sample, connsPerSec: a }],
    ["b", { ...sample, connsPerSec: b }],
  ]);
}

describe("a claim", () => {
  test.each([
    ["read", 2.3, "within"],
    ["read", 1.71, "within"],
    ["read", 2.31, "missed"],
    ["read", 1.69, "missed"],
    ["pixels", 2.5, "within"],
    ["pixels", 2.51, "missed"],
  ] as const)("known by %s is judged by that: %d is %s", (basis, value, verdict) => {
    expect(judge({ ...claim, basis }, [results(100 * value, 100)])).toMatchObject({
      verdict,
      simulated: value,
      low: null,
      high: null,
    });
  });

  test("that was published twice, three times apart, is judged by both", () => {
    const twice: Claim = { ...claim, again: { value: 6, source: "somebody else" }, missReason: "?" };
    const verdictOf = (value: number) => judge(twice, [results(100 * value, 100)]).verdict;
    expect([1.7, 1.8, 4, 6.8, 7].map(verdictOf)).toEqual([
      "shape missed",
      "shape holds",
      "shape holds",
      "shape holds",
      "shape missed",
    ]);
    const { remark, tolerance } = judge(twice, [results(9, 1)]);
    expect(remark).toBe("published twice: also 6 (somebody else); ?");
    expect(tolerance).toBeNull();
  });

  test("of which only the shape counts is judged by that, however far off", () => {
    const shaped: Claim = {
      ...claim,
      basis: "recalled",
      holds: (value) => value > 1,
      shape: "above 1",
      missReason: "?",
    };
    expect(judge(shaped, [results(500, 100)])).toMatchObject({ verdict: "shape holds", remark: "above 1", error: 1.5 });
    expect(judge(shaped, [results(50, 100)])).toMatchObject({ verdict: "shape missed", remark: "above 1; ?" });
  });

  test("that is an artefact says why and does not count", () => {
    const row = judge({ ...claim, artefact: "ab's mean is no latency" }, [results(9, 1)]);
    expect(row).toMatchObject({ verdict: "artefact", remark: "ab's mean is no latency" });
    expect(score([row])).toEqual({ hits: 0, counted: 0 });
  });

  test("whose conditions were inferred from the result can miss, and no more", () => {
    const inferred: Claim = { ...claim, inferred: "whoever", missReason: "?" };
    const rows = [judge(inferred, [results(2, 1)]), judge(inferred, [results(9, 1)])];
    expect(rows).toMatchObject([
      { verdict: "conditions inferred", remark: "whoever" },
      { verdict: "missed", remark: "whoever; ?" },
    ]);
    expect(score(rows)).toEqual({ hits: 0, counted: 1 });
    expect(judge({ ...inferred, artefact: "ab" }, [results(2, 1)]).verdict).toBe("artefact");
  });

  test("has an interval from repeats", () => {
    const row = judge(claim, [results(190, 100), results(210, 100)]);
    expect(row.simulated).toBeCloseTo(2, 9);
    // Standard error 0.1, t(1) = 12.706.
    expect(row.high).toBeCloseTo(2 + 1.2706, 3);
    expect(row.low).toBeCloseTo(2 - 1.2706, 3);
  });

  test("whose simulations failed counts as missed; one without a simulation does not", () => {
    const rows = [
      judge(claim, [results(2, 1)]),
      missedRow(claim, "out of memory"),
      openRow({ id: "Y", what: "", source: "", reason: "MegaPipe is no design here" }),
    ];
    expect(rows.map(({ verdict }) => verdict)).toEqual(["within", "missed", "not simulated"]);
    expect(score(rows)).toEqual({ hits: 1, counted: 2 });
  });

  test("that asks for a simulation it does not have is a mistake in the claim", () => {
    expect(() => judge({ ...claim, value: (result) => result("c").connsPerSec }, [results(1, 1)])).toThrow("X1");
  });
});

describe("the published claims", () => {
  test("have names of their own, and points that can be simulated", () => {
    const ids = [...CLAIMS, ...OPEN_CLAIMS].map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const one of CLAIMS) {
      const points = claimPoints(one, 7);
      expect(points.size).toBe(Object.keys(one.points).length);
      for (const { seed } of points.values()) expect(seed).toBe(7);
    }
  });

  test("use every point they name, and no other", () => {
    for (const one of CLAIMS) {
      const used = new Set<string>();
      one.value((name) => {
        used.add(name);
        expect(one.points).toHaveProperty(name);
        return sampleResult(parsePoint(one.points[name]));
      });
      expect([...used].sort()).toEqual(Object.keys(one.points).sort());
    }
  });

  test("are each about another measurement, and held out or checked, not both", () => {
    const measurements = CLAIMS.map(({ points, value }) => `${JSON.stringify(points)} ${value}`);
    expect(measurements.filter((one, at) => measurements.indexOf(one) !== at)).toEqual([]);
    for (const { heldOut, checked } of CLAIMS) expect(heldOut && checked).not.toBe(true);
  });

  test("of which only the shape counts say what it is", () => {
    for (const one of CLAIMS) {
      if (one.basis === "recalled" && one.artefact === undefined) expect(one.holds, one.id).toBeDefined();
      expect(one.holds === undefined, one.id).toBe(one.shape === undefined);
    }
  });
});

describe("sensitivity", () => {
  test("varies each constant alone, down and up, from what the point says", () => {
    const all = variations();
    expect(all).toHaveLength(1 + 2 * VARIED_CONSTANTS.length);
    const base = parsePoint({ ...point(1), scale: { syscallCycles: 2 } });
    expect(variedPoint(base, all[0] as Variation)).toBe(base);
    const varied = variedPoint(base, { constant: "syscallCycles", factor: 1.3 });
    expect(varied.scale).toEqual({ syscallCycles: 2.6 });
    for (const variation of all) expect(() => parsePoint(variedPoint(base, variation))).not.toThrow();
    expect(VARIED_CONSTANTS).not.toContain("coresPerSocket");
  });

  test("rows tell the ratio at both ends, the largest swing first", () => {
    const sample = sampleResult(parsePoint(point(1)));
    const find = (design: string, { constant, factor }: Variation) => ({
      ...sample,
      // Only linux is hurt by dearer locks; both by dearer system calls.
      connsPerSec:
        (design === "linux" ? 100 : 400) /
        (constant === "syscallCycles" || (constant === "lockUncontendedCycles" && design === "linux") ? factor : 1),
    });
    const rows = sensitivityRows("netpopcorn", ["linux"], find);
    expect(rows).toHaveLength(VARIED_CONSTANTS.length);
    const [first, ...rest] = rows;
    expect(first).toMatchObject({ constant: "lockUncontendedCycles", ratio: "netpopcorn/linux", base: 4 });
    expect(first?.low).toBeCloseTo(2.8, 9);
    expect(first?.high).toBeCloseTo(5.2, 9);
    expect(first?.swing).toBeCloseTo(0.3, 9);
    for (const { swing } of rest) expect(swing).toBeCloseTo(0, 9);
  });

  test("what was not simulated is left out", () => {
    expect(sensitivityRows("netpopcorn", ["linux"], () => undefined)).toEqual([]);
  });
});
