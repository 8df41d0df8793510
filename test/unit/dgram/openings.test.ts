/** What counts as the opening of an application: bind(), not the port that a socket gets to send from. */
import { EventEmitter } from "node:events";
import { afterEach, expect, it } from "vitest";
import { createDgram } from "../../../src/dgram/index.ts";
import { watchOpenings } from "../../../src/net/stackOf.ts";
import { createStackPair } from "../../helpers/stacks.ts";

afterEach(() => watchOpenings(undefined));

it("a socket that only sends, or connects, opens nothing; bind() does", async () => {
  const pair = await createStackPair();
  const { createSocket } = createDgram(pair.client);
  const openings: EventEmitter[] = [];
  watchOpenings((opening) => openings.push(opening));
  const sender = createSocket("udp4");
  const connected = createSocket("udp4");
  await new Promise((resolve) => sender.send("count:1", 8125, "10.7.0.2", resolve));
  await new Promise<void>((resolve) => connected.connect(8125, "10.7.0.2", resolve));
  expect(openings).toEqual([]);
  const bound = createSocket("udp4").bind(7);
  expect(openings).toEqual([bound]);
  watchOpenings(undefined);
  const later = createSocket("udp4").bind(8);
  expect(openings).toHaveLength(1);
  await Promise.all([bound, later].map((socket) => EventEmitter.once(socket, "listening")));
  for (const socket of [sender, connected, bound, later]) socket.close();
  await pair.close();
});
