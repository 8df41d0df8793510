/** `netpopcorn bench`: the macro benchmarks, and the way to the micro benchmarks. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type BenchResult, type Level, WORKLOADS } from "../bench/common.ts";
import { runBench } from "../bench/run.ts";
import { NetPopcornError } from "../errors.ts";
import { choiceOption } from "./options.ts";
import type { Output } from "./output.ts";

export type BenchCommandOptions = {
  readonly level: Level;
  readonly concurrency: number;
  readonly connections?: number;
  readonly kernels: number;
  readonly seconds: number;
  readonly seed: number;
};

const CONNECTIONS_DEFAULT = { accept: 0, bulk: 1, rr: 1, idle: 100_000, rehome: 0 } as const;
const UNITS: Readonly<Record<string, string>> = {
  connsPerSec: "connections/s",
  gbitPerSec: "Gbit/s of payload",
  roundTripsPerSec: "round trips/s",
  rehomeMs: "ms until nothing is steered to a kernel that has ended",
  bytesPerConnection: "bytes per idle connection, both sides",
};

export async function bench(name: string, options: BenchCommandOptions, output: Output): Promise<void> {
  const wanted = choiceOption("workload", [...WORKLOADS, "micro"])(name);
  if (wanted === "micro") return micro(output);
  const result = await runBench(
    {
      workload: wanted,
      level: options.level,
      kernels: options.kernels,
      concurrency: options.concurrency,
      connections: options.connections ?? CONNECTIONS_DEFAULT[wanted],
      seconds: options.seconds,
      seed: options.seed,
    },
    (text) => output.progress(text),
  );
  output.result(result, describe(result));
}

function describe(result: BenchResult): string {
  const main = Object.keys(UNITS).find((unit) => unit in result) ?? "";
  const details = Object.entries(result)
    .filter(([field]) => field !== main && field !== "workload" && field !== "stack")
    .map(([field, value]) => `${field} ${value}`);
  return `${result.workload}: ${result[main]} ${UNITS[main]}\n  ${details.join(", ")}`;
}

/** The micro benchmarks live with the sources: they are built from them. */
function micro(output: Output): Promise<void> {
  const script = fileURLToPath(new URL("../../bench/run.mjs", import.meta.url));
  if (!existsSync(script)) {
    throw new NetPopcornError(
      "ERR_BENCH",
      'the micro benchmarks are not part of the package; run "npm run bench" in a checkout of the sources',
    );
  }
  const child = spawn(process.execPath, [script, ...(output.isJson ? ["--json"] : [])], { stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => {
      if (code === 0) resolve();
      else reject(new NetPopcornError("ERR_BENCH", `the micro benchmarks ended with status ${code}`));
    });
  });
}
