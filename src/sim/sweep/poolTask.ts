/** What a thread of the pool runs: one simulation, with its progress sent back now and then. */
import { realClock } from "../../kernel/clock.ts";
import { runPoint } from "../run.ts";
import { failureOf, type Outcome, type PoolTask } from "./executor.ts";

const nowNs = () => realClock.nowNs();

/** Real time between two messages about progress. */
const PROGRESS_NS = 100e6;

export default async function runTask({ point, progress }: PoolTask): Promise<Outcome> {
  let saidNs = nowNs();
  const onProgress = (fraction: number) => {
    const now = nowNs();
    if (now - saidNs < PROGRESS_NS) return;
    saidNs = now;
    progress.postMessage(fraction);
  };
  try {
    return { result: await runPoint(point, { onProgress, wallNs: nowNs }) };
  } catch (error) {
    return failureOf(error);
  } finally {
    progress.close();
  }
}
