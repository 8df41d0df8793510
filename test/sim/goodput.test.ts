/**
 * Goal: without loss a transfer comes near what link and buffer allow; with loss it goes on. Method: one connection in
 * virtual time over a grid of conditions. GOODPUT=write writes the grid to docs/goodput.md.
 */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { CONGESTION_BBR } from "../../src/layout/option.ts";
import {
  BUFFERS_BYTES,
  bound,
  type Conditions,
  cellName,
  document,
  goodput,
  LATE_MS,
  LOSSES_PPM,
  QUEUE_BYTES,
  RTTS_MS,
} from "./goodput.ts";

const grid: Conditions[] = BUFFERS_BYTES.flatMap((bufferBytes) =>
  RTTS_MS.flatMap((rttMs) => LOSSES_PPM.map((lossPpm) => ({ lossPpm, rttMs, bufferBytes }))),
);

const bbrGrid: Conditions[] = RTTS_MS.flatMap((rttMs) =>
  LOSSES_PPM.map((lossPpm) => ({ lossPpm, rttMs, bufferBytes: 1 << 20, congestionControl: CONGESTION_BBR })),
);

const lateGrid: Conditions[] = RTTS_MS.flatMap((rttMs) =>
  LATE_MS.map((lateMs) => ({ lossPpm: 0, rttMs, bufferBytes: 1 << 20, lateMs })),
);

if (process.env.GOODPUT === "write") {
  test("docs/goodput.md", async () => {
    const cells = new Map<string, number>();
    for (const conditions of [...grid, ...lateGrid, ...bbrGrid])
      cells.set(cellName(conditions), await goodput(conditions));
    writeFileSync(new URL("../../docs/goodput.md", import.meta.url), document(cells));
  });
} else {
  // Buffers far beyond what the queue holds make slow start overshoot (docs/goodput.md).
  const shareOf = (bufferBytes: number): number => (bufferBytes > QUEUE_BYTES ? 3 / 4 : 5 / 6);
  const lossless = grid.filter(({ lossPpm, rttMs }) => lossPpm === 0 && rttMs <= 20);
  test.each(lossless)("no loss, $rttMs ms, buffers of $bufferBytes bytes: most of the bound", async (conditions) => {
    const reached = await goodput(conditions);
    expect(reached).toBeGreaterThan(bound(conditions) * shareOf(conditions.bufferBytes));
    expect(reached).toBeLessThanOrEqual(bound(conditions));
  });

  test.each([
    { rttMs: 20, lateMs: 2, share: 0.9 },
    { rttMs: 20, lateMs: 5, share: 0.9 },
    { rttMs: 20, lateMs: 10, share: 0.9 },
    { rttMs: 100, lateMs: 10, share: 0.75 },
  ])(
    "every twentieth frame $lateMs ms late of $rttMs: most of what it is without",
    async ({ rttMs, lateMs, share }) => {
      const conditions = { lossPpm: 0, rttMs, bufferBytes: 1 << 20 };
      expect(await goodput({ ...conditions, lateMs })).toBeGreaterThan(share * (await goodput(conditions)));
    },
  );

  test("BBR does not take 1 % loss for congestion", async () => {
    const conditions = { lossPpm: 10_000, rttMs: 100, bufferBytes: 1 << 20 };
    const cubic = await goodput(conditions);
    expect(await goodput({ ...conditions, congestionControl: CONGESTION_BBR })).toBeGreaterThan(3 * cubic);
  });

  test.each([1, 20])("BBR keeps most of its rate where every hundredth is lost, RTT %d ms", async (rttMs) => {
    const conditions = { rttMs, bufferBytes: 1 << 20, congestionControl: CONGESTION_BBR };
    const lossless = await goodput({ ...conditions, lossPpm: 0 }, 32 << 20);
    // One of the three seeds loses its SYN, which costs a second of four.
    expect(await goodput({ ...conditions, lossPpm: 10_000 }, 32 << 20)).toBeGreaterThan(0.75 * lossless);
  });

  test("5 % loss: slow, but it goes on", async () => {
    // 1.22 MSS / (RTT sqrt(p)) (Mathis et al., 1997) is 3 Mbit/s; time-outs take most of it.
    expect(await goodput({ lossPpm: 50_000, rttMs: 20, bufferBytes: 1 << 20 })).toBeGreaterThan(0.3);
  });
}
