/**
 * What the balancer sees, read out of the kernels' memories: no kernel is asked, none does anything for it but keep the
 * counters that it keeps anyway.
 */

import type { Device } from "../device/device.ts";
import { groupOfPorts, groupRuleOf } from "../device/flowGroups.ts";
import {
  GAUGE_ACCEPT_QUEUE,
  GAUGE_ACCEPT_QUEUE_MAX,
  GAUGE_CONNECTIONS,
  GAUGE_TIME_WAIT,
  TCP_ACCEPTED,
  TCP_ACTIVE_OPENS,
  TCP_PASSIVE_OPENS,
} from "../layout/counters.ts";
import { FLOW_GROUPS, GROUP_LIVE, GROUP_OPENED, GROUP_SIZE_BYTES } from "../layout/flowGroup.ts";
import { MAP_BASE, MAP_FLOW_GROUPS } from "../layout/kernelMemory.ts";
import { forEachProgress } from "../views/connections.ts";
import type { FrameRing } from "../views/frameRing.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import type { GroupsObservation, KernelObservation, Observation, StealObservation } from "./policy.ts";

/** Owner of a group that the device has left to its hash. */
export const OWNER_NONE = 65535;

const LIVE_WORD = GROUP_LIVE >> 2;
const OPENED_WORD = GROUP_OPENED >> 2;
const GROUP_WORDS = GROUP_SIZE_BYTES >> 2;

/** A kernel that is down. */
const ABSENT: KernelObservation = {
  alive: false,
  load: 0,
  openConnections: 0,
  openedConnections: 0,
  queueFill: 0,
  acceptQueueMax: 1,
  pendingConnections: 0,
  acceptedConnections: 0,
};

export type ObserverOptions = {
  readonly device: Device;
  readonly kernels: number;
  readonly rxLanes: number;
  /** Memory of a kernel; undefined while it is down. A kernel that has been restarted has another. */
  readonly memoryOf: (kernel: number) => KernelMemory | undefined;
  /** Called for openings in a kernel that does not own the group, once for each look that finds some. */
  readonly onStray: (kernel: number, group: number, opened: number) => void;
  readonly canMigrate: boolean;
  /** Visits the kernels and groups that have pinned connections. */
  readonly forEachPinned: (visit: (kernel: number, group: number) => void) => void;
};

/** One kernel, in one of its lives. */
type Watched = {
  readonly memory: KernelMemory;
  readonly lanes: readonly FrameRing[];
  busyUs: number;
  /** Openings of each group that are in #opened already. */
  readonly opened: Uint32Array;
};

export class Observer {
  readonly #options: ObserverOptions;
  readonly #watched: (Watched | undefined)[];
  /** Sums over all kernels' lives. */
  readonly #opened = new Uint32Array(FLOW_GROUPS);
  /** Who owned each group at the last look, or was given it by the balancer since. */
  readonly #owners = new Uint16Array(FLOW_GROUPS).fill(OWNER_NONE);
  #lastNs = Number.NaN;

  constructor(options: ObserverOptions) {
    this.#options = options;
    this.#watched = new Array(options.kernels).fill(undefined);
  }

  observe(nowNs: number, pinsFree: number, steals: readonly StealObservation[]): Observation {
    const spanUs = (nowNs - this.#lastNs) / 1000;
    this.#lastNs = nowNs;
    const kernels = this.#watched.map((_, kernel) => this.#observeKernel(kernel, spanUs));
    let groups: GroupsObservation | undefined;
    const gather = () => this.#observeGroups();
    return {
      kernels,
      pinsFree,
      steals,
      canMigrate: this.#options.canMigrate,
      get groups() {
        groups ??= gather();
        return groups;
      },
    };
  }

  /** Connections of a group in one kernel, now. */
  liveIn(kernel: number, group: number): number {
    const memory = this.#options.memoryOf(kernel);
    const table = memory ? memory.loadU32(MAP_BASE + MAP_FLOW_GROUPS) >>> 2 : 0;
    return memory && table !== 0 ? (memory.words[table + group * GROUP_WORDS + LIVE_WORD] as number) >>> 0 : 0;
  }

  /** The balancer moves the group from `kernel` to `to`: what has been opened in it until now is no stray. */
  settle(kernel: number, group: number, to: number): void {
    this.#owners[group] = to;
    const watched = this.#watch(kernel);
    if (!watched) return;
    const at = watched.memory.loadU32(MAP_BASE + MAP_FLOW_GROUPS) >>> 2;
    const opened = (watched.memory.words[at + group * GROUP_WORDS + OPENED_WORD] as number) >>> 0;
    const fresh = (opened - (watched.opened[group] as number)) >>> 0;
    watched.opened[group] = opened;
    this.#opened[group] = (this.#opened[group] as number) + fresh;
  }

  /** RX lanes of a kernel, for looking at. */
  lanesOf(kernel: number): readonly FrameRing[] {
    return this.#watch(kernel)?.lanes ?? [];
  }

  #watch(kernel: number): Watched | undefined {
    const memory = this.#options.memoryOf(kernel);
    const watched = this.#watched[kernel];
    if (watched?.memory === memory) return watched;
    if (!memory?.booted) return undefined;
    const lanes = Array.from({ length: this.#options.rxLanes }, (_, lane) => memory.rxRing(lane));
    const fresh = { memory, lanes, busyUs: memory.busyUs, opened: new Uint32Array(FLOW_GROUPS) };
    this.#watched[kernel] = fresh;
    return fresh;
  }

  #observeKernel(kernel: number, spanUs: number): KernelObservation {
    const watched = this.#watch(kernel);
    if (!watched) {
      return ABSENT;
    }
    const { memory, lanes } = watched;
    const { busyUs } = memory;
    const workedUs = (busyUs - watched.busyUs) >>> 0;
    watched.busyUs = busyUs;
    const acceptQueueMax = Math.max(memory.counter(GAUGE_ACCEPT_QUEUE_MAX), 1);
    const pendingConnections = memory.counter(GAUGE_ACCEPT_QUEUE);
    let queueFill = Math.min(pendingConnections / acceptQueueMax, 1);
    for (const lane of lanes) if (lane.ready) queueFill = Math.max(queueFill, lane.usedBytes / lane.sizeBytes);
    return {
      alive: true,
      load: spanUs > 0 ? Math.min(workedUs / spanUs, 1) : 0,
      openConnections: memory.counter(GAUGE_CONNECTIONS) - memory.counter(GAUGE_TIME_WAIT),
      openedConnections: memory.counter(TCP_PASSIVE_OPENS) + memory.counter(TCP_ACTIVE_OPENS),
      queueFill,
      acceptQueueMax,
      pendingConnections,
      acceptedConnections: memory.counter(TCP_ACCEPTED),
    };
  }

  #observeGroups(): GroupsObservation {
    const { device, forEachPinned, onStray } = this.#options;
    const count = device.capabilities.flowGroups;
    const owner = new Uint16Array(count);
    const live = new Uint32Array(count);
    const apart = new Uint8Array(count);
    for (let group = 0; group < count; group++) owner[group] = device.flowGroupQueue?.(group) ?? OWNER_NONE;
    for (const kernel of this.#watched.keys()) {
      const watched = this.#watch(kernel);
      if (!watched) continue;
      const { words } = watched.memory;
      let at = watched.memory.loadU32(MAP_BASE + MAP_FLOW_GROUPS) >>> 2;
      for (let group = 0; group < count; group++, at += GROUP_WORDS) {
        const here = (words[at + LIVE_WORD] as number) >>> 0;
        live[group] = (live[group] as number) + here;
        if (here > 0 && owner[group] !== kernel) apart[group] = 1;
        const opened = (words[at + OPENED_WORD] as number) >>> 0;
        const fresh = (opened - (watched.opened[group] as number)) >>> 0;
        if (fresh === 0) continue;
        watched.opened[group] = opened;
        this.#opened[group] = (this.#opened[group] as number) + fresh;
        // Where others have moved the group since the last look (kernels come and go), it may have begun before that.
        if (owner[group] !== kernel && owner[group] === this.#owners[group]) onStray(kernel, group, fresh);
      }
    }
    this.#owners.set(owner);
    forEachPinned((kernel, group) => {
      if (owner[group] !== kernel) apart[group] = 1;
    });
    let progress: Uint32Array | undefined;
    const measure = () => this.#measureProgress();
    return {
      owner,
      live,
      apart,
      opened: this.#opened.slice(0, count),
      get progress() {
        progress ??= measure();
        return progress;
      },
    };
  }

  #measureProgress(): Uint32Array {
    const rule = groupRuleOf(this.#options.device.capabilities);
    const progress = new Uint32Array(rule.groups);
    for (const kernel of this.#watched.keys()) {
      const watched = this.#watch(kernel);
      if (!watched) continue;
      forEachProgress(watched.memory, (remotePort, localPort, sum) => {
        const group = groupOfPorts(remotePort, localPort, rule);
        progress[group] = (progress[group] as number) + sum;
      });
    }
    return progress;
  }
}
