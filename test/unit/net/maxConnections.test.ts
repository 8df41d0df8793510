/** Connections beyond maxConnections whose clients do not end: they must not take the kernel's place for others. */
import type net from "node:net";
import { expect, it } from "vitest";
import { createNet } from "../../../src/net/index.ts";
import { createStackPair } from "../../helpers/stacks.ts";
import { event } from "./trace.ts";

const CONNECTIONS_MAX = 64;
/** An eighth. */
const CLOSING_MAX = 8;

it("they get FIN, and RST once they hold an eighth of connectionsMax", async () => {
  const pair = await createStackPair({ server: { tuning: { connectionsMax: CONNECTIONS_MAX, timeWaitMs: 600_000 } } });
  const listener = createNet(pair.server).createServer((socket) => socket.resume());
  listener.maxConnections = 1;
  listener.listen(7);
  await event(listener, "listening");
  const { connect } = createNet(pair.client);
  const sockets: net.Socket[] = [];
  /** Opens a connection and keeps it open. @returns what the client hears. */
  const outcome = () =>
    new Promise<string>((resolve) => {
      const socket = connect({ port: 7, host: "10.7.0.2", allowHalfOpen: true }).resume();
      sockets.push(socket);
      socket.on("end", () => resolve("end"));
      socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code as string));
    });
  const first = connect({ port: 7, host: "10.7.0.2" }).resume();
  await event(listener, "connection");
  const heard: string[] = [];
  for (let i = 0; i < 2 * CONNECTIONS_MAX; i++) heard.push(await outcome());
  const expected = heard.map((_outcome, i) => (i < CLOSING_MAX ? "end" : "ECONNRESET"));
  expect(heard).toEqual(expected);
  // Their clients end: others get FIN again.
  for (const socket of sockets) socket.end();
  const closing = async () => {
    const { gaugeConnections = 0, gaugeTimeWait = 0 } = (await pair.server.stats()).total;
    return gaugeConnections - gaugeTimeWait;
  };
  await expect.poll(closing).toBe(1);
  expect(await outcome()).toBe("end");
  for (const socket of sockets) socket.destroy();
  listener.close();
  first.end();
  await Promise.all([event(first, "close"), event(listener, "close")]);
  await pair.close();
});
