/** Servers that close and listen again; that nobody is refused meanwhile: test/integration/netApplications.test.ts. */
import { once } from "node:events";
import type net from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createNet } from "../../../src/net/index.ts";
import { createStackPair, type StackPair } from "../../helpers/stacks.ts";

const HOST = "10.7.0.2";

let pair: StackPair;
const servers: net.Server[] = [];
beforeEach(async () => {
  pair = await createStackPair({ clientKernels: 2, serverKernels: 2 });
});
afterEach(async () => {
  for (const server of servers.splice(0)) server.close();
  await pair.close();
});

function createServer(greeting = "hello"): net.Server {
  const server = createNet(pair.server).createServer((socket) => socket.end(greeting));
  servers.push(server);
  return server;
}

async function listening(port: number, greeting?: string): Promise<net.Server> {
  const server = createServer(greeting).listen(port);
  await once(server, "listening");
  return server;
}

/** @returns what the server at `port` says, or the code of the error. */
function visit(port: number): Promise<string> {
  return new Promise((resolve) => {
    let heard = "";
    const socket = createNet(pair.client).connect(port, HOST);
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => {
      heard += text;
    });
    socket.on("error", ({ code }: NodeJS.ErrnoException) => resolve(code as string));
    socket.on("close", () => resolve(heard));
  });
}

it("another server takes over", async () => {
  const [one, two] = [await listening(80, "one"), createServer("two")];
  one.close();
  const told = visit(80);
  await once(two.listen(80), "listening");
  expect(await told).toBe("two");
});

it("a listener of the stack's own, or one on other terms, finds the port free", async () => {
  const server = await listening(80);
  server.close();
  const listener = await pair.server.listen(80);
  await listener.close();
  await once(server.listen(80), "listening");
  server.close();
  await once(server.listen(80, HOST), "listening");
  expect(await visit(80)).toBe("hello");
});

it("listen(), close() and listen() in a row", async () => {
  const server = createServer();
  for (let i = 0; i < 3; i++) {
    server.listen(80);
    server.close();
  }
  server.listen(80);
  await once(server, "listening");
  expect(await visit(80)).toBe("hello");
  server.close();
  await once(server, "close");
  expect(await visit(80)).toBe("ECONNREFUSED");
});

it("who closes and does not listen again refuses at once", async () => {
  const server = await listening(80);
  const refused = new Promise<string>((resolve) => server.close(() => resolve(visit(80))));
  expect(await refused).toBe("ECONNREFUSED");
});
