/** What runs on node:net runs on netpopcorn/net: node:http, node:tls and node:https, and express on top. */
import { createHash } from "node:crypto";
import http from "node:http";
import https from "node:https";
import type net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import express from "express";
import { afterEach, describe, expect, it } from "vitest";
import { createNet, type Net } from "../../../src/net/index.ts";
import { createStackPair, type StackPair, type StackPairOptions, testBytes } from "../../helpers/stacks.ts";
import { certificate } from "./certificate.ts";
import { event } from "./trace.ts";

const SERVER = "10.7.0.2";
let pair: StackPair;
const cleanUp: (() => unknown)[] = [];

async function start(options: StackPairOptions = {}): Promise<{ server: Net; client: Net }> {
  pair = await createStackPair(options);
  cleanUp.push(() => pair.close());
  return { server: createNet(pair.server), client: createNet(pair.client) };
}

afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

/** Node's agent on our sockets. */
function agentOf(client: Net, options: http.AgentOptions = {}): http.Agent {
  class StackAgent extends http.Agent {
    override createConnection(to: http.ClientRequestArgs): Duplex {
      return client.connect(to as net.NetConnectOpts);
    }
  }
  const agent = new StackAgent(options);
  cleanUp.push(() => agent.destroy());
  return agent;
}

function get(options: https.RequestOptions, request: typeof http.request = http.request): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: SERVER, ...options }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => resolve(text));
    });
    sent.on("error", reject);
    sent.end();
  });
}

async function listening<S extends net.Server>(server: Net, listener: S, port: number): Promise<S> {
  server.listenOn(listener, port);
  await event(listener, "listening");
  return listener;
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

describe("node:http", () => {
  it("answers 10,000 requests on kept connections", async () => {
    const { server, client } = await start({ serverKernels: 2 });
    const sockets = new Set<net.Socket>();
    const listener = http.createServer((request, response) => {
      sockets.add(request.socket);
      response.end(`${request.method} ${request.url} ${request.socket.remoteAddress}`);
    });
    await listening(server, listener, 80);
    const agent = agentOf(client, { keepAlive: true, maxSockets: 16 });
    let next = 0;
    const worker = async () => {
      while (next < 10_000) {
        const path = `/${next++}`;
        expect(await get({ path, agent })).toBe(`GET ${path} 10.7.0.1`);
      }
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    expect(sockets.size).toBe(16);
    const counters = await pair.server.stats();
    // Both kernels had a share of the connections.
    expect(counters.kernels.map(({ rxFrames }) => Number(rxFrames) > 100)).toEqual([true, true]);
    listener.close();
    listener.closeAllConnections();
    await event(listener, "close");
  });

  it("runs on a server of this module by event, too", async () => {
    const { server, client } = await start();
    const handler = http.createServer((_request, response) => response.end("handed over"));
    const listener = server.createServer({ allowHalfOpen: true }, (socket) => handler.emit("connection", socket));
    listener.listen(80);
    await event(listener, "listening");
    expect(await get({ agent: agentOf(client) })).toBe("handed over");
    listener.close();
  });

  it("upgrades", async () => {
    const { server, client } = await start();
    const listener = http.createServer();
    listener.on("upgrade", (_request, socket: Duplex) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
      socket.pipe(socket);
    });
    await listening(server, listener, 80);
    const headers = { connection: "Upgrade", upgrade: "echo" };
    const request = http.request({ host: SERVER, headers, agent: agentOf(client) });
    request.end();
    const socket = await new Promise<Duplex>((resolve) => request.on("upgrade", (_response, up) => resolve(up)));
    socket.end("hello");
    socket.setEncoding("utf8");
    let text = "";
    for await (const part of socket) text += part;
    expect(text).toBe("hello");
    listener.close();
  });
});

describe("node:tls", () => {
  it("carries equal bytes over a cable that loses, reorders and corrupts", async () => {
    const { server, client } = await start();
    const sent = testBytes(1_000_000, 5);
    const { key, cert } = certificate;
    const listener = server.createServer((raw) => {
      const secure = new tls.TLSSocket(raw, { isServer: true, key, cert });
      secure.pipe(secure);
      secure.on("error", (error) => secure.destroy(error));
    });
    listener.listen(443);
    await event(listener, "listening");
    const raw = client.connect(443, SERVER);
    await event(raw, "connect");
    pair.segment.impair({
      lossPpm: 10_000,
      reorderPpm: 10_000,
      duplicatePpm: 5000,
      corruptPpm: 5000,
      delayNs: 100_000,
    });
    const secure = tls.connect({ socket: raw, ca: cert, servername: "netpopcorn.test" });
    await event(secure, "secureConnect");
    expect(secure.authorized).toBe(true);
    const parts: Buffer[] = [];
    secure.on("data", (part: Buffer) => parts.push(part));
    secure.end(sent);
    await event(secure, "end");
    expect(sha256(Buffer.concat(parts))).toBe(sha256(sent));
    const { total } = await pair.server.stats();
    expect(total.dropTcpChecksum).toBeGreaterThan(0);
    listener.close();
  });

  it("node:https listens on the stack", async () => {
    const { server, client } = await start();
    const { key, cert } = certificate;
    const listener = https.createServer({ key, cert }, ({ url, socket }, response) => {
      socket.setNoDelay(true);
      response.end(
        `secret ${url} ${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress}:${socket.localPort}`,
      );
    });
    await listening(server, listener, 443);
    const socket = client.connect(443, SERVER);
    const secure = tls.connect({ socket, ca: cert, servername: "netpopcorn.test" });
    const answer = await get({ path: "/x", createConnection: () => secure }, https.request);
    expect(answer).toBe(`secret /x 10.7.0.1 ${socket.localPort} 10.7.0.2:443`);
    expect([secure.remoteAddress, secure.remotePort]).toEqual([SERVER, 443]);
    listener.close();
    listener.closeAllConnections();
  });

  it("what the server has ended before TLS was connected is read to its end, and answered", async () => {
    const { server, client } = await start();
    const { key, cert } = certificate;
    const ended: string[] = [];
    const listener = tls.createServer({ key, cert, allowHalfOpen: true }, (secure) => {
      secure.end("first");
      secure.setEncoding("utf8");
      secure.on("data", (text: string) => ended.push(text));
    });
    await listening(server, listener, 443);
    const secure = tls.connect({ socket: client.connect(443, SERVER), ca: cert, servername: "netpopcorn.test" });
    secure.allowHalfOpen = true;
    await event(secure.resume(), "end");
    secure.end("second");
    await event(secure, "close");
    while (ended.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(ended).toEqual(["second"]);
    listener.close();
  });

  it("what TLS says after its end fails without an event, as with a handle of Node's", async () => {
    const { server, client } = await start();
    const { key, cert } = certificate;
    const listener = tls.createServer({ key, cert, allowHalfOpen: true }, (secure) => secure.resume());
    await listening(server, listener, 443);
    const socket = client.connect(443, SERVER);
    const secure = tls.connect({ socket, ca: cert, servername: "netpopcorn.test" });
    const errors: Error[] = [];
    secure.on("error", (error) => errors.push(error));
    await event(secure, "secureConnect");
    socket.end();
    const failure = await new Promise((resolve) => socket.write("late", resolve));
    expect(failure).toMatchObject({ code: "EPIPE", syscall: "write" });
    await new Promise((resolve) => setImmediate(resolve));
    expect(errors).toEqual([]);
    secure.destroy();
    listener.close();
  });
});

describe("express", () => {
  it("answers from all kernels", async () => {
    const { server, client } = await start({ serverKernels: 3 });
    const app = express();
    app.use(express.json());
    app.post("/sum", (request, response) => {
      const { numbers } = request.body as { numbers: number[] };
      response.json({ sum: numbers.reduce((sum, number) => sum + number, 0), from: request.ip });
    });
    app.get("/error", () => {
      throw new Error("a route that fails");
    });
    app.use(((_error, _request, response, _next) =>
      response.status(500).send("caught")) as express.ErrorRequestHandler);
    const listener = await listening(server, http.createServer(app), 80);
    const agent = agentOf(client);
    const post = (numbers: number[]) =>
      new Promise<unknown>((resolve, reject) => {
        const headers = { "content-type": "application/json" };
        const request = http.request(
          { host: SERVER, method: "POST", path: "/sum", headers, agent },
          async (response) => {
            let text = "";
            for await (const part of response) text += part;
            resolve(JSON.parse(text));
          },
        );
        request.on("error", reject);
        request.end(JSON.stringify({ numbers }));
      });
    for (let i = 0; i < 60; i++) expect(await post([i, 1, 2])).toEqual({ sum: i + 3, from: "10.7.0.1" });
    expect(await get({ path: "/error", agent })).toBe("caught");
    const { kernels } = await pair.server.stats();
    expect(kernels.every(({ tcpAccepted }) => Number(tcpAccepted) > 0)).toBe(true);
    listener.close();
  });
});
