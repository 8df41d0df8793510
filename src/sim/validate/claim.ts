/** A published claim, the simulations that it is about, and the verdict. */
import { parsePoint } from "../point.ts";
import { estimate } from "../sweep/statistics.ts";
import type { PointResult, SimPoint } from "../types.ts";

/**
 * How the published value is known. `read`: printed, or digitised from vector graphics: right within 15 %. `pixels`:
 * measured in a picture: 25 %. `recalled`: remembered from a text that was not at hand: only its shape counts.
 */
export type Basis = "read" | "pixels" | "recalled";
const TOLERANCE: Readonly<Record<Basis, number | null>> = { read: 0.15, pixels: 0.25, recalled: null };

/** As from a command line: what is left out has its default. */
export type PointInput = Partial<SimPoint> & Pick<SimPoint, "design" | "cores" | "workload">;

export type Claim = {
  readonly id: string;
  /** "netpopcorn / linux, lighttpd, 24 cores". */
  readonly what: string;
  /** No constant was fitted to this curve and no mechanism of the engine chosen after a look at it. */
  readonly heldOut?: true;
  /** No constant was fitted to it for its own sake, but mechanisms or conditions were chosen after a look at it. */
  readonly checked?: true;
  readonly source: string;
  readonly published: number;
  /** "×", "conn/s", "%". */
  readonly unit: string;
  readonly basis: Basis;
  /** Simulations by name. */
  readonly points: Readonly<Record<string, PointInput>>;
  readonly value: (result: (name: string) => PointResult) => number;
  /** Where only the shape counts: whether the simulated value has it. */
  readonly holds?: (simulated: number) => boolean;
  /** What the shape is: "below 1: it collapses". */
  readonly shape?: string;
  /**
   * The same, published again with another value. Both cannot be right: what lies between them, give or take the
   * tolerance, has the shape.
   */
  readonly again?: { readonly value: number; readonly source: string };
  /**
   * What of its conditions was not told, but inferred from the published result itself. Such a row can miss; that it
   * comes within tolerance is no evidence, and does not count.
   */
  readonly inferred?: string;
  /** Why the published value says more about how it was measured than about the designs: shown, not chased. */
  readonly artefact?: string;
  /** What is known about a miss. */
  readonly missReason?: string;
};

/** A claim without a simulation. */
export type OpenClaim = {
  readonly id: string;
  readonly what: string;
  readonly source: string;
  readonly reason: string;
};

export type Verdict =
  | "within"
  | "missed"
  | "shape holds"
  | "shape missed"
  | "conditions inferred"
  | "artefact"
  | "not simulated";

export type ClaimRow = {
  readonly id: string;
  readonly heldOut: boolean;
  readonly checked: boolean;
  readonly what: string;
  readonly source: string;
  readonly published: number | null;
  readonly simulated: number | null;
  /** 95 % confidence interval, with two repeats or more. */
  readonly low: number | null;
  readonly high: number | null;
  readonly unit: string;
  /** (simulated - published) / published. */
  readonly error: number | null;
  /** Relative; null where only the shape counts. */
  readonly tolerance: number | null;
  readonly verdict: Verdict;
  /** Why it missed, is an artefact, or is not simulated; what the shape is. */
  readonly remark: string;
};

/** The claim's simulations with a seed, by name. @throws NetPopcornError when a point of the claim is wrong. */
export function claimPoints(claim: Claim, seed: number): Map<string, SimPoint> {
  return new Map(Object.entries(claim.points).map(([name, input]) => [name, parsePoint({ ...input, seed })]));
}

/** @param repeats the claim's results by name, one map for each seed. */
export function judge(claim: Claim, repeats: readonly ReadonlyMap<string, PointResult>[]): ClaimRow {
  const samples = repeats.map((results) =>
    claim.value((name) => {
      const result = results.get(name);
      if (result === undefined)
        throw new RangeError(`claim ${claim.id} asks for "${name}", which it does not simulate`);
      return result;
    }),
  );
  const { mean, halfWidth } = estimate(samples);
  const isShape = claim.holds !== undefined || claim.again !== undefined;
  const tolerance = isShape ? null : TOLERANCE[claim.basis];
  const met = verdictOf(claim, mean, tolerance);
  const isMissed = met === "missed" || met === "shape missed";
  const verdict = claim.inferred === undefined || isMissed || met === "artefact" ? met : "conditions inferred";
  return {
    id: claim.id,
    heldOut: claim.heldOut === true,
    checked: claim.checked === true,
    what: claim.what,
    source: claim.source,
    published: claim.published,
    simulated: mean,
    low: halfWidth === null ? null : mean - halfWidth,
    high: halfWidth === null ? null : mean + halfWidth,
    unit: claim.unit,
    error: claim.published === 0 ? null : (mean - claim.published) / claim.published,
    tolerance,
    verdict,
    remark:
      claim.artefact ??
      [againOf(claim), claim.shape, claim.inferred, isMissed ? claim.missReason : undefined].filter(Boolean).join("; "),
  };
}

function againOf({ again }: Claim): string | undefined {
  return again && `published twice: also ${Number(again.value.toPrecision(3))} (${again.source})`;
}

function verdictOf(claim: Claim, simulated: number, tolerance: number | null): Verdict {
  if (claim.artefact !== undefined) return "artefact";
  if (claim.holds !== undefined) return claim.holds(simulated) ? "shape holds" : "shape missed";
  if (claim.again !== undefined) {
    const margin = 1 + (TOLERANCE[claim.basis] ?? 0);
    const low = Math.min(claim.published, claim.again.value) / margin;
    const high = Math.max(claim.published, claim.again.value) * margin;
    return simulated >= low && simulated <= high ? "shape holds" : "shape missed";
  }
  const limit = tolerance ?? TOLERANCE.pixels ?? 0;
  return Math.abs(simulated - claim.published) <= limit * Math.abs(claim.published) ? "within" : "missed";
}

/** For a claim whose simulations failed. */
export function missedRow(claim: Claim, reason: string): ClaimRow {
  const { id, what, source, published, unit } = claim;
  const unknown = { simulated: null, low: null, high: null, error: null, tolerance: null };
  const section = { heldOut: claim.heldOut === true, checked: claim.checked === true };
  const remark = `a simulation failed: ${reason}`;
  return { id, ...section, what, source, published, ...unknown, unit, verdict: "missed", remark };
}

export function openRow({ id, what, source, reason }: OpenClaim): ClaimRow {
  const unknown = { published: null, simulated: null, low: null, high: null, error: null, tolerance: null };
  return {
    id,
    heldOut: false,
    checked: false,
    what,
    source,
    ...unknown,
    unit: "",
    verdict: "not simulated",
    remark: reason,
  };
}

const UNCOUNTED: ReadonlySet<Verdict> = new Set(["artefact", "conditions inferred", "not simulated"]);

/** Rows that count: no artefacts, none that inferred conditions bring within tolerance, none without a simulation. */
export function score(rows: readonly ClaimRow[]): { readonly hits: number; readonly counted: number } {
  const counted = rows.filter(({ verdict }) => !UNCOUNTED.has(verdict));
  const hits = counted.filter(({ verdict }) => verdict === "within" || verdict === "shape holds");
  return { hits: hits.length, counted: counted.length };
}
