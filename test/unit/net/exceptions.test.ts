/** Exceptions of the application's listeners: told by the stack's event "error", and no byte is lost or comes twice. */
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createNet } from "../../../src/net/index.ts";
import { createStackPair, type StackPair } from "../../helpers/stacks.ts";
import { closed, event, listening } from "./trace.ts";

const SERVER = "10.7.0.2";
let pair: StackPair;
const errors: unknown[] = [];

beforeAll(async () => {
  pair = await createStackPair();
  pair.client.on("error", ({ error }) => void errors.push((error as Error).message));
});
afterAll(() => pair.close());

/** Bytes that differ from place to place. */
const contentOf = (bytes: number) =>
  Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + (i >> 8)) & 0xff));

async function transfer(bytes: number, connect: (port: number, take: (chunk: Uint8Array) => void) => Socket) {
  errors.length = 0;
  const content = contentOf(bytes);
  const server = createNet(pair.server).createServer((socket) => socket.resume().end(content));
  const port = await listening(server, SERVER);
  const chunks: Uint8Array[] = [];
  const client = connect(port, (chunk) => {
    chunks.push(Uint8Array.from(chunk));
    if (chunks.length <= 3) throw new Error(`of chunk ${chunks.length}`);
  });
  let isEnded = false;
  client.on("end", () => {
    isEnded = true;
  });
  await closed(client);
  server.close();
  await event(server, "close");
  expect(isEnded).toBe(true);
  expect(Buffer.concat(chunks).equals(content)).toBe(true);
  const thrown = Array.from({ length: Math.min(3, chunks.length) }, (_, i) => `of chunk ${i + 1}`);
  expect(errors).toEqual(thrown);
  expect(client.bytesRead).toBe(bytes);
}

for (const bytes of [5, 200_000]) {
  it(`a listener of "data" that throws, ${bytes} bytes`, () =>
    transfer(bytes, (port, take) => createNet(pair.client).connect(port, SERVER).on("data", take)));

  it(`a callback of onread that throws, ${bytes} bytes`, () =>
    transfer(bytes, (port, take) => {
      const callback = (count: number, buffer: Uint8Array) => {
        take(buffer.subarray(0, count));
        return true;
      };
      return createNet(pair.client).connect({
        port,
        host: SERVER,
        onread: { buffer: Buffer.alloc(4096), callback },
      } as never);
    }));
}
