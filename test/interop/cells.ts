/** The links that the grid measures. */
import type { Impairments } from "../../src/device/card/impairment.ts";
import type { Family, Transfer } from "./transfer.ts";

type Congestion = NonNullable<Transfer["congestion"]>;

export type Cell = {
  readonly group: string;
  readonly name: string;
  readonly family: Family;
  readonly congestion: Congestion;
  readonly impairments: Partial<Impairments>;
  /** Which packets suffer is drawn: one run says little. */
  readonly isRandom: boolean;
};

const LINK = { rateBitsPerSecond: 100e6, queueBytes: 256 * 1024 };

function cell(
  group: string,
  name: string,
  impairments: Cell["impairments"],
  { family = 4, congestion = "cubic" }: { family?: Family; congestion?: Congestion } = {},
): Cell {
  const { lossPpm = 0, reorderPpm = 0, duplicatePpm = 0, jitterNs = 0 } = impairments;
  const isRandom = lossPpm + reorderPpm + duplicatePpm + jitterNs > 0;
  return { group, name, family, congestion, impairments: { ...LINK, ...impairments }, isRandom };
}

const rtt = (rttMs: number) => ({ delayNs: (rttMs / 2) * 1e6 });
const loss = (percent: number) => ({ lossPpm: percent * 1e4 });

function lossGrid(rttsMs: readonly number[], losses: readonly number[], family: Family): Cell[] {
  return rttsMs.flatMap((rttMs) =>
    losses.map((percent) =>
      cell(`loss, IPv${family}`, `${rttMs} ms, ${percent} % lost`, { ...rtt(rttMs), ...loss(percent) }, { family }),
    ),
  );
}

/** Against those of the loss grid, which have 256 KiB. */
function bufferGrid(rttsMs: readonly number[], buffersKiB: readonly number[], losses: readonly number[]): Cell[] {
  return rttsMs.flatMap((rttMs) =>
    buffersKiB.flatMap((kib) =>
      losses.map((percent) => {
        const name = `${rttMs} ms, buffer ${kib} KiB, ${percent} % lost`;
        return cell("buffers, IPv4", name, { ...rtt(rttMs), ...loss(percent), queueBytes: kib * 1024 });
      }),
    ),
  );
}

function otherLinks(): Cell[] {
  const group = "other links, IPv4";
  return [
    cell(group, "20 ms, 5 % late by 5 ms", { ...rtt(20), reorderPpm: 50_000, reorderNs: 5e6 }),
    cell(group, "20 ms, 1 % sent twice", { ...rtt(20), duplicatePpm: 10_000 }),
    cell(group, "20 ms, 10 ms jitter", { ...rtt(20), jitterNs: 10e6 }),
    cell(group, "20 ms, 10 Mbit/s", { ...rtt(20), rateBitsPerSecond: 10e6 }),
    cell(group, "20 ms, buffer 32 KiB", { ...rtt(20), queueBytes: 32 * 1024 }),
    cell(group, "100 ms, 20 Mbit/s, buffer 64 KiB", { ...rtt(100), rateBitsPerSecond: 20e6, queueBytes: 65_536 }),
  ];
}

function otherControl(): Cell[] {
  return (["reno", "bbr"] as const).map((congestion) =>
    cell("20 ms, IPv4", `${congestion}, 1 % lost`, { ...rtt(20), ...loss(1) }, { congestion }),
  );
}

export function cells(isQuick: boolean): Cell[] {
  if (isQuick) return [...lossGrid([20], [0, 1], 4), ...lossGrid([20], [0], 6)];
  return [
    ...lossGrid([2, 20, 100, 200], [0, 0.1, 1, 5], 4),
    ...lossGrid([20, 100], [0, 1], 6),
    ...bufferGrid([2, 20, 100], [64, 1024], [0, 0.1]),
    ...otherLinks(),
    ...otherControl(),
  ];
}
