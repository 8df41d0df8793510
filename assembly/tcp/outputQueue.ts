/** Connections that may have something to send, in the order in which that came about. Served by output.ts. */
import { connectionsMax } from "../config.ts";
import { HandleQueue, queueCount, queueCreate, queuePush, queueShift } from "../mem/handleQueue.ts";
import { F_DIRTY, Tcb, tcbAt, tcbIndex } from "./tcb.ts";

let queue: HandleQueue = changetype<HandleQueue>(0);

export function outputQueueBoot(): bool {
  queue = queueCreate(connectionsMax);
  return changetype<usize>(queue) != 0;
}

/** Asks for output at the next flush; cheap when already asked for. */
export function outputMark(tcb: Tcb): void {
  if (tcb.flags & F_DIRTY) return;
  tcb.flags |= F_DIRTY;
  queuePush(queue, tcbIndex(tcb));
}

export function outputCount(): u32 {
  return queueCount(queue);
}

/** Oldest entry; may have been freed since (STATE_FREE). */
export function outputShift(): Tcb {
  const tcb = tcbAt(queueShift(queue));
  tcb.flags &= ~F_DIRTY;
  return tcb;
}
