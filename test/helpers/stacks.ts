/** Stacks on one in-memory segment, on this thread, for tests of the API. */
import { createSegment, type Segment, type SegmentOptions } from "../../src/device/card/segment.ts";
import type { Connection } from "../../src/socket/connection.ts";
import { createStack } from "../../src/stack.ts";
import type { Stack, StackOptions } from "../../src/types.ts";

/** Small enough that a test can have many. */
const TUNING = { memoryBytes: 64 << 20, connectionsMax: 4096 };

export type StackPair = {
  readonly segment: Segment;
  /** 10.7.0.1, one kernel unless told otherwise. */
  readonly client: Stack;
  /** 10.7.0.2 */
  readonly server: Stack;
  close(): Promise<void>;
};

export type StackPairOptions = {
  readonly segment?: SegmentOptions;
  readonly clientKernels?: number;
  readonly serverKernels?: number;
  readonly client?: Partial<StackOptions>;
  readonly server?: Partial<StackOptions>;
};

export async function createStackPair(options: StackPairOptions = {}): Promise<StackPair> {
  const segment = await createSegment({ shared: false, portsMax: 8, ...options.segment });
  const create = async (address: string, kernels: number, own: Partial<StackOptions> = {}) =>
    createStack({
      device: segment.createCard({ queues: kernels }),
      address,
      seed: address,
      ...own,
      tuning: { ...TUNING, ...own.tuning },
    });
  const client = await create("10.7.0.1/24", options.clientKernels ?? 1, options.client);
  const server = await create("10.7.0.2/24", options.serverKernels ?? 1, options.server);
  const close = async () => {
    await Promise.all([client.close({ drainMs: 0 }), server.close({ drainMs: 0 })]);
    await segment.close();
  };
  return { segment, client, server, close };
}

/** All bytes up to the end of the stream. */
export async function readAll(readable: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of readable) chunks.push(chunk);
  return new Uint8Array(Buffer.concat(chunks));
}

/** Writes everything and closes the direction. */
export async function writeAll(connection: Connection, ...chunks: readonly Uint8Array[]): Promise<void> {
  const writer = connection.writable.getWriter();
  for (const chunk of chunks) await writer.write(new Uint8Array(chunk));
  await writer.close();
}

/** Bytes that differ from place to place, so that a shift or a swap shows. */
export function testBytes(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let state = seed | 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}
