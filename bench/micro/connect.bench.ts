import { createSegment } from "../../src/device/card/segment.ts";
import { CardReplySteering } from "../../src/device/card/replySteering.ts";
import { createStack } from "../../src/stack.ts";
import type { Card } from "../../src/device/card/card.ts";
import { parseAddress } from "../../src/ip/address.ts";
import { HomePorts } from "../../src/kernel/homePorts.ts";
import { PortRandom } from "../../src/kernel/seed.ts";
import { toeplitzReply } from "../../src/rss/toeplitz.ts";
import type { MicroCase, MicroSuite } from "./harness.ts";

const RANGE = { first: 32768, last: 60999 };
const RANGE_PORTS = RANGE.last - RANGE.first + 1;
const REMOTE = parseAddress("10.7.0.2");
const LOCAL = parseAddress("10.7.0.1");
const REMOTE_PORT = 443;
const QUEUE = 1;
/** Table of the local port's first byte, in an IPv4 4-tuple. */
const PORT_TABLE = 10 * 256;
const SEED = Uint32Array.of(1, 2, 3, 4);

/** Ports in use towards the peer, drawn evenly; stands for the kernel's look-up in both ways of choosing. */
function portsInUse(count: number): Uint8Array {
  const used = new Uint8Array(65536);
  const random = new PortRandom(Uint32Array.of(5, 6, 7, 8));
  for (let left = count; left > 0; ) {
    const port = random.draw(RANGE.first, RANGE.last);
    if (used[port]) continue;
    used[port] = 1;
    left--;
  }
  return used;
}

// Draws go on from call to call, so ports differ; what is returned is how many of them were free.

/** Draws ports until the card says that the reply comes to the queue, and the port is free. */
function blind(card: Card, random: PortRandom, used: Uint8Array, items: number): number {
  let sum = 0;
  for (let left = items; left > 0; ) {
    const port = random.draw(RANGE.first, RANGE.last);
    if (card.queueFor(REMOTE, REMOTE_PORT, LOCAL, port) !== QUEUE || used[port]) continue;
    sum += 1 - (used[port] as number);
    left--;
  }
  return sum;
}

/** The same with the hash worked out here, from tables: the least that drawing can cost. */
function blindByTable(steering: CardReplySteering, random: PortRandom, used: Uint8Array, items: number): number {
  const { tables, entries, entryQueue } = steering.rss;
  let sum = 0;
  for (let left = items; left > 0; left--) {
    const fixed = toeplitzReply(tables, REMOTE, REMOTE_PORT, LOCAL, true);
    for (;;) {
      const port = random.draw(RANGE.first, RANGE.last);
      const byPort = (tables[PORT_TABLE + (port >> 8)] as number) ^ (tables[PORT_TABLE + 256 + (port & 255)] as number);
      if (entryQueue((fixed ^ byPort) & (entries - 1)) !== QUEUE || used[port]) continue;
      sum += 1 - (used[port] as number);
      break;
    }
  }
  return sum;
}

function inverted(ports: HomePorts, used: Uint8Array, items: number): number {
  let sum = 0;
  for (let left = items; left > 0; left--) {
    ports.begin(REMOTE, REMOTE_PORT, LOCAL, 0, true);
    let port = ports.next();
    while (used[port]) port = ports.next();
    sum += 1 - (used[port] as number);
  }
  return sum;
}

/** A connect() and an abort() in one of the kernels of a stack that has `count` connections to the same service. */
async function opening(queues: number, count: number): Promise<(items: number) => number> {
  const segment = await createSegment({ shared: false });
  const stack = await createStack({
    ...{ device: segment.createCard({ queues, flowGroups: false }), address: "10.7.0.1/24", seed: 7 },
    ...{ drive: "manual", balancer: "static" },
    tuning: {
      ...{ memoryBytes: 64 << 20, connectionsMax: 32_000, streamPoolBytes: 4 << 20 },
      ...{ rxRingBytes: 64 << 10, txRingBytes: 1 << 20 },
    },
  });
  for (let opened = 0; opened < count; opened++) stack.kernels[opened % queues]?.handles.connect(REMOTE, REMOTE_PORT);
  const { handles } = stack.kernels[QUEUE % queues] as (typeof stack.kernels)[0];
  return (items) => {
    let sum = 0;
    for (let left = items; left > 0; left--) {
      const handle = handles.connect(REMOTE, REMOTE_PORT);
      if (handle >= 0 && handles.abort(handle) === 0) sum++;
    }
    // What is told of them, and the answers that nobody gives.
    stack.turn(1e9);
    return sum;
  };
}

export const suite: MicroSuite = {
  name: "connect",
  async cases() {
    const cases: MicroCase[] = [];
    for (const queues of [4, 16]) {
      const segment = await createSegment({ shared: false });
      const card = segment.createCard({ queues, flowGroups: false });
      const steering = new CardReplySteering(segment.memory, card.index, card.queueFor.bind(card));
      const random = new PortRandom(SEED);
      const ports = new HomePorts({ queue: QUEUE, steering, range: RANGE, random });
      for (const count of [0, 28_000]) {
        const used = portsInUse(count);
        const free = RANGE_PORTS - count;
        const items = count === 0 ? 1000 : 100;
        const name = `${queues} queues, ${free} ports free`;
        // Up to a millisecond each: fewer, so that the tiny round in the tests stays one.
        const asked = count === 0 ? 100 : 2;
        const byAsking = () => blind(card, random, used, asked);
        cases.push({ name: `drawing and asking the card, ${name}`, items: asked, run: byAsking });
        const byTable = () => blindByTable(steering, random, used, items);
        cases.push({ name: `drawing and hashing, ${name}`, items, run: byTable });
        cases.push({ name: `inversion, ${name}`, items, run: () => inverted(ports, used, items) });
      }
    }
    for (const queues of [1, 4]) {
      for (const count of [0, 28_000]) {
        const open = await opening(queues, count);
        const items = 100;
        const name = `connect() and abort(), ${queues} kernels, ${RANGE_PORTS - count} ports free`;
        cases.push({ name, items, run: () => open(items) });
      }
    }
    return cases;
  },
};
