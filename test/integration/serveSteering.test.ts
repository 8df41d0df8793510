/** `netpopcorn serve` on a TAP with one queue: software places its frames on all kernels. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { missing, Namespace } from "../helpers/namespace.ts";
import { SERVER, Served, type ServeOptions } from "../helpers/serve.ts";

const KERNELS = 3;
const REQUESTS = 60;

let namespace: Namespace;
let served: Served | undefined;

beforeEach((context) => {
  const reason = missing("curl");
  if (reason !== undefined) context.skip(reason);
  namespace = new Namespace();
});

afterEach(async () => {
  await served?.[Symbol.asyncDispose]();
  served = undefined;
  await namespace?.[Symbol.asyncDispose]();
});

/** Kernels that have answered, each connection being a new one; and what the server has printed until its end. */
async function ask(options: Partial<ServeOptions>) {
  served = await Served.start(namespace, { app: "http", port: 80, kernels: KERNELS, ...options });
  const urls = Array.from({ length: REQUESTS }, () => `http://${SERVER}/kernel`);
  const curl = await namespace.run("curl", ["-sS", "--fail", "-H", "Connection: close", "-w", "\n", ...urls], 60_000);
  expect(curl).toMatchObject({ status: 0, stderr: "" });
  const answers = curl.stdout.split("\n").filter((line) => line !== "");
  expect(answers).toHaveLength(REQUESTS);
  const kernels = new Set(answers.map((line) => (JSON.parse(line) as { kernel: number }).kernel));
  return { kernels: [...kernels].sort(), ...(await served.interrupt()) };
}

/** Ten frames at least make a connection, half of them ours to place. */
const framesOf = (stdout: string) => Number(/^softwareSteered {2}([0-9]+)$/m.exec(stdout)?.[1] ?? 0);

test("--steer software: every kernel answers, and the frames are counted as placed by software", async () => {
  const { kernels, status, stdout, stderr } = await ask({ steer: "software" });
  expect([kernels, status]).toEqual([[0, 1, 2], 0]);
  expect(framesOf(stdout)).toBeGreaterThan(4 * REQUESTS);
  expect(stderr).toContain("pop0 has one queue; software places its frames on 3 kernels");
});

test("a device that was made with one queue is steered so by itself", async () => {
  namespace.ip("tuntap", "add", "dev", "pop0", "mode", "tap");
  namespace.ip("address", "add", "10.7.0.1/24", "dev", "pop0");
  const { kernels, status, stdout } = await ask({});
  expect([kernels, status]).toEqual([[0, 1, 2], 0]);
  expect(framesOf(stdout)).toBeGreaterThan(4 * REQUESTS);
});

test("a device with queues is left to steer; --steer device refuses one without", async () => {
  const { kernels, stdout } = await ask({ kernels: 2 });
  expect(kernels).toEqual([0, 1]);
  expect(stdout).not.toContain("softwareSteered");
  namespace.ip("tuntap", "add", "dev", "pop0", "mode", "tap");
  const start = Served.start(namespace, { app: "http", port: 80, kernels: 2, steer: "device" });
  await expect(start).rejects.toThrow(/multi_queue.*--steer software/);
});
