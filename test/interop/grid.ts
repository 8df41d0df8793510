/** `npm run interop`: goodput between Linux and NetPopcorn by loss and round-trip time. See test/interop/README.md. */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { missing } from "../helpers/namespace.ts";
import { type Family, type StackName, type Transfer, transfer } from "./transfer.ts";

type Pair = { readonly sender: StackName; readonly receiver: StackName };
const PAIRS: readonly Pair[] = [
  { sender: "linux", receiver: "linux" },
  { sender: "netpopcorn", receiver: "linux" },
  { sender: "linux", receiver: "netpopcorn" },
  { sender: "netpopcorn", receiver: "netpopcorn" },
];

type Cell = { readonly name: string; readonly impairments: Transfer["impairments"] };

const RATE = 100e6;
const QUEUE_BYTES = 256 * 1024;

function cells(quick: boolean): Cell[] {
  const rtts = quick ? [20] : [2, 20, 100, 200];
  const losses = quick ? [0, 1] : [0, 0.1, 1, 5];
  const link = { rateBitsPerSecond: RATE, queueBytes: QUEUE_BYTES };
  const grid = rtts.flatMap((rttMs) =>
    losses.map((loss) => ({
      name: `${rttMs} ms, ${loss} % loss`,
      impairments: { ...link, delayNs: (rttMs / 2) * 1e6, lossPpm: loss * 1e4 },
    })),
  );
  if (quick) return grid;
  const base = { ...link, delayNs: 10e6 };
  return [
    ...grid,
    { name: "20 ms, 5 % reordered by 5 ms", impairments: { ...base, reorderPpm: 50_000, reorderNs: 5e6 } },
    { name: "20 ms, 1 % sent twice", impairments: { ...base, duplicatePpm: 10_000 } },
    { name: "20 ms, 10 ms jitter", impairments: { ...base, jitterNs: 10e6 } },
    { name: "20 ms, 10 Mbit/s", impairments: { ...base, rateBitsPerSecond: 10e6 } },
    {
      name: "100 ms, 20 Mbit/s, queue 64 KiB",
      impairments: { delayNs: 50e6, rateBitsPerSecond: 20e6, queueBytes: 65536 },
    },
  ];
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] as number;
}

async function measure(cell: Cell, { sender, receiver }: Pair, family: Family, seconds: number, seeds: number) {
  const figures: number[] = [];
  for (let seed = 1; seed <= seeds; seed++) {
    const { impairments } = cell;
    const wanted = {
      server: sender,
      client: receiver,
      family,
      role: "get",
      bytes: 1e9,
      seconds,
      impairments,
      seed,
    } as const;
    const { bytes, seconds: taken, right } = await transfer(wanted);
    if (!right) throw new Error(`${cell.name}, ${sender} to ${receiver}: wrong bytes`);
    figures.push((bytes * 8) / taken / 1e6);
  }
  return median(figures);
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: "boolean", default: false },
      family: { type: "string", default: "4" },
      seconds: { type: "string", default: "5" },
      seeds: { type: "string", default: "3" },
      only: { type: "string", default: "" },
      out: { type: "string" },
    },
  });
  const reason = missing();
  if (reason !== undefined) {
    console.log(`skipped: ${reason}`);
    return 0;
  }
  const family = Number(values.family) as Family;
  const rows: string[] = [];
  for (const cell of cells(values.quick).filter(({ name }) => name.includes(values.only))) {
    const figures: number[] = [];
    for (const pair of PAIRS) {
      figures.push(await measure(cell, pair, family, Number(values.seconds), Number(values.seeds)));
      process.stderr.write(`${cell.name}: ${pair.sender} to ${pair.receiver} ${figures.at(-1)?.toFixed(2)} Mbit/s\n`);
    }
    const [linux, ...ours] = figures as [number, ...number[]];
    const shares = ours.map((figure) => `${figure.toFixed(2)} (${Math.round((100 * figure) / linux)} %)`);
    rows.push(`| ${cell.name} | ${linux.toFixed(2)} | ${shares.join(" | ")} |`);
  }
  const table = [
    "| link | Linux to Linux | NetPopcorn to Linux | Linux to NetPopcorn | NetPopcorn to NetPopcorn |",
    "|---|---|---|---|---|",
    ...rows,
  ].join("\n");
  console.log(table);
  if (values.out !== undefined) writeFileSync(values.out, `${table}\n`);
  return 0;
}
