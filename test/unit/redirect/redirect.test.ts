/** Packages that open everything by Node's own modules, on a stack. */
import { spawn } from "node:child_process";
import dgram from "node:dgram";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import { createRequire } from "node:module";
import net, { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { KernelStack } from "../../../src/kernel/kernelStack.ts";
import { createNet } from "../../../src/net/index.ts";
import { redirectNode } from "../../../src/redirect/index.ts";
import { createStackPair, type StackPair } from "../../helpers/stacks.ts";
import { certificate } from "../net/certificate.ts";
import { event } from "../net/trace.ts";

const SERVER = "10.7.0.2";
const require = createRequire(import.meta.url);
const { key, cert } = certificate;
let pair: StackPair;
let undo: () => void;
const servers: net.Server[] = [];

beforeEach(async () => {
  pair = await createStackPair();
  undo = redirectNode(pair.client);
});

afterEach(async () => {
  undo();
  for (const server of servers.splice(0)) server.close();
  await pair.close();
});

async function serve<S extends net.Server>(server: S, port: number): Promise<S> {
  createNet(pair.server).listenOn(server, port);
  servers.push(server);
  await event(server, "listening");
  return server;
}

async function text(readable: AsyncIterable<unknown>): Promise<string> {
  let all = "";
  for await (const part of readable) all += String(part);
  return all;
}

/** Every name is the server's. */
const lookup: net.LookupFunction = (_host, { all }, done) => {
  setImmediate(() => (all ? done(null, [{ address: SERVER, family: 4 }]) : done(null, SERVER, 4)));
};

const requested = (get: typeof http.get, options: https.RequestOptions) =>
  new Promise<string>((resolve, reject) =>
    get({ host: SERVER, agent: false, ...options }, (response) => resolve(text(response))).on("error", reject),
  );

describe("redirectNode", () => {
  it("node:http, node:https, node:http2, node:tls and fetch go by way of the stack", async () => {
    const answer: http.RequestListener = ({ socket }, response) => response.end(String(socket.remoteAddress));
    await serve(http.createServer(answer), 80);
    await serve(https.createServer({ key, cert }, answer), 443);
    const secure2 = http2.createSecureServer({ key, cert }, (request, response) => {
      response.end(String(request.socket.remoteAddress));
    });
    await serve(secure2 as unknown as net.Server, 444);
    expect(await (await fetch(`http://${SERVER}/`, { headers: { connection: "close" } })).text()).toBe("10.7.0.1");
    expect(await requested(http.get, {})).toBe("10.7.0.1");
    expect(await requested(http.get, { agent: new http.Agent() })).toBe("10.7.0.1");
    expect(await requested(https.get, { ca: cert, servername: "netpopcorn.test" })).toBe("10.7.0.1");
    const session = http2.connect(`https://${SERVER}:444`, { ca: cert, servername: "netpopcorn.test" });
    expect(await text(session.request({ ":path": "/" }).setEncoding("utf8"))).toBe("10.7.0.1");
    session.close();
    const socket = tls.connect(443, SERVER, { ca: cert, servername: "netpopcorn.test" });
    await event(socket, "secureConnect");
    expect([socket.remoteAddress, socket.localAddress]).toEqual([SERVER, "10.7.0.1"]);
    socket.destroy();
  });

  it("every form of connect, of both module systems, and of subclasses", async () => {
    await serve(
      net.createServer((socket) => socket.end(String(socket.remoteAddress))),
      7,
    );
    class Mine extends net.Socket {}
    const required = require("net") as typeof net;
    const opened = [
      connect(7, SERVER),
      net.createConnection({ port: 7, host: SERVER }),
      required.connect({ port: 7, host: SERVER }),
      new required.Socket().connect(7, SERVER),
      new Mine().connect(7, SERVER),
    ];
    for (const socket of opened) {
      expect(socket).toBeInstanceOf(net.Socket);
      expect(await text(socket)).toBe("10.7.0.1");
    }
    expect(new Mine()).toBeInstanceOf(Mine);
    const failed = tls.connect(9, SERVER);
    expect(await event(failed, "error")).toMatchObject({ code: "ECONNREFUSED", address: SERVER, port: 9 });
  });

  it("an instance of a class is none of another", () => {
    class Mine extends net.Socket {}
    class Other extends net.Socket {}
    class MyUdp extends dgram.Socket {}
    const udp = dgram.createSocket("udp4");
    for (const value of [{}, new net.Socket(), new Other(), udp, new tls.TLSSocket(new net.Socket())]) {
      expect(value).not.toBeInstanceOf(Mine);
      expect(value).not.toBeInstanceOf(MyUdp);
    }
    expect(udp).not.toBeInstanceOf(net.Socket);
    expect(new Mine()).toBeInstanceOf(net.Socket);
    udp.close();
    undo();
    expect(new net.Socket()).not.toBeInstanceOf(Mine);
    expect(new Mine()).toBeInstanceOf(Mine);
  });

  it("no form of TLS leaves by the host", async () => {
    await serve(
      tls.createServer({ key, cert }, (socket) => socket.end(String(socket.remoteAddress))),
      443,
    );
    const options = { host: SERVER, port: 443, ca: cert, servername: "netpopcorn.test" };
    const code = "ERR_OPTION_UNSUPPORTED";
    const none = { socket: null } as unknown as tls.ConnectionOptions;
    expect(await text(tls.connect({ ...options, ...none }))).toBe("10.7.0.1");
    const socket = new tls.TLSSocket(undefined as never, {});
    expect(() => socket.connect(options)).toThrowError(expect.objectContaining({ code }));
    const onread = { buffer: Buffer.alloc(9), callback: () => true };
    expect(() => tls.connect({ ...options, onread } as tls.ConnectionOptions)).toThrowError(
      expect.objectContaining({ code }),
    );
  });

  it("tls.connect tells what Node's tells", async () => {
    await serve(tls.createServer({ key, cert }), 443);
    const socket = tls.connect({ host: "localhost", lookup, port: 443, ca: cert, servername: "netpopcorn.test" });
    const told: string[] = [];
    for (const name of ["lookup", "connect", "ready", "secureConnect"]) socket.on(name, () => told.push(name));
    await event(socket, "secureConnect");
    expect(told).toEqual(["lookup", "connect", "ready", "secureConnect"]);
    socket.destroy();
  });

  it("servers listen on the stack, UDP sockets are the stack's", async () => {
    const server = http.createServer((_request, response) => response.end("here")).listen(80);
    servers.push(server);
    await event(server, "listening");
    const { connect: connectFromOutside } = createNet(pair.server);
    const createConnection = () => connectFromOutside(80, "10.7.0.1");
    expect(await requested(http.get, { createConnection, agent: undefined })).toBe("here");
    const socket = dgram.createSocket("udp4");
    expect(socket).toBeInstanceOf(dgram.Socket);
    socket.bind(53, "10.7.0.1");
    await event(socket, "listening");
    const other = dgram.createSocket("udp4");
    other.send("over UDP", 53, "10.7.0.1");
    expect(String(await event(socket, "message"))).toBe("over UDP");
    other.close();
    socket.close();
  });

  it("pipes, children and what is open stay the host's", async () => {
    const path = process.platform === "win32" ? "\\\\.\\pipe\\redirect" : join(tmpdir(), `redirect-${process.pid}`);
    const server = net.createServer((socket) => socket.end("by pipe")).listen(path);
    servers.push(server);
    await event(server, "listening");
    expect(await text(net.connect(path))).toBe("by pipe");
    const child = spawn(process.execPath, ["-e", "process.stdin.pipe(process.stdout)"]);
    child.stdin.end("by child");
    expect(await text(child.stdout)).toBe("by child");
  });

  it("gives the host's network back", async () => {
    undo();
    const server = net.createServer((socket) => socket.end("host")).listen(0, "127.0.0.1");
    servers.push(server);
    await event(server, "listening");
    const { port } = server.address() as net.AddressInfo;
    expect(await text(connect(port, "127.0.0.1"))).toBe("host");
    expect(Object.getPrototypeOf(new net.Socket())).toBe(Object.getPrototypeOf(tls.TLSSocket.prototype));
  });

  it("refuses a stack in threads mode at once", () => {
    undo();
    const threaded = { sockets: undefined } as unknown as KernelStack;
    const code = "ERR_NO_APPLICATION_THREAD";
    expect(() => redirectNode(threaded)).toThrowError(expect.objectContaining({ code }));
    expect(redirectNode(pair.client)).toBeTypeOf("function");
  });

  it("refuses a second stack, and Socket.call(this)", () => {
    expect(redirectNode(pair.client)).toBeTypeOf("function");
    expect(() => redirectNode(pair.server)).toThrowError(expect.objectContaining({ code: "ERR_REDIRECTED" }));
    function Old(this: net.Socket) {
      (net.Socket as unknown as (this: net.Socket) => void).call(this);
    }
    Object.setPrototypeOf(Old.prototype, net.Socket.prototype);
    const code = "ERR_OPTION_UNSUPPORTED";
    expect(() => new (Old as unknown as new () => unknown)()).toThrowError(expect.objectContaining({ code }));
  });
});
