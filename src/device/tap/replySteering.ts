/** How a TAP device places the replies to connections that we open. */
import type { ReplySteering } from "../replySteering.ts";
import { queueLookup, type SteeringView } from "./ebpf.ts";

/** With our steering program: by flow group alone, in which our own port has a part. */
export function groupSteering(view: SteeringView, queues: number): ReplySteering {
  const groupQueues = new Uint16Array(view.queues);
  return {
    queues,
    localPortFirst: view.localPorts.first,
    localPortLast: view.localPorts.last,
    flowGroups: view.flowGroups,
    groupQueue: (group) => groupQueues[group] as number,
    filterCount: 0,
    queueFor: queueLookup(view),
  };
}

/** Linux's own steering learns: replies come to the queue that has sent last. */
export function learnedSteering(queues: number): ReplySteering {
  return { queues, localPortFirst: 1, localPortLast: 0, filterCount: 0, queueFor: () => -1 };
}
