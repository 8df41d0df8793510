/**
 * Local ports whose replies come home: for each connection that a kernel opens, the ports that the device's tables
 * bring back to this kernel's queue, in random order, each once. Found by turning the tables round, not by drawing
 * and asking: a port costs the same with 2 queues and with 128, and nothing is allocated.
 *
 * No kernel asks another which ports it has in use. They do not choose the same one:
 * - placed by hash or by its own flow group, a tuple has one home queue, and only its kernel uses it;
 * - where the local port does not decide (a learning device; a card that groups by the remote port), each queue has
 *   a share of the ports for good: those congruent to its number modulo the number of queues. When such a connection
 *   has moved to another kernel with its group, it is the device's owner that gives no filter for its port
 *   (filterBlocks.ts); and without a filter none is opened, for the group is the other kernel's.
 *
 * RFC 6056 3.3: the walk has a random start and a random stride, so a port says nothing about the next one.
 */
import type { ReplySteering } from "../device/replySteering.ts";
import { FLOW_GROUPS } from "../layout/flowGroup.ts";
import { PortInversion } from "../rss/invert.ts";
import { type PortRange, toeplitzReply } from "../rss/toeplitz.ts";
import { OwnBuckets } from "./ownBuckets.ts";
import type { PortRandom } from "./seed.ts";

/** No table has more. */
const ENTRIES_MAX = FLOW_GROUPS;
/** Entries of each table looked at again for each connection, so that what the owner gives us is seen in time. */
const LOOKED_AT_AGAIN = 2;

/** Where ports come from, in the order in which they are tried. "one": the caller's. */
type Plan = "groups" | "hash" | "share" | "one" | "none";

const NEXT_PLAN: Readonly<Record<Plan, Plan>> = {
  groups: "hash",
  hash: "share",
  share: "none",
  one: "none",
  none: "none",
};

export type HomePortsOptions = {
  /** This kernel's queue. */
  readonly queue: number;
  readonly steering: ReplySteering;
  /** Ephemeral ports. */
  readonly range: PortRange;
  readonly random: PortRandom;
};

export class HomePorts {
  readonly queue: number;
  readonly steering: ReplySteering;
  /** The port that next() has returned last comes home only with an exact filter. */
  needsFilter = false;
  /** Since begin(), a port has not been named for the only reason that its group is in shutGroups. */
  isHeldUp = false;
  /**
   * Flow groups that are moving here, or have been. The tables name this kernel before the group's connections have
   * come, and one of those may have the port; and if they do not come, the replies go to where they are.
   */
  readonly shutGroups = new Set<number>();
  readonly #range: PortRange;
  /** Flow groups of the device. */
  readonly #groupCount: number;
  readonly #random: PortRandom;
  #inversionV4: PortInversion | undefined;
  #inversionV6: PortInversion | undefined;
  /** Entries of the indirection table, and flow groups, that lead to this queue; flow groups left to the hash. */
  readonly #entries: OwnBuckets;
  readonly #groups: OwnBuckets;
  readonly #hashedGroups: OwnBuckets;
  #stale = true;

  // The connection at hand.
  #remote = new Uint8Array(16);
  #remotePort = 0;
  #local = new Uint8Array(16);
  #inversion: PortInversion | undefined;
  #hash = 0;
  #plan: Plan = "none";
  #lookedAgain = false;

  // The walk through a plan: positions are buckets of countMax numbers each, some of which are no port.
  #countMax = 1;
  #positions = 0;
  #left = 0;
  #position = 0;
  /** Without common factor with the number of positions; 0: not drawn yet. */
  #stride = 0;

  constructor({ queue, steering, range, random }: HomePortsOptions) {
    this.queue = queue;
    this.steering = steering;
    this.#range = range;
    this.#random = random;
    this.#groupCount = steering.flowGroups ?? FLOW_GROUPS;
    const groups = steering.groupQueue ? this.#groupCount : 0;
    this.#entries = new OwnBuckets(steering.rss?.entries ?? 0, (entry) => steering.rss?.entryQueue(entry) === queue);
    this.#groups = new OwnBuckets(groups, (group) => this.#groupQueue(group) === queue);
    this.#hashedGroups = new OwnBuckets(groups, (group) => this.#groupQueue(group) < 0);
  }

  /**
   * Begins choosing for a connection; next() names the ports. The addresses, 16 bytes, must stay as they are.
   * @param localPort the only one that will do; 0: any of the range. @param v4 both addresses are IPv4.
   */
  begin(remote: Uint8Array, remotePort: number, local: Uint8Array, localPort: number, v4: boolean): void {
    this.isHeldUp = false;
    this.#remote = remote as Uint8Array<ArrayBuffer>;
    this.#remotePort = remotePort;
    this.#local = local as Uint8Array<ArrayBuffer>;
    const { rss } = this.steering;
    if (rss) {
      this.#inversion = v4 ? this.#invertedV4() : this.#invertedV6();
      this.#hash = toeplitzReply(rss.tables, remote, remotePort, local, v4) & (rss.entries - 1);
    }
    if (localPort !== 0) {
      this.#plan = "one";
      this.#position = localPort;
      this.#left = 1;
      return;
    }
    this.#lookAtTables(this.#stale ? ENTRIES_MAX : LOOKED_AT_AGAIN);
    this.#stale = false;
    this.#lookedAgain = false;
    this.#start(this.steering.groupQueue ? "groups" : "hash");
  }

  /** @returns a port that is home, 0: there are no more. */
  next(): number {
    for (;;) {
      while (this.#left > 0) {
        const port = this.#step();
        if (port !== 0 && this.#accept(port)) return port;
      }
      if (this.#plan === "none") return 0;
      const last = NEXT_PLAN[this.#plan] === "none";
      if (last && this.#plan !== "one" && !this.#lookedAgain) {
        // Before a connection is refused: has the owner given us more since we looked?
        this.#lookedAgain = true;
        this.#start(this.#lookAtTables(ENTRIES_MAX) ? "groups" : "none");
      } else {
        this.#start(NEXT_PLAN[this.#plan]);
      }
    }
  }

  #start(plan: Plan): void {
    this.#plan = plan;
    this.#countMax = 1;
    let buckets = 0;
    const { first, last } = this.#range;
    if (plan === "groups" && this.#someGrouped()) {
      buckets = this.#groups.count;
      this.#countMax = Math.floor((last - first) / this.#groupCount) + 1;
    } else if (plan === "hash" && this.#inversion && this.#someHashed()) {
      buckets = this.#entries.count;
      this.#countMax = this.#inversion.countMax;
    } else if (plan === "share" && this.#someShared()) {
      buckets = 1;
      this.#countMax = Math.floor((last - first) / this.steering.queues) + 1;
    }
    this.#positions = buckets * this.#countMax;
    this.#left = this.#positions;
    if (this.#positions > 0) this.#position = this.#random.draw(0, this.#positions - 1);
    this.#stride = 0;
  }

  /** Goes on to the next position. @returns the port there, 0 where there is none. */
  #step(): number {
    if (this.#plan !== "one" && this.#left < this.#positions) {
      if (this.#stride === 0) this.#stride = this.#drawStride();
      const next = this.#position + this.#stride;
      this.#position = next < this.#positions ? next : next - this.#positions;
    }
    this.#left--;
    if (this.#plan === "one") return this.#position;
    const bucket = Math.floor(this.#position / this.#countMax);
    return this.#portAt(bucket, this.#position - bucket * this.#countMax);
  }

  #portAt(bucket: number, index: number): number {
    const { first, last } = this.#range;
    if (this.#plan === "hash") {
      const inversion = this.#inversion as PortInversion;
      const target = this.#current(this.#entries, bucket) ^ this.#hash;
      return index < inversion.count(target) ? inversion.port(target, index) : 0;
    }
    let port = first;
    if (this.#plan === "groups") {
      const group = this.#current(this.#groups, bucket) ^ this.#remotePort;
      port += ((group - first) & (this.#groupCount - 1)) + index * this.#groupCount;
    } else {
      port += modulo(this.queue - first, this.steering.queues) + index * this.steering.queues;
    }
    return port <= last ? port : 0;
  }

  /** A bucket of a list; one that is no longer ours shows that the list is old. */
  #current(list: OwnBuckets, index: number): number {
    const bucket = list.at(index);
    if (!list.isOwn(bucket)) this.#stale = true;
    return bucket;
  }

  /** The tables as they are now have the last word. */
  #accept(port: number): boolean {
    const { steering, queue } = this;
    this.needsFilter = false;
    const grouped = this.#isGrouped(port);
    const group = (this.#remotePort ^ (grouped ? port : 0)) & (this.#groupCount - 1);
    if (this.shutGroups.has(group)) {
      this.isHeldUp = true;
      return false;
    }
    const groupQueue = this.#groupQueue(group);
    const home = (groupQueue >= 0 ? groupQueue : this.#hashQueue(port)) === queue;
    // What the port does not decide goes by shares, or two kernels could use one tuple.
    const shared = !grouped && (groupQueue >= 0 || !steering.rss);
    // Each port belongs to one plan, so that it is named once.
    const plan = shared ? "share" : groupQueue >= 0 ? "groups" : "hash";
    if (plan !== this.#plan && this.#plan !== "one") return false;
    const filterable = shared && steering.filterable === true;
    if ((filterable || (shared && groupQueue < 0)) && port % steering.queues !== queue) return false;
    if (steering.filterCount > 0) {
      const placed = steering.queueFor(this.#remote, this.#remotePort, this.#local, port);
      // A filter that another than this kernel has set.
      if (placed !== queue && home) return false;
    }
    this.needsFilter = !home && filterable;
    return home || this.needsFilter;
  }

  /** isShared() is true of some port. */
  get hasShares(): boolean {
    return this.#someUngrouped();
  }

  /** Shares may decide who uses the port: an ephemeral one that has no part in the group. */
  isShared(port: number): boolean {
    return port >= this.#range.first && port <= this.#range.last && !this.#isGrouped(port);
  }

  #groupQueue(group: number): number {
    return this.steering.groupQueue === undefined ? -1 : this.steering.groupQueue(group);
  }

  /** Where the hash brings the port; home when the device does not hash. */
  #hashQueue(port: number): number {
    const { rss } = this.steering;
    if (!rss || !this.#inversion) return this.queue;
    return rss.entryQueue(this.#hash ^ this.#inversion.contribution(port));
  }

  /** The port has a part in the group; otherwise the remote one alone decides. */
  #isGrouped(port: number): boolean {
    const { steering } = this;
    return steering.groupQueue !== undefined && port >= steering.localPortFirst && port <= steering.localPortLast;
  }

  // Of the range, some ports at least are …

  #someGrouped(): boolean {
    const { groupQueue, localPortFirst, localPortLast } = this.steering;
    const { first, last } = this.#range;
    return groupQueue !== undefined && Math.max(localPortFirst, first) <= Math.min(localPortLast, last);
  }

  #someUngrouped(): boolean {
    return !this.#isGrouped(this.#range.first) || !this.#isGrouped(this.#range.last);
  }

  #someHashed(): boolean {
    if (this.#someGrouped() && this.#hashedGroups.count > 0) return true;
    return this.#someUngrouped() && this.#groupQueue(this.#remotePort & (this.#groupCount - 1)) < 0;
  }

  #someShared(): boolean {
    if (!this.#someUngrouped()) return false;
    return !this.steering.rss || this.#groupQueue(this.#remotePort & (this.#groupCount - 1)) >= 0;
  }

  /** @param entries how many of each table. @returns whether something had changed. */
  #lookAtTables(entries: number): boolean {
    const changed = this.#entries.lookAt(entries);
    if (!this.#someGrouped()) return changed;
    return [this.#groups.lookAt(entries), this.#hashedGroups.lookAt(entries)].includes(true) || changed;
  }

  #invertedV4(): PortInversion {
    this.#inversionV4 ??= this.#invert(4);
    return this.#inversionV4;
  }

  #invertedV6(): PortInversion {
    this.#inversionV6 ??= this.#invert(6);
    return this.#inversionV6;
  }

  #invert(family: 4 | 6): PortInversion {
    const rss = this.steering.rss as NonNullable<ReplySteering["rss"]>;
    return new PortInversion(rss.tables, family, rss.entries, this.#range);
  }

  #drawStride(): number {
    if (this.#positions < 3) return 1;
    let stride = this.#random.draw(1, this.#positions - 1);
    while (commonDivisor(stride, this.#positions) !== 1) stride = stride + 1 < this.#positions ? stride + 1 : 1;
    return stride;
  }
}

function modulo(value: number, divisor: number): number {
  return ((value % divisor) + divisor) % divisor;
}

function commonDivisor(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}
