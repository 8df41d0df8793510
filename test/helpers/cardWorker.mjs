// Stands in for a kernel on a thread of its own, behind a card: "echo" sends every frame back to where it came from,
// "client" sends numbered frames and checks that each comes back whole and once. Runs on dist/.
import { setImmediate } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";

const dist = (path) => import(new URL(`../../dist/${path}`, import.meta.url).href);
const { KernelMemory } = await dist("views/kernelMemory.js");
const { openPort } = await dist("device/openPort.js");

const { role, memory, descriptor, rxLanes, outstandingMax } = workerData;
const kernel = new KernelMemory(memory);
const pair = kernel.queuePair(0, rxLanes, () => kernel.ringDoorbell());
const port = await openPort(descriptor, pair);

const SLEEP_MS = 3000;
const now = () => Math.round(performance.now() * 1e6);
let lateWakes = 0;

/** Frame `number` of a batch: UDP from a port that is the number, so that frames spread over the card's queues. */
function numberedFrame(number) {
  const bytes = 60 + ((number * 37) % 1400);
  const frame = Uint8Array.from({ length: bytes }, (_, i) => (number * 31 + i * 7) & 255);
  // Unknown to the switch, so flooded; a broadcast would go to one queue, whatever its ports.
  frame.fill(0xfe, 0, 6);
  frame.set([2, 0, 0, 0, 0, 9, 0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1], 6);
  frame.set([number >> 8, number & 255, 0, 7], 34);
  return frame;
}

/** Sleeps until the doorbell rings. A wait that ends by its time although there is work is a lost wake-up. */
async function sleep() {
  const seen = kernel.doorbell;
  if (!port.arm()) return;
  kernel.setSleeping(true);
  if (pair.rx.every((ring) => ring.usedBytes === 0)) {
    const result = await kernel.waitDoorbell(seen, SLEEP_MS);
    const work = pair.rx.some((ring) => ring.usedBytes > 0) || pair.tx.usedBytes > 0;
    if (result === "timed-out" && work) lateWakes++;
  }
  kernel.setSleeping(false);
}

function takeFrames(limit, take) {
  let taken = 0;
  for (const ring of pair.rx) {
    while (taken < limit && pair.tx.sizeBytes - pair.tx.usedBytes > 4096) {
      const frame = ring.shift();
      if (!frame) break;
      taken++;
      take(frame);
    }
  }
  return taken;
}

async function echo() {
  for (let turn = 1; ; turn++) {
    const received = port.receive(now());
    const taken = takeFrames(32, (frame) => pair.tx.push(frame));
    const sent = port.transmit(now());
    if (turn % 64 === 0) await setImmediate();
    if (received + taken + sent === 0) await sleep();
  }
}

async function batch(first, count) {
  const waiting = new Map();
  let next = first;
  let wrong = 0;
  for (let turn = 1; next < first + count || waiting.size > 0; turn++) {
    port.receive(now());
    let done = takeFrames(1 << 20, (frame) => {
      const number = frame[34] * 256 + frame[35];
      const sent = waiting.get(number);
      if (!sent || Buffer.compare(sent, frame) !== 0) wrong++;
      waiting.delete(number);
    });
    while (next < first + count && waiting.size < outstandingMax) {
      const frame = numberedFrame(next);
      if (pair.tx.sizeBytes - pair.tx.usedBytes < 4096) break;
      pair.tx.push(frame);
      waiting.set(next++, frame);
      done++;
    }
    done += port.transmit(now());
    if (turn % 64 === 0) await setImmediate();
    if (done === 0) await sleep();
    if (lateWakes > 0) break;
  }
  return { missing: waiting.size, wrong, lateWakes };
}

if (role === "echo") {
  // Atomics.waitAsync alone does not keep a thread's event loop alive.
  parentPort.on("message", () => undefined);
  parentPort.postMessage("ready");
  await echo();
} else {
  parentPort.on("message", async ({ first, count }) => parentPort.postMessage(await batch(first, count)));
  parentPort.postMessage("ready");
}
