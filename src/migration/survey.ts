/** What a flow group has in a kernel, before anything is touched. */
import { type GroupRule, groupOfPorts } from "../device/flowGroups.ts";
import type { Handles } from "../kernel/handles.ts";
import { HANDLE_GENERATION_SHIFT } from "../layout/event.ts";
import { MAP_BASE, MAP_TCB_HIGH_WATER, MAP_TCBS } from "../layout/kernelMemory.ts";
import {
  TCB_FLAG_APP,
  TCB_FLAG_IN_FLOW_TABLE,
  TCB_FLAGS,
  TCB_GENERATION,
  TCB_PORTS,
  TCB_SIZE_BYTES,
} from "../layout/tcb.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";

/** What gets a connection's events and may go with it. The hosts of all kernels are of one kind, its own. */
interface Follows {
  moveTo?(host: SurveyedHost, handle: number): void;
}

/** What a survey needs of its kernel (src/kernel/host.ts). */
export interface SurveyedHost {
  readonly memory: KernelMemory;
  readonly handles: Handles;
  readonly groupRule: GroupRule;
  sinkOf(handle: number): Follows | undefined;
}

/** TCBs looked at in one turn, by whatever walks over all of them. */
export const WALK_BUDGET = 32_768;

export class GroupSurvey {
  connections = 0;
  /** Of those, the ones that cannot go, because neither an object nor a hook of the application can go with them. */
  pinned = 0;
  readonly #host: SurveyedHost;
  readonly #group: number;
  readonly #rule: GroupRule;
  readonly #sameThread: boolean;
  #index = 0;

  /** @param sameThread the application's objects can go with their connections. */
  constructor(host: SurveyedHost, group: number, sameThread: boolean) {
    this.#host = host;
    this.#group = group;
    this.#rule = host.groupRule;
    this.#sameThread = sameThread;
  }

  /**
   * Goes on. What opens meanwhile behind the walk is found when the connections are frozen.
   * @returns true: that was the last part.
   */
  walk(budget = WALK_BUDGET): boolean {
    const { memory } = this.#host;
    const { bytes } = memory;
    const first = memory.loadU32(MAP_BASE + MAP_TCBS);
    const count = memory.loadU32(MAP_BASE + MAP_TCB_HIGH_WATER);
    const end = Math.min(this.#index + budget, count);
    for (let index = this.#index, at = first + index * TCB_SIZE_BYTES; index < end; index++, at += TCB_SIZE_BYTES) {
      const flags = memory.loadU32(at + TCB_FLAGS);
      if ((flags & TCB_FLAG_IN_FLOW_TABLE) === 0) continue;
      const ports = at + TCB_PORTS;
      const remotePort = ((bytes[ports] as number) << 8) | (bytes[ports + 1] as number);
      const localPort = ((bytes[ports + 2] as number) << 8) | (bytes[ports + 3] as number);
      if (groupOfPorts(remotePort, localPort, this.#rule) !== this.#group) continue;
      this.connections++;
      if ((flags & TCB_FLAG_APP) !== 0 && !this.#goes(index, bytes[at + TCB_GENERATION] as number)) this.pinned++;
    }
    this.#index = end;
    return end >= count;
  }

  #goes(index: number, generation: number): boolean {
    const host = this.#host;
    const sink = host.sinkOf(index | (generation << HANDLE_GENERATION_SHIFT));
    return sink ? this.#sameThread && sink.moveTo !== undefined : host.handles.handOver !== undefined;
  }
}
