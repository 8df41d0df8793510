/** Sockets that are open when the program closes their stack. */
import { once } from "node:events";
import type net from "node:net";
import { expect, it } from "vitest";
import { createNet } from "../../../src/net/index.ts";
import { createStackPair } from "../../helpers/stacks.ts";
import { listening } from "./trace.ts";

const SERVER = "10.7.0.2";

/** @returns what happens to `socket` until it is closed. */
function ending(socket: net.Socket, events: readonly string[]): Promise<string[]> {
  const told: string[] = [];
  for (const event of events)
    socket.on(event, (error: NodeJS.ErrnoException) => told.push(`${event} ${error.message}`));
  return new Promise((resolve) => socket.on("close", (hadError) => resolve([...told, `close ${hadError}`])));
}

async function connected(): Promise<{ pair: Awaited<ReturnType<typeof createStackPair>>; accepted: net.Socket }> {
  const pair = await createStackPair();
  const server = createNet(pair.server).createServer();
  const port = await listening(server, SERVER);
  createNet(pair.client)
    .connect(port, SERVER)
    .on("error", () => undefined);
  const [accepted] = (await once(server, "connection")) as [net.Socket];
  return { pair, accepted };
}

it("who listens for errors is told one", async () => {
  const { pair, accepted } = await connected();
  const end = ending(accepted, ["error"]);
  await pair.server.close({ drainMs: 0 });
  expect(await end).toEqual(["error read ECONNABORTED", "close true"]);
  await pair.close();
});

// An exception would end the thread of an application that closes its stack in good order.
it("who does not listen for errors is closed without", async () => {
  const { pair, accepted } = await connected();
  const end = ending(accepted, []);
  await pair.server.close({ drainMs: 0 });
  expect(await end).toEqual(["close false"]);
  expect(accepted.destroyed).toBe(true);
  await pair.close();
});

it("an open that has no answer yet ends likewise", async () => {
  const pair = await createStackPair();
  const { connect } = createNet(pair.client);
  const [quiet, told] = [connect(80, "10.7.0.77"), connect(80, "10.7.0.77")];
  const ends = [ending(quiet, []), ending(told, ["error"])];
  await Promise.all([once(quiet, "connectionAttempt"), once(told, "connectionAttempt")]);
  await pair.client.close({ drainMs: 0 });
  expect(await Promise.all(ends)).toEqual([["close false"], ["error connect ECONNABORTED", "close true"]]);
  await pair.close();
});
