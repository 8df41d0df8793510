/** Where the time of a point goes: shares of each core, and the locks that cores wait for. */
import type { CellResult } from "../../sim/sweep/combine.ts";
import { SHARES, type Shares } from "../../sim/types.ts";
import { formatCompact, formatInteger } from "../format.ts";

const NAME_CELLS = 16;
const CELL = 11;

function sharesLine(name: string, shares: Shares): string {
  const cells = SHARES.map((share) => `${(100 * shares[share]).toFixed(1)} %`.padStart(CELL));
  return `  ${name.padEnd(NAME_CELLS)}${cells.join("")}`;
}

/** Lines to print below the row of the point. */
export function explainLines({ result }: CellResult): string[] {
  const { losses } = result;
  const locks = [...result.locks]
    .filter(({ acquisitions }) => acquisitions > 0)
    .sort((a, b) => b.spinShare - a.spinShare)
    .map(
      ({ name, acquisitions, contended, spinShare }) =>
        `  ${name.padEnd(NAME_CELLS)}${formatCompact(acquisitions).padStart(CELL)} times taken, ` +
        `${((100 * contended) / acquisitions).toFixed(1)} % after waiting, ` +
        `${(100 * spinShare).toFixed(1)} % of all cores' time`,
    );
  return [
    "",
    `  ${"".padEnd(NAME_CELLS)}${SHARES.map((name) => name.padStart(CELL)).join("")}`,
    ...result.coreShares.map((shares, core) => sharesLine(`core ${core}`, shares)),
    sharesLine("all cores", result.shares),
    "",
    ...(locks.length > 0 ? ["  locks", ...locks, ""] : []),
    `  ${formatInteger(result.cyclesPerConn)} cycles per connection, ` +
      `${(100 * result.localPacketShare).toFixed(1)} % of packets arrive on the core of their process, ` +
      `${(100 * result.softirqShare).toFixed(1)} % of the time in softirqs, ` +
      `${(100 * result.lookUpShare).toFixed(1)} % looking listeners up`,
    `  lost: ${formatInteger(losses.ringFull)} frames at full rings, ` +
      `${formatInteger(losses.backlogFull)} at full backlogs, ` +
      `${formatInteger(losses.acceptQueueFull)} at full accept queues, ` +
      `${formatInteger(losses.synRetransmits)} SYNs sent again, ` +
      `${formatInteger(losses.connectionsReset)} connections reset`,
    "",
  ];
}
