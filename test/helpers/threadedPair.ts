/** Kernels in threads, and a stack on this thread to talk to them from, on one segment of the built package. */
import { afterEach } from "vitest";
import type * as Api from "../../src/index.ts";
import { importBuilt } from "./dist.ts";

export type CleanUp = (() => unknown)[];

/** What is pushed on it is called after the test, the last first. */
export function cleanUpAfterEach(): CleanUp {
  const cleanUp: CleanUp = [];
  afterEach(async () => {
    for (const close of cleanUp.splice(0).reverse()) await close();
  });
  return cleanUp;
}

export type ThreadedPairOptions = {
  /** Of the server's card. */
  readonly queues: number;
  readonly tuning: NonNullable<Api.StackOptions["tuning"]>;
  readonly server: Partial<Api.StackOptions> & Required<Pick<Api.StackOptions, "app">>;
};

/** The server is 10.7.0.2, the client 10.7.0.1. */
export async function startThreadedPair(cleanUp: CleanUp, { queues, tuning, server: own }: ThreadedPairOptions) {
  const { createSegment, createStack } = await importBuilt<typeof Api>("index.js");
  const segment = await createSegment({ portsMax: 8 });
  cleanUp.push(() => segment.close());
  const device = segment.createCard({ queues });
  const server = await createStack({ mode: "threads", device, address: "10.7.0.2/24", tuning, ...own });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  const client = await createStack({
    device: segment.createCard(),
    address: "10.7.0.1/24",
    sharedMemory: true,
    tuning,
  });
  cleanUp.push(() => client.close({ drainMs: 0 }));
  return { segment, device, server, client };
}
