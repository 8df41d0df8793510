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
  const claims = chosen(CLAIMS, options.validate);
  const fingerprint = await buildFingerprint();
  const planned: Planned[] = claims.map((claim) => ({
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
  if (claims.length === CLAIMS.length) for (const claim of OPEN_CLAIMS) tell(openRow(claim));
  const tables = SECTIONS.flatMap(({ name, heldOut, checked }) => {
    const own = rows.filter((row) => row.heldOut === heldOut && row.checked === checked);
    if (own.length === 0) return [];
    const { hits, counted } = score(own);
    const verdict = `${name}${hits} of ${counted} rows within tolerance (${percent(hits, counted)})`;
    output.progress(verdict);
    return [claimTable(own, verdict)];
  });
  const report = sweepReport({
    results: [],
    tables,
    provenance: provenance(options, fingerprint),
  });
  await finish(options, output, { results: [], report, tables: { validation: rows } });
  if (failure !== undefined) throw failure;
}

/** What the model was made with, and what it was only held against. */
const SECTIONS = [
  { name: "", heldOut: false, checked: false },
  { name: "checked, not held out: ", heldOut: false, checked: true },
  { name: "held out: ", heldOut: true, checked: false },
] as const;

function percent(hits: number, counted: number): string {
  return `${((100 * hits) / Math.max(1, counted)).toFixed(0)} %`;
}

/** @param ids claims by their names, "held-out" or "checked" for all of that section; true: all. */
function chosen(claims: readonly Claim[], ids: true | readonly string[] | undefined): readonly Claim[] {
  if (ids === true || ids === undefined) return claims;
  const wanted = new Set(ids);
  const found = claims.filter(
    ({ id, heldOut, checked }) =>
      wanted.has(id) || (heldOut && wanted.has(HELD_OUT)) || (checked && wanted.has(CHECKED)),
  );
  const unknown = ids.find((id) => id !== HELD_OUT && id !== CHECKED && !claims.some((claim) => claim.id === id));
  if (unknown === undefined) return found;
  const names = claims.map(({ id }) => id).join(", ");
  throw new NetPopcornError(
    "ERR_ARGUMENT",
    `--validate: there is no row ${JSON.stringify(unknown)}; there are ${SETS}, ${names}`,
  );
}

const HELD_OUT = "held-out";
const CHECKED = "checked";
const SETS = `${HELD_OUT}, ${CHECKED}`;

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
  const section = row.heldOut ? " (held out)" : row.checked ? " (checked)" : "";
  const remark = row.remark === "" ? "" : `: ${row.remark}`;
  const what = row.what.slice(0, WHAT_CELLS).padEnd(WHAT_CELLS);
  return `${row.id.padEnd(7)}${what}${numbers.join("")}  ${row.verdict}${section}${remark}`;
}

const tones: Readonly<Record<Verdict, "good" | "bad" | "muted">> = {
  within: "good",
  "shape holds": "good",
  missed: "bad",
  "shape missed": "bad",
  "conditions inferred": "muted",
  artefact: "muted",
  "not simulated": "muted",
};

function titleOf([first]: readonly ClaimRow[]): string {
  const title = "Published and simulated";
  if (first?.heldOut) return `${title}: held out`;
  return first?.checked ? `${title}: checked, not held out` : title;
}

function claimTable(rows: readonly ClaimRow[], caption: string): Table {
  return {
    title: titleOf(rows),
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
