/** The registry of ports with kernels in threads: who is the owner changes, the ports stay. On the built package. */
import { afterEach, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import { importBuilt } from "../helpers/dist.ts";

const { createSegment, createStack } = await importBuilt<typeof Api>("index.js");
const app = new URL("../fixtures/portsApp.mjs", import.meta.url);

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

type Answer = { readonly id: number; readonly kernelId: number; readonly port?: number; readonly code?: string };

async function start(kernels: number, listenersMax = 64) {
  const segment = await createSegment({ portsMax: 8 });
  const device = segment.createCard({ queues: kernels });
  const tuning = { memoryBytes: 64 << 20, connectionsMax: 1024, listenersMax };
  const restart = { delayMs: 20 };
  const server = await createStack({ mode: "threads", device, address: "10.7.0.2/24", app, tuning, restart });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  const states: string[] = [];
  server.on("kernel", ({ kernelId, state }) => states.push(`${kernelId} ${state}`));
  const errors: string[] = [];
  server.on("error", ({ error }) => errors.push(error.message));
  const answers: Answer[] = [];
  server.on("message", ({ data }) => answers.push(data as Answer));
  let lastId = 0;
  /** What the kernels, or one of them, answer. */
  const ask = async (question: Record<string, unknown>, expected = kernels): Promise<Answer[]> => {
    const id = ++lastId;
    server.postMessage({ ...question, id });
    const count = question.kernelId === undefined ? expected : 1;
    const own = () => answers.filter((answer) => answer.id === id);
    await expect.poll(() => own().length, { timeout: 10_000 }).toBe(count);
    return own().sort((a, b) => a.kernelId - b.kernelId);
  };
  const listen = (port: number, kernelId?: number) =>
    ask({ what: "listen", options: { port }, ...(kernelId === undefined ? {} : { kernelId }) });
  return { server, states, errors, ask, listen, lastId: () => lastId };
}

it("kernels share a port, and one that asks twice is refused, whoever the owner is", async () => {
  const { server, states, listen, ask, lastId } = await start(3);
  expect((await listen(80)).map(({ port }) => port)).toEqual([80, 80, 80]);
  const first = lastId();
  expect((await listen(80, 1))[0]?.code).toBe("EADDRINUSE");
  const drawn = (await listen(0)).map(({ port }) => port);
  expect(new Set(drawn).size).toBe(1);
  // The owner dies; another takes over what it has known.
  server.killKernel(0);
  await expect.poll(() => states).toEqual(["0 down", "0 up"]);
  expect((await listen(80, 2))[0]?.code).toBe("EADDRINUSE");
  expect((await listen(80, 1))[0]?.code).toBe("EADDRINUSE");
  // The kernel that came back has nothing yet, and gets what the others got.
  expect((await listen(80, 0))[0]?.port).toBe(80);
  expect((await listen(0, 0))[0]?.port).toBe(drawn[0]);
  server.killKernel(1);
  await expect.poll(() => states.slice(2)).toEqual(["1 down", "1 up"]);
  expect((await listen(80, 2))[0]?.code).toBe("EADDRINUSE");
  await ask({ what: "close", of: first, kernelId: 2 });
  expect((await listen(80, 2))[0]?.port).toBe(80);
}, 60_000);

it("claims made while the owner dies are answered by the next one", async () => {
  const { server, states, ask } = await start(4);
  for (let round = 0; round < 5; round++) {
    const question = ask({ what: "bind", options: { port: 1000 + round } }, 3);
    server.killKernel(0);
    // The dying kernel may have answered before it died.
    const answers = await question.catch(() => []);
    for (const { port, kernelId } of answers) if (kernelId !== 0) expect(port).toBe(1000 + round);
    await expect.poll(() => states.at(-1), { timeout: 10_000 }).toBe("0 up");
    states.length = 0;
    const again = await ask({ what: "bind", options: { port: 1000 + round }, kernelId: 3 });
    expect(again[0]?.code).toBe("EADDRINUSE");
  }
}, 60_000);

it("a listener is everywhere or nowhere: where one kernel has no room, the others close it again", async () => {
  const { ask, listen, errors } = await start(3, 16);
  await ask({ what: "exhaust", kernelId: 1 });
  // Whoever comes first, in the end nobody has it.
  expect((await listen(80))[1]?.code).toBe("ENOBUFS");
  // They close what they have opened when they hear of it: until then it is theirs (EADDRINUSE).
  for (const kernelId of [0, 2]) {
    await expect.poll(async () => (await listen(80, kernelId))[0]?.code, { timeout: 10_000 }).toBe("ENOBUFS");
  }
  expect(errors.filter((text) => !text.includes("ENOBUFS"))).toEqual([]);
  await ask({ what: "relieve", kernelId: 1 });
  expect((await listen(80, 1))[0]?.port).toBe(80);
  expect((await listen(80, 0))[0]?.port).toBe(80);
}, 60_000);
