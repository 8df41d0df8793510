/** The first TLS connection of a thread: what Node's stream handles need of a socket is there before it is made. */
import https from "node:https";
import tls from "node:tls";
import { expect, it } from "vitest";
import { createNet } from "../../../src/net/index.ts";
import { createStackPair } from "../../helpers/stacks.ts";
import { certificate } from "./certificate.ts";
import { event } from "./trace.ts";

it("a client answers close_notify after the peer's FIN without an error", async () => {
  const pair = await createStackPair();
  const { key, cert } = certificate;
  const server = https.createServer({ key, cert }, (_request, response) => response.end("bye"));
  server.maxRequestsPerSocket = 1;
  server.keepAliveTimeout = 1;
  server.on("dropRequest", () => server.close());
  createNet(pair.server).listenOn(server, 443);
  await event(server, "listening");
  const socket = createNet(pair.client).connect(443, "10.7.0.2");
  const secure = tls.connect({ socket, ca: cert, servername: "netpopcorn.test" });
  const errors: Error[] = [];
  secure.on("error", (error) => errors.push(error));
  secure.once("secureConnect", () =>
    secure.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".repeat(2)),
  );
  let text = "";
  secure.setEncoding("latin1").on("data", (part: string) => {
    text += part;
  });
  await event(secure, "close");
  expect(errors).toEqual([]);
  // The second request is one too many.
  expect(text).toMatch(/^HTTP\/1.1 200 .*bye.*HTTP\/1.1 503 /s);
  await pair.close();
});
