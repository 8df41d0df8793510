/** The same scenarios on node:net over loopback and on netpopcorn/net over a segment: users must see the same. */
import nodeNet from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createNet } from "../../../src/net/index.ts";
import { createStackPair, type StackPair } from "../../helpers/stacks.ts";
import { closed, event, listening, type Network, Trace } from "./trace.ts";

const SERVER = "10.7.0.2";
const UNUSED_PORT = 9;
let pair: StackPair;
let ours: Network;
const theirs: Network = { server: nodeNet, client: nodeNet, host: "127.0.0.1" };

beforeAll(async () => {
  pair = await createStackPair();
  ours = { server: createNet(pair.server), client: createNet(pair.client), host: SERVER };
});

afterAll(() => pair.close());

type Scenario = (network: Network, trace: Trace) => Promise<void>;

const tick = () => new Promise((resolve) => setTimeout(resolve, 5));

/** Server and client of one connection, traced, with the listeners that both see. */
async function connectPair(network: Network, trace: Trace, options: nodeNet.ServerOpts = {}) {
  const server = network.server.createServer(options);
  const port = await listening(server, network.host);
  const accepted = event(server, "connection") as Promise<nodeNet.Socket>;
  const client = trace.socket("client", network.client.connect({ port, host: network.host, ...options }));
  const peer = trace.socket("server", await accepted);
  // Both ends know of the connection and have nothing more to say.
  await tick();
  return { server, client, peer, port };
}

const scenarios: Record<string, Scenario> = {
  "the server ends first": async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace);
    peer.end("good bye");
    await closed(client, peer);
    server.close();
  },
  "the client ends first, after an exchange": async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace);
    peer.on("data", (chunk) => peer.write(chunk));
    client.write("a");
    await event(client, "data");
    client.end("b");
    await closed(client, peer);
    server.close();
  },
  "half open: the server answers after the client's end": async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace, { allowHalfOpen: true });
    peer.on("end", () => setTimeout(() => peer.end("answer"), 5));
    client.end("question");
    await closed(client, peer);
    server.close();
  },
  "a reset after the peer's end is no error for one that only reads": async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace, { allowHalfOpen: true });
    peer.end("last words");
    await event(client, "end");
    peer.resetAndDestroy();
    await closed(peer);
    await tick();
    trace.note("client", `destroyed: ${client.destroyed}`);
    client.end();
    await closed(client);
    server.close();
  },
  "what came before a reset is read by one that had stopped reading": async (network, trace) => {
    const server = network.server.createServer();
    const port = await listening(server, network.host);
    const accepted = event(server, "connection") as Promise<nodeNet.Socket>;
    // How many bytes it has taken out of the connection by then may differ.
    const client = network.client.connect({ port, host: network.host });
    const failed = event(client, "error") as Promise<NodeJS.ErrnoException>;
    const peer = await accepted;
    await tick();
    client.pause();
    // The mark is 16 KiB, from Node 22 on 64 KiB.
    peer.write(Buffer.alloc(Math.max(50_000, client.readableHighWaterMark)));
    while (client.readableLength < client.readableHighWaterMark) await tick();
    peer.resetAndDestroy();
    await closed(peer);
    await tick();
    let bytes = 0;
    client.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    trace.note("client", `destroyed: ${client.destroyed}`);
    client.resume();
    trace.note("client", `${(await failed).message} after ${bytes} bytes`);
    server.close();
  },
  "a reset that came while the socket was paused ends it behind the bytes": async (network, trace) => {
    const server = network.server.createServer({ pauseOnConnect: true });
    const port = await listening(server, network.host);
    for (const length of [5, 1000, 5000]) {
      const accepted = event(server, "connection") as Promise<nodeNet.Socket>;
      const client = network.client.connect({ port, host: network.host });
      const peer = await accepted;
      client.write(Buffer.alloc(length));
      client.write("tail");
      await tick();
      client.resetAndDestroy();
      await closed(client);
      await tick();
      trace.note("server", `destroyed: ${peer.destroyed}`);
      // Node reports the end of the stream here, the stack ECONNRESET (docs/net.md).
      peer.on("error", () => {}).resume();
      await closed(peer);
      trace.note("server", `${peer.bytesRead} bytes`);
    }
    server.close();
  },
  "a signal that is aborted already": async (network, trace) => {
    const server = network.server.createServer();
    const port = await listening(server, network.host);
    const signal = AbortSignal.abort();
    const client = network.client.connect({ port, host: network.host, signal });
    const { name, code } = (await event(client, "error")) as NodeJS.ErrnoException;
    trace.note("client", `${name} ${code}`);
    server.close();
  },
  "options that are null are none": async (network, trace) => {
    const server = network.server.createServer();
    const port = await listening(server, network.host);
    // As undici passes them.
    const options = { port, host: network.host, localAddress: null, localPort: null, path: null };
    const client = trace.socket("client", network.client.connect(options as never));
    await event(client, "connect");
    client.destroy();
    await closed(client);
    server.close();
  },
  "onread into buffers that are smaller than what comes, paused after every second one": async (network, trace) => {
    const server = network.server.createServer((socket) => socket.resume().end("hello world"));
    const port = await listening(server, network.host);
    let buffers = 0;
    let pieces = 0;
    let text = "";
    const client: nodeNet.Socket = network.client.connect({
      port,
      host: network.host,
      onread: {
        buffer: () => {
          buffers++;
          return Buffer.alloc(2);
        },
        callback: (count, buffer) => {
          text += Buffer.from(buffer.subarray(0, count)).toString();
          if (++pieces % 2 === 1) return true;
          setTimeout(() => client.resume(), 5);
          return false;
        },
      },
    });
    await closed(client);
    trace.note("client", `${text} in ${pieces} pieces, ${buffers} buffers`);
    server.close();
    await event(server, "close");
  },
  "onread without room": async (network, trace) => {
    const server = network.server.createServer((socket) => socket.on("error", () => {}).write("hello"));
    const port = await listening(server, network.host);
    let buffers = 0;
    const callback = (count: number) => {
      trace.note("client", `given ${count}`);
      return true;
    };
    for (const buffer of [new Uint8Array(0), () => new Uint8Array(0), () => new Uint8Array(buffers++ === 0 ? 2 : 0)]) {
      const onread = { buffer, callback };
      await closed(trace.socket("client", network.client.connect({ port, host: network.host, onread })));
    }
    server.close();
  },
  "onread that is none": async (network, trace) => {
    const server = network.server.createServer((socket) => socket.end("hello"));
    const port = await listening(server, network.host);
    const callback = () => expect.unreachable();
    for (const given of [
      { callback },
      { buffer: new ArrayBuffer(5), callback },
      { buffer: Buffer.alloc(5) },
      null,
      5,
    ]) {
      const onread = given as never as nodeNet.OnReadOpts;
      await closed(trace.socket("client", network.client.connect({ port, host: network.host, onread })));
    }
    server.close();
  },
  "destroy() without and with an error": async (network, trace) => {
    const first = await connectPair(network, trace);
    first.client.destroy();
    await closed(first.client, first.peer);
    const error: NodeJS.ErrnoException = new Error("enough");
    error.code = "ENOUGH";
    const second = await connectPair(network, trace);
    second.client.destroy(error);
    await closed(second.client, second.peer);
    first.server.close();
    second.server.close();
  },
  "resetAndDestroy() is ECONNRESET for the peer": async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace);
    client.resetAndDestroy();
    await closed(client, peer);
    server.close();
  },
  "writes before the connection is there": async (network, trace) => {
    let peerClosed: Promise<unknown> | undefined;
    const server = network.server.createServer((socket) => {
      peerClosed = closed(trace.socket("server", socket));
    });
    const port = await listening(server, network.host);
    const client = new network.client.Socket();
    trace.socket("client", client);
    client.connect(port, network.host, () => trace.note("client", "listener of connect"));
    client.write("one", () => trace.note("client", "one is written"));
    client.write("two", "utf8", () => trace.note("client", "two is written"));
    client.end("three", () => trace.note("client", "ended"));
    await closed(client);
    await peerClosed;
    server.close();
    await event(server, "close");
  },
  "write after the peer has ended": async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace);
    peer.end();
    await event(client, "end");
    client.write("too late", (error) => trace.note("client", `written ${(error as NodeJS.ErrnoException)?.code}`));
    await closed(client, peer);
    server.close();
  },
  "write after end()": async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace);
    client.end();
    client.write("too late", (error) => trace.note("client", `written ${(error as NodeJS.ErrnoException)?.code}`));
    await closed(client, peer);
    server.close();
  },
  "connection refused": async (network, trace) => {
    const client = trace.socket("client", network.client.connect(UNUSED_PORT, network.host));
    client.write("never", (error) => trace.note("client", `written ${(error as NodeJS.ErrnoException)?.code}`));
    await closed(client);
  },
  "destroyed while connecting": async (network, trace) => {
    const client = trace.socket("client", network.client.connect(UNUSED_PORT, network.host));
    client.destroy();
    await closed(client);
  },
  timeout: async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace);
    client.setTimeout(20, () => client.end());
    await closed(client, peer);
    trace.note("client", `timeout ${client.timeout}`);
    server.close();
  },
  "a paused socket gets nothing, then everything": async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace);
    client.pause();
    peer.write("first");
    await tick();
    peer.end("last");
    await tick();
    client.resume();
    await closed(client, peer);
    server.close();
  },
  pauseOnConnect: async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace, { pauseOnConnect: true });
    trace.note("server", `paused ${peer.isPaused()}`);
    client.end("x");
    await tick();
    peer.resume();
    await closed(client, peer);
    server.close();
  },
  "maxConnections drops the next": async (network, trace) => {
    const server = trace.server("listener", network.server.createServer());
    server.maxConnections = 1;
    const port = await listening(server, network.host);
    const first = network.client.connect(port, network.host);
    await event(server, "connection");
    // It hears of an end, not of a reset.
    const second = trace.socket("client", network.client.connect(port, network.host));
    await event(server, "drop");
    await closed(second);
    const count = await new Promise((resolve) => server.getConnections((_error, connections) => resolve(connections)));
    trace.note("listener", `${count} connection`);
    server.close((error) => trace.note("listener", `closed ${error?.message}`));
    first.end();
    first.resume();
    server.on("close", () => trace.note("listener", `listening ${server.listening} ${server.address()}`));
    await event(server, "close");
  },
  "a server's life": async (network, trace) => {
    const server = trace.server("listener", network.server.createServer());
    server.close((error) => trace.note("listener", `not running: ${(error as NodeJS.ErrnoException)?.code}`));
    await event(server, "close");
    const port = await listening(server, network.host);
    trace.note("listener", `listening ${server.listening}`);
    try {
      server.listen(port);
    } catch (error) {
      trace.note("listener", `again: ${(error as NodeJS.ErrnoException).code}`);
    }
    const second = trace.server("second", network.server.createServer());
    second.listen(port, network.host);
    await event(second, "error");
    trace.note("second", `listening ${second.listening}`);
    server.close();
    await event(server, "close");
  },
  "abort signals": async (network, trace) => {
    const server = trace.server("listener", network.server.createServer());
    const ends = new AbortController();
    server.listen({ port: 0, host: network.host, signal: ends.signal });
    await event(server, "listening");
    const { port } = server.address() as nodeNet.AddressInfo;
    const gives = new AbortController();
    const accepted = event(server, "connection") as Promise<nodeNet.Socket>;
    const options = { port, host: network.host, signal: gives.signal };
    const client = trace.socket("client", network.client.connect(options as nodeNet.NetConnectOpts));
    (await accepted).resume();
    await tick();
    gives.abort();
    await closed(client);
    ends.abort();
    await event(server, "close");
  },
  "a stream longer than all buffers": async (network, trace) => {
    const { server, client, peer } = await connectPair(network, trace);
    client.removeAllListeners("drain");
    peer.removeAllListeners("data");
    peer.pause();
    const piece = Buffer.alloc(1 << 20, "x");
    trace.note("client", `room ${client.write(piece.subarray(0, 10))} ${client.write(piece)}`);
    let left = 30;
    while (left > 0 && client.write(piece)) left--;
    peer.resume();
    client.on("drain", () => {
      while (left > 0) {
        left--;
        if (!client.write(piece)) return;
      }
      if (!client.writableEnded) client.end();
    });
    let bytes = 0;
    peer.on("data", (chunk) => {
      bytes += chunk.length;
    });
    await closed(client, peer);
    trace.note("server", `${bytes === peer.bytesRead} ${client.bytesWritten === bytes}`);
    server.close();
  },
};

describe("netpopcorn/net shows what node:net shows:", () => {
  it.each(Object.entries(scenarios))("%s", async (_name, scenario) => {
    const traces: Record<string, string[]>[] = [];
    for (const network of [theirs, ours]) {
      const trace = new Trace();
      await scenario(network, trace);
      traces.push(trace.result);
    }
    expect(Object.values(traces[0] ?? {}).flat().length).toBeGreaterThan(0);
    expect(traces[1]).toEqual(traces[0]);
  });
});

describe("errors have Node's shape:", () => {
  const shapeOf = (error: NodeJS.ErrnoException, address: string) => ({
    ...error,
    name: error.name,
    message: error.message.replaceAll(address, "ADDRESS"),
    fields: Object.keys(error),
    address: undefined,
  });

  async function shapes(network: Network, make: (network: Network) => Promise<unknown>) {
    return shapeOf((await make(network)) as NodeJS.ErrnoException, network.host);
  }

  const failures: Record<string, (network: Network) => Promise<unknown>> = {
    "connect ECONNREFUSED": ({ client, host }) => event(client.connect(UNUSED_PORT, host), "error"),
    "listen EADDRINUSE": async ({ server, host }) => {
      const first = server.createServer();
      const port = 18_080;
      first.listen(port, host);
      await event(first, "listening");
      const second = server.createServer().listen(port, host);
      const error = await event(second, "error");
      first.close();
      return error;
    },
    "read ECONNRESET": async ({ server, client, host }) => {
      const listener = server.createServer((socket) => setTimeout(() => socket.resetAndDestroy(), 5));
      const port = await listening(listener, host);
      const error = await event(client.connect(port, host), "error");
      listener.close();
      return error;
    },
    ERR_SOCKET_CLOSED: ({ client }) => {
      const socket = new client.Socket();
      socket.resetAndDestroy();
      return event(socket, "error");
    },
  };

  it.each(Object.entries(failures))("%s", async (_name, make) => {
    const node = await shapes(theirs, make);
    expect(await shapes(ours, make)).toEqual(node);
  });

  const misuses: Record<string, (network: Network) => unknown> = {
    "a port that is too large": ({ client, host }) => client.connect({ port: 65_536, host }),
    "a port that is no number": ({ client, host }) => client.connect({ port: "http" as never, host }),
    "a port of the wrong type": ({ client, host }) => client.connect({ port: null as never, host }),
    "no port": ({ client }) => client.connect({} as never),
    "a local address that is a name": ({ client, host }) => client.connect({ port: 1, host, localAddress: "here" }),
    "a local port that is no number": ({ client, host }) => client.connect({ port: 1, host, localPort: "1" as never }),
    "an autoSelectFamily that is no boolean": ({ client, host }) =>
      client.connect({ port: 1, host, autoSelectFamily: 1 as never }),
    "an attempt's time that is none": ({ client, host }) =>
      client.connect({ port: 1, host, autoSelectFamilyAttemptTimeout: 0 }),
    "an attempt's time of the wrong type": ({ client, host }) =>
      client.connect({ port: 1, host, autoSelectFamilyAttemptTimeout: "1" as never }),
    "an array that Node has not made": ({ client, host }) => new client.Socket().connect([{ port: 1, host }] as never),
    "a lookup that is no function": ({ client }) => client.connect({ port: 1, host: "a.test", lookup: 1 as never }),
    "listen on a port that is too large": ({ server }) => server.createServer().listen(65_536),
    "listen without a place": ({ server }) => server.createServer().listen({}),
    "object mode": ({ client }) => new client.Socket({ objectMode: true } as never),
  };

  it.each(Object.entries(misuses))("%s", (_name, make) => {
    const thrown = [theirs, ours].map((network) => {
      try {
        const made = make(network);
        if (made instanceof nodeNet.Socket) made.on("error", () => {}).destroy();
      } catch (error) {
        const { name, code, message } = error as NodeJS.ErrnoException;
        return { name, code, message };
      }
      return undefined;
    });
    expect(thrown[0]).toBeDefined();
    expect(thrown[1]).toEqual(thrown[0]);
  });
});
