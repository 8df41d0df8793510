/** `netpopcorn sim`: plans the sweep, has it run, prints each result as it comes, and writes the report. */
import type { Command } from "commander";
import { NetPopcornError } from "../../errors.ts";
import type { CellResult } from "../../sim/sweep/combine.ts";
import { buildFingerprint } from "../../sim/sweep/fingerprint.ts";
import { planCells } from "../../sim/sweep/plan.ts";
import { createOutput, type Output } from "../output.ts";
import { explainLines } from "./explain.ts";
import { refuseIgnored } from "./ignored.ts";
import { planPoints, type SimCommandOptions } from "./plan.ts";
import { sweepReport } from "./report.ts";
import { headerLine, recordOf, rowLine } from "./rows.ts";
import { varyConstants } from "./sensitivity.ts";
import { finish, provenance, withSweep } from "./session.ts";
import { validate } from "./validate.ts";

/** @throws NetPopcornError whose message is for the user. */
export async function sim(options: SimCommandOptions, command: Command): Promise<void> {
  const output = createOutput(options.json === true);
  if (options.validate !== undefined && options.sensitivity === true) {
    throw new NetPopcornError("ERR_USAGE", "--validate and --sensitivity are two runs; ask for one of them");
  }
  refuseIgnored(options, command);
  if (options.validate !== undefined) return await validate(options, output);
  if (options.sensitivity === true) return await varyConstants(options, output);
  await compare(options, output);
}

async function compare(options: SimCommandOptions, output: Output): Promise<void> {
  // Everything that can be wrong with the command line is found before anything runs.
  const points = await planPoints(options);
  const fingerprint = await buildFingerprint();
  const { results } = await withSweep(options, fingerprint, (run) => {
    if (!output.isJson) process.stdout.write(`${headerLine()}\n`);
    return run(planCells(points, options.repeats, fingerprint), (cell) => printCell(cell, options, output));
  });
  const report = sweepReport({ results, tables: [], provenance: provenance(options, fingerprint) });
  await finish(options, output, { results, report, tables: {} });
}

function printCell(cell: CellResult, options: SimCommandOptions, output: Output): void {
  const isExplained = options.explain === true;
  const text = isExplained ? [rowLine(cell), ...explainLines(cell)].join("\n") : rowLine(cell);
  output.result(recordOf(cell, isExplained), text);
}
