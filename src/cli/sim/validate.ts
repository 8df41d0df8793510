/** `netpopcorn sim --validate`: simulates what papers have published, and says how far off it is. */
import { NetPopcornError } from "../../errors.ts";
import type { Table, TableCell } from "../../report/document.ts";
import { buildFingerprint } from "../../sim/sweep/fingerprint.ts";
import { canonicalJson, planCells } from "../../sim/sweep/plan.ts";
import type { PointResult, SimPoint } from "../../sim/types.ts";
import {
  type Claim,
  type ClaimRow,
  claimPoints,
  judge,
  missedRow,
  openRow,
  score,
  type Verdict,
} from "../../sim/validate/claim.ts";
import { CLAIMS, OPEN_CLAIMS } from "../../sim/validate/claims.ts";
import type { Output } from "../output.ts";
import type { SimCommandOptions } from "./plan.ts";
import { sweepReport } from "./report.ts";
import { finish, provenance, withSweep } from "./session.ts";

/** Repeats have seeds of their own, far from each other. */
const SEED_STEP = 7919;

type Planned = { readonly claim: Claim; readonly repeats: readonly ReadonlyMap<string, SimPoint>[] };

export async function validate(options: SimCommandOptions, output: Output): Promise<void> {
  const fingerprint = await buildFingerprint();
  const planned: Planned[] = CLAIMS.map((claim) => ({
    claim,
    repeats: Array.from({ length: options.repeats }, (_, repeat) =>
      claimPoints(claim, (options.seed + repeat * SEED_STEP) >>> 0),
    ),
  }));
  // Claims share simulations; each is done once.
  const points = new Map(
    planned.flatMap(({ repeats }) =>
      repeats.flatMap((named) => [...named.values()].map((point) => [canonicalJson(point), point] as const)),
    ),
  );
  const done = new Map<string, PointResult>();
  const rows: ClaimRow[] = [];
  if (!output.isJson) process.stdout.write(`${headerLine}\n`);
  const tell = (row: ClaimRow) => {
    rows.push(row);
    output.result({ ...row }, rowLine(row));
  };
  const open = new Set(planned);
  const tellDone = () => {
    for (const one of open) {
      const results = one.repeats.flatMap((named) => resultsOf(named, done) ?? []);
      if (results.length < one.repeats.length) continue;
      open.delete(one);
      tell(judge(one.claim, results));
    }
  };
  const failure = await withSweep(options, fingerprint, async (run) => {
    const cells = planCells([...points.values()], 1, fingerprint);
    await run(cells, ({ point, result }) => {
      done.set(canonicalJson(point), result);
      tellDone();
    });
  }).catch((error: unknown) => {
    if (!(error instanceof NetPopcornError) || error.code === "ERR_INTERRUPTED") throw error;
    return error;
  });
  // What cannot be simulated counts as missed, and the command fails.
  for (const { claim } of open) tell(missedRow(claim, failure?.message ?? ""));
  for (const claim of OPEN_CLAIMS) tell(openRow(claim));
  const { hits, counted } = score(rows);
  const verdict = `${hits} of ${counted} rows within tolerance (${((100 * hits) / Math.max(1, counted)).toFixed(0)} %)`;
  output.progress(verdict);
  const report = sweepReport({
    results: [],
    tables: [claimTable(rows, verdict)],
    provenance: provenance(options, fingerprint),
  });
  await finish(options, output, { results: [], report, tables: { validation: rows } });
  if (failure !== undefined) throw failure;
}

function resultsOf(
  named: ReadonlyMap<string, SimPoint>,
  done: ReadonlyMap<string, PointResult>,
): ReadonlyMap<string, PointResult> | undefined {
  const results = new Map<string, PointResult>();
  for (const [name, point] of named) {
    const result = done.get(canonicalJson(point));
    if (result === undefined) return undefined;
    results.set(name, result);
  }
  return results;
}

const WHAT_CELLS = 66;
const NUMBER_CELLS = 10;
const headerLine = [
  "claim".padEnd(7),
  "".padEnd(WHAT_CELLS),
  ...["published", "simulated", "±", "error"].map((name) => name.padStart(NUMBER_CELLS)),
  " verdict",
].join("");

/** Three digits, and the unit. */
function quantity(value: number | null, unit: string): string {
  return value === null ? "" : `${Number(value.toPrecision(3))}${unit === "×" ? "×" : ` ${unit}`}`;
}

function cellsOf(row: ClaimRow): { published: string; simulated: string; interval: string; error: string } {
  const halfWidth = row.high === null || row.simulated === null ? null : row.high - row.simulated;
  return {
    published: quantity(row.published, row.unit),
    simulated: quantity(row.simulated, row.unit),
    interval: halfWidth === null ? "" : String(Number(halfWidth.toPrecision(2))),
    error: row.error === null ? "" : `${row.error > 0 ? "+" : ""}${(100 * row.error).toFixed(0)} %`,
  };
}

function rowLine(row: ClaimRow): string {
  const { published, simulated, interval, error } = cellsOf(row);
  const numbers = [published, simulated, interval, error].map((text) => text.padStart(NUMBER_CELLS));
  const remark = row.remark === "" ? "" : `: ${row.remark}`;
  const what = row.what.slice(0, WHAT_CELLS).padEnd(WHAT_CELLS);
  return `${row.id.padEnd(7)}${what}${numbers.join("")}  ${row.verdict}${remark}`;
}

const tones: Readonly<Record<Verdict, "good" | "bad" | "muted">> = {
  within: "good",
  "shape holds": "good",
  missed: "bad",
  "shape missed": "bad",
  artefact: "muted",
  "not simulated": "muted",
};

export function claimTable(rows: readonly ClaimRow[], caption: string): Table {
  return {
    title: "Published and simulated",
    caption,
    columns: ["claim", "published", "simulated", "±", "error", "tolerance", "verdict", "remark", "source"],
    rows: rows.map((row): TableCell[] => {
      const { published, simulated, interval, error } = cellsOf(row);
      const tolerance = row.tolerance === null ? "" : `±${100 * row.tolerance} %`;
      const verdict = { text: row.verdict, tone: tones[row.verdict] };
      return [
        `${row.id} ${row.what}`,
        published,
        simulated,
        interval,
        error,
        tolerance,
        verdict,
        row.remark,
        row.source,
      ];
    }),
  };
}
