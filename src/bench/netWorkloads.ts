/**
 * The workloads at the `net` level: the same exchanges as at the handle level, on Duplex sockets of netpopcorn/net.
 * Client and server run in one thread; Node's event loop gives them their turns.
 */
import type net from "node:net";
import { NetPopcornError } from "../errors.ts";
import type { Net } from "../net/createNet.ts";
import { MESSAGE_BYTES } from "./accept.ts";

export type NetWorkload = {
  /** What is measured, so far: connections, bytes, round trips. */
  readonly done: () => number;
  /** @throws what has failed. */
  readonly check: () => void;
  /** Nothing new is begun. */
  readonly stop: () => void;
};

type Ends = { readonly client: Net; readonly server: Net; readonly address: string; readonly port: number };

function fail(message: string): never {
  throw new NetPopcornError("ERR_BENCH", message);
}

function listen({ server, port }: Ends, backlog: number, onConnection: (socket: net.Socket) => void) {
  return new Promise<net.Server>((resolve, reject) => {
    const listening = server.createServer({ noDelay: true }, onConnection);
    listening.on("error", reject);
    listening.listen({ port, backlog }, () => resolve(listening));
  });
}

/** Each connection: 64 bytes there, 64 back; the server ends first, then the client. */
export async function startAccept(ends: Ends, concurrency: number, backlog: number): Promise<NetWorkload> {
  const message = Buffer.from(Array.from({ length: MESSAGE_BYTES }, (_, i) => i));
  let completed = 0;
  let failure: Error | undefined;
  let isStopping = false;
  const listening = await listen(ends, backlog, (socket) => {
    let received = 0;
    socket.on("data", (chunk) => {
      received += chunk.length;
      if (received < MESSAGE_BYTES) socket.write(chunk);
      else socket.end(chunk);
    });
    socket.on("error", (error) => {
      failure ??= error;
    });
  });
  const open = () => {
    let received = 0;
    const socket = ends.client.connect({ port: ends.port, host: ends.address }, () => socket.write(message));
    socket.on("data", (chunk) => {
      received += chunk.length;
      if (chunk[chunk.length - 1] !== received - 1) failure ??= new Error("the answer is not what was sent");
    });
    socket.on("error", (error) => {
      failure ??= error;
    });
    socket.on("close", () => {
      if (received !== MESSAGE_BYTES) failure ??= new Error(`the server answered ${received} bytes`);
      completed++;
      if (!isStopping) open();
    });
  };
  for (let i = 0; i < concurrency; i++) open();
  return {
    done: () => completed,
    check: () => failure && fail(failure.message),
    stop: () => {
      isStopping = true;
      listening.close();
    },
  };
}

/** The stream repeats this many bytes: byte i is i modulo PATTERN_BYTES modulo 251. */
const PATTERN_BYTES = 251 * 256;

/** One way, client to server; the first byte of each piece is checked against its place in the stream. */
export async function startBulk(ends: Ends, connections: number): Promise<NetWorkload> {
  const pattern = Buffer.from(Array.from({ length: PATTERN_BYTES }, (_, i) => i % 251));
  let bytes = 0;
  let failure: Error | undefined;
  const sockets: net.Socket[] = [];
  const listening = await listen(ends, connections, (socket) => {
    let position = 0;
    socket.on("data", (chunk) => {
      if (chunk[0] !== (position % PATTERN_BYTES) % 251) failure ??= new Error(`byte ${position} is not what was sent`);
      position += chunk.length;
      bytes += chunk.length;
    });
    sockets.push(socket);
  });
  for (let i = 0; i < connections; i++) {
    const socket = ends.client.connect({ port: ends.port, host: ends.address });
    const fill = () => {
      while (socket.write(pattern));
    };
    socket.on("connect", fill);
    socket.on("drain", fill);
    sockets.push(socket);
  }
  for (const socket of sockets) {
    socket.on("error", (error) => {
      failure ??= error;
    });
  }
  return {
    done: () => bytes,
    check: () => failure && fail(failure.message),
    stop: () => {
      listening.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** One byte there, one byte back, on each connection. */
export async function startRr(ends: Ends, connections: number): Promise<NetWorkload> {
  const ping = Buffer.from([1]);
  let roundTrips = 0;
  let failure: Error | undefined;
  const sockets: net.Socket[] = [];
  const listening = await listen(ends, connections, (socket) => {
    socket.on("data", (chunk) => socket.write(chunk));
    sockets.push(socket);
  });
  for (let i = 0; i < connections; i++) {
    const socket = ends.client.connect({ port: ends.port, host: ends.address });
    socket.setNoDelay(true);
    socket.on("connect", () => socket.write(ping));
    socket.on("data", () => {
      roundTrips++;
      socket.write(ping);
    });
    socket.on("error", (error) => {
      failure ??= error;
    });
    sockets.push(socket);
  }
  return {
    done: () => roundTrips,
    check: () => failure && fail(failure.message),
    stop: () => {
      listening.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
