import { describe, expect, it } from "vitest";
import type { ReplySteering, ReplyTuple } from "../../../src/device/replySteering.ts";
import { HomePorts } from "../../../src/kernel/homePorts.ts";
import { PortRandom } from "../../../src/kernel/seed.ts";
import { TOEPLITZ_KEY_DEFAULT, toeplitzBuild, toeplitzReply } from "../../../src/rss/toeplitz.ts";

const REMOTE = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 7, 0, 2);
const LOCAL = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 7, 0, 1);
const REMOTE_PORT = 443;
const RANGE = { first: 32768, last: 60999 };
const tables = toeplitzBuild(TOEPLITZ_KEY_DEFAULT);

/** A device in plain arrays: the tables can be changed under the chooser. */
class TestSteering implements ReplySteering {
  readonly queues: number;
  localPortFirst = 1;
  localPortLast = 0;
  filterCount = 0;
  readonly reta: number[];
  readonly groups: number[];
  readonly set: [ReplyTuple, number][] = [];
  readonly rss: ReplySteering["rss"] & object;
  readonly groupQueue?: (group: number) => number;
  readonly filterable: boolean;

  constructor(queues: number, { groups = false, filters = false, entries = 128 } = {}) {
    this.queues = queues;
    this.reta = Array.from({ length: entries }, (_, entry) => entry % queues);
    this.groups = new Array(4096).fill(-1);
    this.rss = { tables, entries, entryQueue: (entry) => this.reta[entry] as number };
    if (groups) this.groupQueue = (group) => this.groups[group] as number;
    this.filterable = filters;
  }

  /** As a card places: by group, else by hash. */
  queueFor(remote: Uint8Array, remotePort: number, local: Uint8Array, port: number): number {
    const own = port >= this.localPortFirst && port <= this.localPortLast;
    const group = this.groupQueue?.((own ? port ^ remotePort : remotePort) & 4095) ?? -1;
    if (group >= 0) return group;
    const fixed = toeplitzReply(tables, remote, remotePort, local, true);
    const contribution = (tables[10 * 256 + (port >> 8)] as number) ^ (tables[11 * 256 + (port & 255)] as number);
    return this.reta[(fixed ^ contribution) & (this.rss.entries - 1)] as number;
  }
}

function chooser(steering: ReplySteering, queue: number, range = RANGE): HomePorts {
  return new HomePorts({ queue, steering, range, random: new PortRandom(Uint32Array.of(1, 2, 3, queue)) });
}

function begin(ports: HomePorts, localPort = 0): void {
  ports.begin(REMOTE, REMOTE_PORT, LOCAL, localPort, true);
}

/** All that next() names for one connection, in its order. */
function all(ports: HomePorts): number[] {
  begin(ports);
  const found: number[] = [];
  for (let port = ports.next(); port !== 0; port = ports.next()) found.push(port);
  return found;
}

/** What a look at every port of the range finds. */
function bruteForce(steering: TestSteering, queue: number, { first, last } = RANGE): number[] {
  const found: number[] = [];
  for (let port = first; port <= last; port++) {
    if (steering.queueFor(REMOTE, REMOTE_PORT, LOCAL, port) === queue) found.push(port);
  }
  return found;
}

const sorted = (ports: readonly number[]) => [...ports].sort((a, b) => a - b);

describe("HomePorts", () => {
  it.each([2, 3, 4, 16, 128])("by hash, %i queues: names every home port once, and no other", (queues) => {
    const steering = new TestSteering(queues);
    for (const queue of [0, queues - 1]) {
      expect(sorted(all(chooser(steering, queue)))).toEqual(bruteForce(steering, queue));
    }
  });

  it.each([2, 4, 16])("by flow group of the local port, %i queues: the same", (queues) => {
    const steering = new TestSteering(queues, { groups: true });
    steering.localPortFirst = RANGE.first;
    steering.localPortLast = RANGE.last;
    steering.groups.forEach((_, group) => {
      steering.groups[group] = (group * 7) % queues;
    });
    const seen = Array.from({ length: queues }, (_, queue) => all(chooser(steering, queue)));
    seen.forEach((ports, queue) => {
      expect(sorted(ports)).toEqual(bruteForce(steering, queue));
    });
    expect(new Set(seen.flat()).size).toBe(RANGE.last - RANGE.first + 1);
  });

  it("with groups partly left to the hash and partly local ports: the same", () => {
    const steering = new TestSteering(4, { groups: true });
    steering.localPortFirst = 40_000;
    steering.localPortLast = 50_000;
    for (let group = 0; group < 4096; group += 3) steering.groups[group] = group & 3;
    steering.groups[REMOTE_PORT] = -1;
    for (let queue = 0; queue < 4; queue++) {
      expect(sorted(all(chooser(steering, queue)))).toEqual(bruteForce(steering, queue));
    }
  });

  it("starts anywhere and goes on in no order", () => {
    const steering = new TestSteering(4);
    const ports = chooser(steering, 1);
    const firsts = Array.from({ length: 4000 }, () => {
      begin(ports);
      return ports.next();
    });
    // Of some 7,000 ports, 4,000 draws find about 3,070 different ones; all quarters of the range get their share.
    expect(new Set(firsts).size).toBeGreaterThan(2900);
    for (let quarter = 0; quarter < 4; quarter++) {
      const from = RANGE.first + quarter * 7058;
      expect(firsts.filter((port) => port >= from && port < from + 7058).length).toBeGreaterThan(800);
    }
    const order = all(ports);
    const ascents = order.filter((port, i) => i > 0 && port > (order[i - 1] as number)).length;
    expect(Math.abs(ascents / order.length - 0.5)).toBeLessThan(0.45);
  });

  it("follows the tables: never a port that has left, and what has come is found before refusing", () => {
    const steering = new TestSteering(4);
    const ports = chooser(steering, 2);
    all(ports);
    steering.reta.forEach((queue, entry) => {
      if (entry % 8 === 2) steering.reta[entry] = 3;
      else if (queue === 0) steering.reta[entry] = 2;
    });
    const found = all(ports);
    expect(new Set(found)).toEqual(new Set(bruteForce(steering, 2)));
    for (const port of found) expect(steering.queueFor(REMOTE, REMOTE_PORT, LOCAL, port)).toBe(2);
    expect(sorted(all(ports))).toEqual(bruteForce(steering, 2));
  });

  it("refuses when the queue has nothing", () => {
    const steering = new TestSteering(2);
    steering.reta.fill(0);
    expect(all(chooser(steering, 1))).toEqual([]);
    expect(all(chooser(steering, 0, { first: 50_000, last: 50_000 }))).toEqual([50_000]);
  });

  it("takes a given port when it comes home, and only then", () => {
    const steering = new TestSteering(4);
    const [mine] = bruteForce(steering, 1);
    const [other] = bruteForce(steering, 2);
    const ports = chooser(steering, 1);
    begin(ports, mine);
    expect([ports.next(), ports.next()]).toEqual([mine, 0]);
    begin(ports, other);
    expect(ports.next()).toBe(0);
  });

  it("on a device that learns: shares of the range, disjoint and complete", () => {
    const learned = (queues: number): ReplySteering => ({
      queues,
      localPortFirst: 1,
      localPortLast: 0,
      filterCount: 0,
      queueFor: () => -1,
    });
    const shares = [0, 1, 2].map((queue) => all(chooser(learned(3), queue)));
    expect(new Set(shares.flat()).size).toBe(RANGE.last - RANGE.first + 1);
    expect(shares.flat().length).toBe(RANGE.last - RANGE.first + 1);
  });

  it("on a card that groups by the remote port: disjoint shares, by filter where that is not home", () => {
    const steering = new TestSteering(4, { groups: true, filters: true });
    steering.groups[REMOTE_PORT] = 2;
    const shares = [0, 1, 2, 3].map((queue) => {
      const ports = chooser(steering, queue);
      begin(ports);
      expect(ports.next()).toBeGreaterThan(0);
      expect(ports.needsFilter).toBe(queue !== 2);
      return all(ports);
    });
    expect(new Set(shares.flat()).size).toBe(RANGE.last - RANGE.first + 1);
    expect(shares.flat().length).toBe(RANGE.last - RANGE.first + 1);
  });

  it("without filters there only the group's kernel can connect", () => {
    const steering = new TestSteering(4, { groups: true });
    steering.groups[REMOTE_PORT] = 2;
    expect([0, 1, 2, 3].map((queue) => all(chooser(steering, queue)).length > 0)).toEqual([false, false, true, false]);
  });
});
