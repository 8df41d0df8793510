/** Services on ports that connect() uses, too (port 0, 50051): their connections spread as those of any other. */
import { afterEach, expect, test } from "vitest";
import { createSegment } from "../../../src/device/card/segment.ts";
import { createStack } from "../../../src/stack.ts";
import type { Stack, StackOptions } from "../../../src/types.ts";

const KERNELS = 4;
const CONNECTIONS = 200;
const tuning = { memoryBytes: 32 << 20, connectionsMax: 1024 };

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

async function start(options: Partial<StackOptions>): Promise<{ server: Stack; client: Stack }> {
  const segment = await createSegment({ shared: false, portsMax: 2 * KERNELS });
  cleanUp.push(() => segment.close());
  const stacks: Stack[] = [];
  for (const address of ["10.7.0.1/24", "10.7.0.2/24"]) {
    const device = segment.createCard({ queues: KERNELS });
    const stack = await createStack({ device, address, tuning, seed: stacks.length + 1, ...options });
    cleanUp.push(() => stack.close({ drainMs: 0 }));
    stacks.push(stack);
  }
  return { server: stacks[0] as Stack, client: stacks[1] as Stack };
}

test.each([0, 50_051, 80])("port %i: all kernels, at both ends, and nothing strays", async (port) => {
  const { server, client } = await start({ balancer: "angel" });
  const accepted = new Array<number>(KERNELS).fill(0);
  const listener = await server.listen(port, {
    onConnection: ({ kernelId, writable }) => {
      accepted[kernelId] = (accepted[kernelId] as number) + 1;
      void writable.close();
    },
  });
  const opened = new Array<number>(KERNELS).fill(0);
  for (let i = 0; i < CONNECTIONS; i++) {
    const { kernelId, readable, writable } = await client.connect({ address: "10.7.0.1", port: listener.port });
    opened[kernelId] = (opened[kernelId] as number) + 1;
    expect(await new Response(readable).text()).toBe("");
    await writable.close();
  }
  const fair = CONNECTIONS / KERNELS;
  for (const count of [...accepted, ...opened]) expect(count).toBeGreaterThan(fair / 2);
  for (const stack of [server, client]) expect((await stack.stats()).balancer?.strays).toBe(0);
});
