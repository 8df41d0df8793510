/** `netpopcorn packetdrill FILE…`: runs packetdrill scripts against a kernel in virtual time. */
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { NetPopcornError } from "../errors.ts";
import { type RunResult, runScript } from "../packetdrill/run.ts";
import { loadModule } from "../wasm/load.ts";
import type { Output } from "./output.ts";

export type PacketdrillCommandOptions = {
  readonly seed: number;
  /** NAME=value */
  readonly define: readonly string[];
  readonly ipVersion?: string;
  readonly toleranceUsecs?: number;
  readonly foreign?: true;
  readonly expectAll?: true;
  readonly dryRun?: true;
  readonly verbose?: true;
};

/** @returns true when no script has failed. */
export async function packetdrill(
  files: readonly string[],
  options: PacketdrillCommandOptions,
  output: Output,
): Promise<boolean> {
  // Everything is read before anything runs: a wrong name is a mistake, not a failed test.
  const sources = files.map((file) => ({ file, text: read(file), directory: dirname(file) }));
  const definitions = new Map(options.define.map(definition));
  const module = await loadModule("kernel", false);
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const source of sources) {
    const result = runScript(source, {
      module,
      definitions,
      seed: options.seed,
      options: scriptOptions(options),
      print: (text) => {
        if (options.verbose) output.progress(text);
      },
    });
    counts[result.outcome === "unsupported" ? "skipped" : result.outcome]++;
    tell(source.file, result, output);
  }
  output.result(counts, `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  return counts.failed === 0;
}

function tell(file: string, result: RunResult, output: Output): void {
  if (result.outcome === "passed") {
    output.result({ file, ok: true, error: null }, `ok      ${file}`);
  } else if (result.outcome === "failed") {
    output.result({ file, ok: false, error: result.error }, `FAILED  ${result.error}`);
  } else {
    output.result({ file, ok: false, error: result.error, skipped: true }, `skipped ${result.error}`);
  }
}

/** As the script's own options: those are applied after them. */
function scriptOptions(options: PacketdrillCommandOptions) {
  const list: { name: string; value: string | undefined }[] = [];
  if (options.ipVersion !== undefined) list.push({ name: "ip_version", value: options.ipVersion });
  if (options.toleranceUsecs !== undefined) {
    list.push({ name: "tolerance_usecs", value: String(options.toleranceUsecs) });
  }
  if (options.foreign) list.push({ name: "foreign", value: undefined });
  if (options.expectAll) list.push({ name: "expect_all", value: undefined });
  if (options.dryRun) list.push({ name: "dry_run", value: undefined });
  return list;
}

function definition(text: string): [string, string] {
  const equals = text.indexOf("=");
  if (equals < 1) {
    throw new NetPopcornError("ERR_ARGUMENT", `--define must be NAME=value, not ${JSON.stringify(text)}`);
  }
  return [text.slice(0, equals), text.slice(equals + 1)];
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "EIO";
    throw new NetPopcornError(code, `${file} cannot be read; name packetdrill scripts (.pkt)`, { cause });
  }
}
