/** `netpopcorn sim --sensitivity`: which constants the ratios to netpopcorn depend on. */
import { NetPopcornError } from "../../errors.ts";
import type { Table } from "../../report/document.ts";
import { buildFingerprint } from "../../sim/sweep/fingerprint.ts";
import { planCells } from "../../sim/sweep/plan.ts";
import {
  type SensitivityRow,
  sensitivityRows,
  VARIATION,
  type Variation,
  variations,
  variedPoint,
} from "../../sim/sweep/sensitivity.ts";
import type { PointResult, SimPoint } from "../../sim/types.ts";
import type { Output } from "../output.ts";
import { planPoints, type SimCommandOptions } from "./plan.ts";
import { sweepReport } from "./report.ts";
import { finish, provenance, withSweep } from "./session.ts";

const OWN = "netpopcorn";
const CORES_DEFAULT = 24;

const keyOf = (design: string, { constant, factor }: Variation) => `${design} ${constant ?? ""} ${factor}`;

export async function varyConstants(options: SimCommandOptions, output: Output): Promise<void> {
  const designs = [...new Set([...options.design, OWN])] as SimCommandOptions["design"];
  if (designs.length < 2) {
    throw new NetPopcornError("ERR_ARGUMENT", `--sensitivity is about ratios: name a design beside ${OWN}`);
  }
  const points = await planPoints({ ...options, design: designs, cores: [await coresOf(options)], explain: false });
  const fingerprint = await buildFingerprint();
  const all = variations().flatMap((variation) =>
    points.map((point) => ({ variation, point: variedPoint(point, variation) })),
  );
  const found = new Map<string, PointResult>();
  const cells = planCells(
    all.map(({ point }) => point),
    options.repeats,
    fingerprint,
  );
  await withSweep(options, fingerprint, (run) => {
    const names = new Map<SimPoint, string>(all.map(({ variation, point }) => [point, keyOf(point.design, variation)]));
    return run(cells, ({ point, result }) => found.set(names.get(point) ?? "", result));
  });
  const others = designs.filter((design) => design !== OWN);
  const rows = sensitivityRows(OWN, others, (design, variation) => found.get(keyOf(design, variation)));
  if (!output.isJson) process.stdout.write(`${headerLine}\n`);
  for (const row of rows) output.result({ ...row }, rowLine(row));
  const report = sweepReport({
    results: [],
    tables: [sensitivityTable(rows)],
    provenance: provenance(options, fingerprint),
  });
  await finish(options, output, { results: [], report, tables: { sensitivity: rows } });
}

/** The largest of --cores; ratios are about one core count. */
async function coresOf(options: SimCommandOptions): Promise<number> {
  if (options.cores !== undefined) return Math.max(...options.cores);
  const all = await planPoints({ ...options, design: [OWN] });
  const counts = all.map(({ cores }) => cores);
  return counts.includes(CORES_DEFAULT) ? CORES_DEFAULT : Math.max(...counts);
}

const percent = 100 * VARIATION;
const NAME_CELLS = 24;
const RATIO_CELLS = 30;
const NUMBER_CELLS = 9;
const numbers = [`-${percent} %`, "as it is", `+${percent} %`, "swing"];
const headerLine = [
  "constant".padEnd(NAME_CELLS),
  "ratio".padEnd(RATIO_CELLS),
  ...numbers.map((name) => name.padStart(NUMBER_CELLS)),
].join("");

function textsOf({ low, base, high, swing }: SensitivityRow): string[] {
  return [low.toPrecision(3), base.toPrecision(3), high.toPrecision(3), `${(100 * swing).toFixed(1)} %`];
}

function rowLine(row: SensitivityRow): string {
  const cells = textsOf(row).map((text) => text.padStart(NUMBER_CELLS));
  return row.constant.padEnd(NAME_CELLS) + row.ratio.padEnd(RATIO_CELLS) + cells.join("");
}

function sensitivityTable(rows: readonly SensitivityRow[]): Table {
  return {
    title: "Sensitivity",
    caption: `Ratios of connections per second when one constant of the machine is ${percent} % lower or higher.`,
    columns: ["constant", "ratio", ...numbers],
    rows: rows.map((row) => [row.constant, row.ratio, ...textsOf(row)]),
  };
}
