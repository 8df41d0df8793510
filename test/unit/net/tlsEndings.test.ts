/**
 * However a connection ends below TLS, a tls.Server lets go of it, with the `tlsClientError` that node:net gives (seen
 * with Node 20).
 */
import type nodeNet from "node:net";
import { setImmediate } from "node:timers/promises";
import tls from "node:tls";
import { afterEach, describe, expect, it } from "vitest";
import { createNet } from "../../../src/net/index.ts";
import { createStackPair, type StackPair } from "../../helpers/stacks.ts";
import { certificate } from "./certificate.ts";
import { event } from "./trace.ts";

const HELLO_TYPE = 22;

type Connect = () => nodeNet.Socket;
type Ending = {
  readonly name: string;
  readonly client: (connect: Connect, server: tls.Server) => void;
  /** Of `tlsClientError`. */
  readonly codes: readonly string[];
};

const quiet = <Socket extends nodeNet.Socket>(socket: Socket): Socket => socket.on("error", () => {});

const secureOn = (socket: nodeNet.Socket, ca?: string): tls.TLSSocket =>
  quiet(tls.connect({ socket, servername: "netpopcorn.test", ...(ca === undefined ? {} : { ca }) })).resume();

const ENDINGS: readonly Ending[] = [
  { name: "no byte, FIN", client: (connect) => quiet(connect()).end(), codes: ["ECONNRESET"] },
  {
    name: "half a hello, FIN",
    client: (connect) => quiet(connect()).end(Buffer.of(HELLO_TYPE, 3, 1, 2, 0, 1)),
    codes: ["ECONNRESET"],
  },
  {
    name: "no TLS",
    client: (connect) => quiet(connect()).end("GET / HTTP/1.0\r\n\r\n"),
    codes: ["ERR_SSL_HTTP_REQUEST"],
  },
  {
    name: "a client that does not trust the certificate",
    client: (connect) => secureOn(connect()),
    codes: ["ECONNRESET"],
  },
  {
    name: "destroyed when it is secure",
    client: (connect) => {
      const secure = secureOn(connect(), certificate.cert);
      secure.once("secureConnect", () => secure.destroy());
    },
    codes: ["ECONNRESET"],
  },
  {
    name: "close_notify",
    client: (connect) => {
      const secure = secureOn(connect(), certificate.cert);
      secure.once("secureConnect", () => secure.end("bye"));
    },
    codes: [],
  },
  {
    name: "FIN without close_notify",
    client: (connect, server) => {
      const raw = connect();
      secureOn(raw, certificate.cert);
      server.once("secureConnection", () => raw.end());
    },
    codes: [],
  },
];

describe("a tls.Server lets go of connections that end:", () => {
  let pair: StackPair | undefined;

  afterEach(async () => {
    await pair?.close();
    pair = undefined;
  });

  it.each(ENDINGS)("$name", async ({ client, codes }) => {
    pair = await createStackPair();
    const stackNet = createNet(pair.server);
    const clientNet = createNet(pair.client);
    const seen: unknown[] = [];
    const { key, cert } = certificate;
    const server = tls.createServer({ key, cert }, (secure) => void quiet(secure).resume());
    server.on("tlsClientError", ({ code }: NodeJS.ErrnoException) => seen.push(code));
    stackNet.listenOn(server, 443);
    await event(server, "listening");
    const accepted = event(server, "connection");
    client(() => clientNet.connect(443, "10.7.0.2"), server);
    await accepted;
    // "close" comes when the last connection has gone.
    const closed = event(server, "close");
    server.close();
    await closed;
    // The raw sockets' last events.
    await setImmediate();
    expect(seen).toEqual(codes);
  });
});
