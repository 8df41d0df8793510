/** `npm run interop`: goodput between Linux and NetPopcorn by link. See test/interop/README.md. */
import { mkdirSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { missing } from "../helpers/namespace.ts";
import { type Cell, cells } from "./cells.ts";
import { isShort, markdown, percent, picture, type Row } from "./report.ts";
import { type StackName, transfer } from "./transfer.ts";

type Pair = { readonly sender: StackName; readonly receiver: StackName };
const PAIRS = {
  linux: { sender: "linux", receiver: "linux" },
  sending: { sender: "netpopcorn", receiver: "linux" },
  receiving: { sender: "linux", receiver: "netpopcorn" },
} as const satisfies Record<string, Pair>;
type PairName = keyof typeof PAIRS;

/** Rows below the goal are measured again so often. */
const AGAIN_MAX = 2;

/**
 * Over a long link without loss a transfer is mostly its beginning, and whether slow start overshoots the link's buffer
 * makes it 41 or 57 Mbit/s, Linux's own, too: neither one run nor a median says much.
 */
const LONG_RUNS = 5;

function runsOf({ impairments, isRandom }: Cell, seeds: number): number {
  if (isRandom) return seeds;
  return (impairments.delayNs ?? 0) >= 50e6 ? LONG_RUNS : 1;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** @returns Mbit/s. @throws when bytes were wrong. */
async function measure(cell: Cell, { sender, receiver }: Pair, seconds: number, seed: number): Promise<number> {
  const { family, congestion, impairments } = cell;
  const ends = { server: sender, client: receiver, role: "get" } as const;
  const wanted = { ...ends, family, congestion, impairments, bytes: 1e9, seconds, seed };
  const { bytes, seconds: taken, right } = await transfer(wanted);
  if (!right) throw new Error(`${cell.name}, ${sender} to ${receiver}: wrong bytes`);
  return (bytes * 8) / taken / 1e6;
}

async function measureRow(cell: Cell, seconds: number, seeds: number, mayGoOn: () => boolean): Promise<Row> {
  const figures: Record<PairName, number[]> = { linux: [], sending: [], receiving: [] };
  const run = async (seed: number) => {
    // In turns, so that all three meet the same mood of the machine.
    for (const [name, pair] of Object.entries(PAIRS)) {
      figures[name as PairName].push(await measure(cell, pair, seconds, seed));
    }
  };
  const row = (): Row => ({
    cell,
    linux: mean(figures.linux),
    sending: mean(figures.sending),
    receiving: mean(figures.receiving),
    runs: figures.linux.length,
  });
  const planned = runsOf(cell, seeds);
  for (let seed = 1; seed <= planned; seed++) await run(seed);
  for (let again = 1; again <= AGAIN_MAX && isShort(row()) && mayGoOn(); again++) await run(planned + again);
  return row();
}

function integer(text: string, name: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} must be an integer above 0, not ${text}`);
  return value;
}

/** @returns the exit status: 1 when a row stays below the goal. */
export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: "boolean", default: false },
      seconds: { type: "string", default: "3" },
      seeds: { type: "string", default: "2" },
      minutes: { type: "string", default: "20" },
      only: { type: "string", default: "" },
      out: { type: "string" },
    },
  });
  const reason = missing();
  if (reason !== undefined) {
    console.log(`skipped: ${reason}`);
    return 0;
  }
  const seconds = integer(values.seconds, "seconds");
  const seeds = integer(values.seeds, "seeds");
  // The last row must end in time, too.
  const endMs = performance.now() + integer(values.minutes, "minutes") * 60_000 - seeds * 3 * (seconds + 2) * 1000;
  const mayGoOn = () => performance.now() < endMs;
  const load = loadavg()[0] ?? 0;
  const rows: Row[] = [];
  const skipped: Cell[] = [];
  for (const cell of cells(values.quick).filter(({ group, name }) => `${group}: ${name}`.includes(values.only))) {
    if (!mayGoOn()) {
      skipped.push(cell);
      continue;
    }
    const row = await measureRow(cell, seconds, seeds, mayGoOn);
    rows.push(row);
    const shares = `sending ${percent(row, "sending")} %, receiving ${percent(row, "receiving")} %`;
    process.stderr.write(`${cell.group}: ${cell.name}: ${shares} of ${row.linux.toFixed(2)} Mbit/s\n`);
  }
  const text = markdown(rows, seconds, skipped, load);
  console.log(text);
  // The whole grid is what the documentation shows.
  const folder = values.out ?? (values.quick || values.only !== "" ? undefined : "docs");
  if (folder !== undefined) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "interop.md"), text);
    writeFileSync(join(folder, "interop.svg"), picture(rows));
  }
  return rows.some(isShort) ? 1 : 0;
}
