/** A thread that sends numbers to all others and checks what they send; sleeps on its doorbell when nothing comes. */
import { parentPort, workerData } from "node:worker_threads";

const built = (path) => import(new URL(`../../dist/${path}`, import.meta.url).href);
const { Endpoint } = await built("control/endpoint.js");
const { KernelMemory } = await built("views/kernelMemory.js");
const { kernelId, memories, messages } = workerData;

const memory = new KernelMemory(memories[kernelId]);
const result = { received: 0, wrong: 0, sum: 0 };
const onError = (error) => {
  throw error;
};
const endpoint = new Endpoint({ kernelId, life: 0, memory, onWork: () => {}, onError });
const expected = memories.map(() => 0);
endpoint.on(1, 1, ({ from, correlation, payload }) => {
  if (correlation !== expected[from]++ || payload.some((byte) => byte !== (correlation & 255))) result.wrong++;
  result.received++;
  result.sum += correlation;
});
const others = memories.map((_, id) => id).filter((id) => id !== kernelId);
for (const id of others) {
  const other = new KernelMemory(memories[id]);
  endpoint.connect({ kernelId: id, life: 0, memory: other, ring: () => other.ringDoorbell() });
}
const next = memories.map(() => 0);
const wanted = others.length * messages;
const isDone = () => result.received === wanted && others.every((id) => next[id] === messages);
// Waiting for a doorbell does not keep a thread alive.
const alive = setInterval(() => {}, 1000);
// Until everything sent has been taken in as well: what waits for room leaves with a later poll.
for (let idle = 0; !isDone() || idle < 200; ) {
  const doorbell = memory.doorbell;
  let sent = 0;
  for (const id of others) {
    for (let burst = (next[id] * 7) % 23; burst >= 0 && next[id] < messages; burst--) {
      const number = next[id];
      if (endpoint.send(id, 1, 1, number, new Uint8Array(number % 61).fill(number)) < 0) break;
      next[id]++;
      sent++;
    }
  }
  const handled = endpoint.poll();
  endpoint.flush();
  if (isDone()) idle++;
  if (handled > 0 || sent > 0) continue;
  memory.setSleeping(true);
  if (!endpoint.pending) await memory.waitDoorbell(doorbell, isDone() ? 5 : 10_000);
  memory.setSleeping(false);
}
clearInterval(alive);
parentPort.postMessage(result);
