/** The same scenarios on node:dgram over loopback and on netpopcorn/dgram over a segment: users must see the same. */
import nodeDgram, { type Socket } from "node:dgram";
import { BlockList } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDgram, type Dgram } from "../../../src/dgram/index.ts";
import { createStackPair, type StackPair } from "../../helpers/stacks.ts";

/** Two ends on one network; `host` is the address of the server's end, `from` that of the client's. */
type Network = { readonly server: Dgram; readonly client: Dgram; readonly host: string; readonly from: string };
type Note = (text: string) => void;
type Scenario = (network: Network, note: Note) => Promise<void>;

let pair: StackPair;
let ours: Network;
const theirs: Network = { server: nodeDgram, client: nodeDgram, host: "127.0.0.1", from: "127.0.0.1" };

beforeAll(async () => {
  pair = await createStackPair({ serverKernels: 2 });
  ours = { server: createDgram(pair.server), client: createDgram(pair.client), host: "10.7.0.2", from: "10.7.0.1" };
});
afterAll(() => pair.close());

const event = (socket: Socket, name: string) =>
  new Promise<unknown[]>((resolve) => void socket.once(name, (...all) => resolve(all)));
const closed = (...sockets: Socket[]) => Promise.all(sockets.map((socket) => event(socket, "close")));
const tick = () => new Promise((resolve) => setTimeout(resolve, 5));

async function bound(dgram: Dgram, host: string): Promise<Socket> {
  const socket = dgram.createSocket("udp4");
  socket.bind(0, host);
  await event(socket, "listening");
  return socket;
}

/** What a call throws, or returns. */
function outcome(call: () => unknown): string {
  try {
    return `returns ${typeof call()}`;
  } catch (error) {
    const { name, code, message, syscall } = error as NodeJS.ErrnoException;
    return `${name} ${code} ${message} ${syscall}`;
  }
}

function told(note: Note, socket: Socket, who: string): Socket {
  for (const name of ["listening", "connect", "error", "close"] as const) {
    socket.on(name, (error?: NodeJS.ErrnoException) =>
      note(`${who}: ${name}${error ? ` ${error.code} ${error.syscall}` : ""}`),
    );
  }
  return socket;
}

const scenarios: Record<string, Scenario> = {
  "question and answer": async ({ server, client, host, from }, note) => {
    const service = told(note, server.createSocket("udp4"), "server");
    service.on("message", (message, { address, family, size, port }) => {
      note(`${message} ${address === from} ${family} ${size}`);
      service.send(`${message}!`, port, address, (error, bytes) => note(`answered ${error} ${bytes}`));
    });
    service.bind(0, host, () => note("listener of bind"));
    await event(service, "listening");
    const asker = told(
      note,
      client.createSocket("udp4", (message) => note(`client hears ${message}`)),
      "client",
    );
    asker.send("hello", service.address().port, host);
    await event(asker, "message");
    asker.send(["list", Buffer.from(" of "), new Uint8Array([98, 121, 116, 101, 115])], service.address().port, host);
    await event(asker, "message");
    asker.send(Buffer.from("a part of it"), 2, 4, service.address().port, host);
    await event(asker, "message");
    asker.send("", service.address().port, host);
    await event(asker, "message");
    note(JSON.stringify(asker.address().family));
    const ends = closed(asker, service);
    asker.close(() => note("listener of close"));
    service.close();
    await ends;
    note(outcome(() => asker.close()));
    note(outcome(() => asker.send("x", 1)));
  },
  "wrong arguments": async ({ client }, note) => {
    for (const type of [undefined, "udp", { type: "tcp" }, {}])
      note(outcome(() => client.createSocket(type as "udp4")));
    note(outcome(() => client.createSocket({ type: "udp4", lookup: 3 as never })));
    const socket = client.createSocket("udp4");
    const send = socket.send.bind(socket) as (...args: unknown[]) => void;
    note(outcome(() => send("a")));
    note(outcome(() => send("a", 0)));
    note(outcome(() => send("a", 65536)));
    note(outcome(() => send(5, 1)));
    note(outcome(() => send([5], 1)));
    note(outcome(() => send(Buffer.alloc(5), 6, 2, 1)));
    note(outcome(() => send(Buffer.alloc(5), 2, 8, 1)));
    note(outcome(() => send(Buffer.alloc(5), 1, "127.0.0.1" as never, 3)));
    note(outcome(() => socket.setTTL(3)));
    note(outcome(() => socket.address()));
    note(outcome(() => socket.remoteAddress()));
    note(outcome(() => socket.disconnect()));
    note(outcome(() => socket.connect(0)));
    note(outcome(() => socket.getRecvBufferSize()));
    note(outcome(() => socket.setSendBufferSize(4096)));
    note(outcome(() => send("a", 1, 0)));
    note(outcome(() => socket.addSourceSpecificMembership(0 as never, "232.0.0.1")));
    note(outcome(() => socket.setMulticastInterface(0 as never)));
    note(outcome(() => client.createSocket({ type: "udp4", recvBufferSize: "x" as never })));
    note(outcome(() => socket.addMembership(undefined as never)));
    note(outcome(() => socket.bind(70000)));
    socket.close();
    await event(socket, "close");
  },
  "options of a bound socket": async ({ client, from }, note) => {
    const socket = await bound(client, from);
    note(outcome(() => socket.bind(0)));
    note(outcome(() => socket.setTTL(64)));
    note(outcome(() => socket.setTTL(0)));
    note(outcome(() => socket.setTTL("x" as never)));
    note(outcome(() => socket.setMulticastTTL(300)));
    note(outcome(() => socket.setMulticastTTL(3)));
    note(outcome(() => socket.setMulticastLoopback(false)));
    note(outcome(() => socket.setBroadcast(true)));
    note(outcome(() => socket.addMembership("1.2.3.4")));
    note(outcome(() => socket.addMembership("nonsense")));
    note(outcome(() => socket.dropMembership("224.2.3.4")));
    note(outcome(() => socket.ref().unref().ref()));
    note(outcome(() => socket.setRecvBufferSize(-1)));
    note(outcome(() => socket.setRecvBufferSize(2 ** 31)));
    note(outcome(() => socket.setRecvBufferSize(10_000)));
    note(outcome(() => socket.setSendBufferSize(10_000)));
    note(`${socket.getRecvBufferSize() >= 10_000} ${socket.getSendBufferSize() >= 10_000}`);
    note(`${socket.getSendQueueCount()} ${socket.getSendQueueSize()}`);
    socket.close();
    await event(socket, "close");
  },
  "groups and interfaces, before it is bound": async ({ client, from }, note) => {
    const socket = client.createSocket("udp4");
    note(outcome(() => socket.addMembership("10.0.0.1")));
    note(outcome(() => socket.addMembership("nonsense")));
    note(outcome(() => socket.addMembership("224.2.3.4", "203.0.113.5")));
    note(outcome(() => socket.addMembership("224.2.3.4", "nonsense")));
    note(outcome(() => socket.dropMembership("224.2.3.4")));
    note(outcome(() => socket.dropMembership("224.2.3.4", "203.0.113.5")));
    note(outcome(() => socket.dropMembership("10.0.0.1")));
    note(outcome(() => socket.addMembership("224.2.3.4", from)));
    note(outcome(() => socket.addMembership("224.2.3.4", from)));
    note(outcome(() => socket.dropMembership("224.2.3.4", from)));
    note(outcome(() => socket.dropMembership("224.2.3.4", from)));
    socket.close();
    await event(socket, "close");
  },
  "groups and interfaces of a bound socket": async ({ client, from }, note) => {
    const socket = await bound(client, from);
    note(outcome(() => socket.addMembership("224.2.3.4", "203.0.113.5")));
    note(outcome(() => socket.addMembership("224.2.3.4", "nonsense")));
    note(outcome(() => socket.dropMembership("224.2.3.4", "203.0.113.5")));
    note(outcome(() => socket.dropMembership("10.0.0.1")));
    note(outcome(() => socket.setMulticastInterface("203.0.113.5")));
    socket.close();
    await event(socket, "close");
  },
  "sizes of buffers that are none": async ({ client }, note) => {
    for (const bytes of [-1, 1.5, 2 ** 32, 5e10, Number.POSITIVE_INFINITY]) {
      note(outcome(() => client.createSocket({ type: "udp4", recvBufferSize: bytes })));
      note(outcome(() => client.createSocket({ type: "udp4", sendBufferSize: bytes })));
    }
  },
  "an address, on a socket that is connected by then": async ({ server, client, host }, note) => {
    const service = await bound(server, host);
    const { port } = service.address();
    const socket = told(note, client.createSocket("udp4"), "client");
    socket.connect(port, host);
    socket.send("unheard", port, host);
    const answered = new Promise<void>((resolve) => {
      socket.send("unheard", port, host, (error, bytes) => {
        note(`${error?.message.replace(`${host}:${port}`, "peer")} ${bytes}`);
        resolve();
      });
    });
    await Promise.all([answered, event(socket, "connect")]);
    const ends = closed(service, socket);
    service.close();
    socket.close();
    await ends;
  },
  "a port that is taken": async ({ client, from }, note) => {
    const first = await bound(client, from);
    const second = told(note, client.createSocket("udp4"), "second");
    const { port } = first.address();
    second.bind(port, from, () => note("never"));
    const [error] = (await event(second, "error")) as [NodeJS.ErrnoException];
    note(error.message.replace(from, "host").replace(String(port), "port"));
    // It may be bound to another one.
    second.bind(0, from, () => note("bound"));
    await event(second, "listening");
    const ends = closed(first, second);
    first.close();
    second.close();
    await ends;
  },
  "connected: one peer, no address, then none": async ({ server, client, host, from }, note) => {
    const service = await bound(server, host);
    const stranger = await bound(server, host);
    const { port } = service.address();
    service.on("message", (message, sender) => {
      note(`server hears ${message}`);
      stranger.send("from a stranger", sender.port, sender.address);
      setTimeout(() => service.send(`${message}!`, sender.port, sender.address), 5);
    });
    const socket = told(note, client.createSocket("udp4"), "client");
    socket.on("message", (message) => note(`client hears ${message}`));
    socket.connect(port, host, (() => note("listener of connect")) as never);
    note(outcome(() => socket.connect(port, host)));
    await event(socket, "connect");
    const remote = socket.remoteAddress();
    note(`${remote.address === host} ${remote.port === port} ${socket.address().address === from}`);
    socket.send("one", (error, bytes) => note(`sent ${error} ${bytes}`));
    await event(socket, "message");
    socket.send(Buffer.from("-two-"), 1, 3);
    await event(socket, "message");
    note(outcome(() => socket.send(Buffer.from("x"), 0, 1, port)));
    socket.disconnect();
    note(outcome(() => socket.disconnect()));
    socket.send("three", port, host);
    await event(socket, "message");
    await event(socket, "message");
    const ends = closed(socket, service, stranger);
    for (const one of [socket, service, stranger]) one.close();
    await ends;
  },
  "nobody there: a connected socket is told, another is not": async ({ client, host }, note) => {
    const socket = client.createSocket("udp4");
    socket.send("x", 9, host, (error) => note(`sent ${error}`));
    await tick();
    socket.connect(9, host);
    await event(socket, "connect");
    // Over loopback the second send() is told, over a network an event comes.
    const refused = new Promise<NodeJS.ErrnoException>((resolve) => {
      socket.on("error", resolve);
      socket.send("x", () => setTimeout(() => socket.send("x", (error) => error && resolve(error)), 5));
    });
    note(`${(await refused).code}`);
    await tick();
    await tick();
    socket.close();
    await event(socket, "close");
  },
  "too long, and of another family": async ({ client, host }, note) => {
    const socket = client.createSocket("udp4");
    const sent = (bytes: number, address: string) =>
      new Promise<void>((resolve) => {
        socket.send(Buffer.alloc(bytes), 7, address, (error) => {
          note(`${error?.message.replace(host, "host")} ${(error as NodeJS.ErrnoException)?.syscall}`);
          resolve();
        });
      });
    await sent(65508, host);
    await sent(1, "::1");
    socket.close();
    await event(socket, "close");
  },
  "closed while it binds; signal; block lists; own look-up": async ({ server, client, host }, note) => {
    const early = told(note, client.createSocket("udp4"), "early");
    early.bind(0);
    early.close();
    await event(early, "close");
    const abort = new AbortController();
    const aborted = told(note, client.createSocket({ type: "udp4", signal: abort.signal }), "aborted");
    aborted.bind(0);
    await event(aborted, "listening");
    abort.abort();
    await event(aborted, "close");
    const service = await bound(server, host);
    const socket = client.createSocket({
      type: "udp4",
      lookup: (name, family, done) => {
        note(`look-up of ${name} ${family}`);
        if (name === "nowhere") done(Object.assign(new Error("nowhere"), { code: "ENOTFOUND" }), "", 0);
        else done(null, name === "service" ? host : "0.0.0.0", 4);
      },
    });
    socket.send("x", service.address().port, "service");
    note(`${(await event(service, "message"))[0]}`);
    socket.send("x", 1, "nowhere", (error) => note(`${error?.message}`));
    await tick();
    const ends = closed(service, socket);
    service.close();
    socket.close();
    await ends;
  },
};

async function traceOf(network: Network, scenario: Scenario): Promise<string[]> {
  const lines: string[] = [];
  await scenario(network, (text) => lines.push(text));
  return lines;
}

describe("netpopcorn/dgram", () => {
  for (const [name, scenario] of Object.entries(scenarios)) {
    it(`is like node:dgram: ${name}`, async () => {
      const expected = await traceOf(theirs, scenario);
      expect(expected.length).toBeGreaterThan(0);
      expect(await traceOf(ours, scenario)).toEqual(expected);
    });
  }

  it("block lists keep datagrams out and in", async () => {
    const blockList = new BlockList();
    blockList.addAddress("10.7.0.1");
    const service = ours.server.createSocket({ type: "udp4", receiveBlockList: blockList } as never);
    service.on("message", () => expect.unreachable("blocked"));
    service.bind(0, "10.7.0.2");
    await event(service, "listening");
    const socket = await bound(ours.client, "10.7.0.1");
    socket.send("x", service.address().port, "10.7.0.2");
    const { port } = socket.address();
    const sendBlocked = ours.server.createSocket({ type: "udp4", sendBlockList: blockList } as never);
    const error = await new Promise((resolve) => sendBlocked.send("x", port, "10.7.0.1", resolve));
    expect(error).toMatchObject({ code: "ERR_IP_BLOCKED" });
    const ends = closed(service, socket, sendBlocked);
    for (const one of [service, socket, sendBlocked]) one.close();
    await ends;
  });

  it("speaks IPv6, and IPv4 by mapped addresses", async () => {
    const both = await createStackPair({
      client: { address: ["10.7.0.1/24", "fd07::1/64"] },
      server: { address: ["10.7.0.2/24", "fd07::2/64"] },
    });
    try {
      const service = createDgram(both.server).createSocket("udp6");
      const senders: string[] = [];
      service.on("message", (message, { address, port }) => {
        senders.push(address);
        service.send(message, port, address);
      });
      service.bind(7);
      await event(service, "listening");
      const six = createDgram(both.client).createSocket("udp6");
      six.send("six", 7, "fd07::2");
      expect(`${(await event(six, "message"))[0]}`).toBe("six");
      const four = createDgram(both.client).createSocket("udp4");
      four.send("four", 7, "10.7.0.2");
      expect((await event(four, "message"))[1]).toMatchObject({
        address: "10.7.0.2",
        family: "IPv4",
        port: 7,
        size: 4,
      });
      expect(senders).toEqual(["fd07::1", "::ffff:10.7.0.1"]);
    } finally {
      await both.close();
    }
  });

  it("what waits for the binding is done although one part of it fails", async () => {
    const service = await bound(ours.server, "10.7.0.2");
    const { port } = service.address();
    const socket = ours.client.createSocket({
      type: "udp4",
      lookup: (name, _family, done) => {
        if (name === "broken") throw new Error("a look-up's");
        done(null, name, 4);
      },
    });
    const error = event(socket, "error");
    const heard = event(service, "message");
    socket.send("lost", port, "broken");
    socket.send("heard", port, "10.7.0.2");
    const ends = closed(socket);
    socket.close();
    expect(await error).toMatchObject([{ message: "a look-up's" }]);
    expect(`${(await heard)[0]}`).toBe("heard");
    await ends;
    service.close();
  });

  it("a listener that throws does not lose the datagrams behind", async () => {
    const service = await bound(ours.server, "10.7.0.2");
    const heard: string[] = [];
    const all = new Promise<void>((resolve) => {
      service.on("message", (message) => {
        heard.push(`${message}`);
        if (heard.length === 4) resolve();
        // The second time in another turn of the event loop than the kernel's.
        if (heard.length <= 2) throw new Error("a listener's");
      });
    });
    const told = new Promise((resolve) => pair.server.on("error", resolve));
    const socket = await bound(ours.client, "10.7.0.1");
    for (const text of ["a", "b", "c", "d"]) socket.send(text, service.address().port, "10.7.0.2");
    await all;
    expect(heard.sort()).toEqual(["a", "b", "c", "d"]);
    expect(await told).toMatchObject({ error: { message: "a listener's" } });
    const ends = closed(service, socket);
    service.close();
    socket.close();
    await ends;
  });
});
