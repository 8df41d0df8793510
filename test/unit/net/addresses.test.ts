/** connect() to names with several addresses (autoSelectFamily), and to the wildcard, on a stack of both families. */
import type { LookupAddress } from "node:dns";
import nodeNet from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { alternateFamilies } from "../../../src/net/attempts.ts";
import { createNet, type Net } from "../../../src/net/index.ts";
import { createSegment, type Segment } from "../../../src/device/card/segment.ts";
import { createStack, type Stack } from "../../../src/stack.ts";
import { closed, event, listening } from "./trace.ts";

let segment: Segment;
let stack: Stack;
let net: Net;

beforeAll(async () => {
  segment = await createSegment({ shared: false, portsMax: 2 });
  const tuning = { memoryBytes: 64 << 20, connectionsMax: 1024 };
  stack = await createStack({ device: segment.createCard(), address: ["10.7.0.2/24", "fd07::2/64"], seed: 1, tuning });
  net = createNet(stack);
});

afterAll(async () => {
  await stack.close({ drainMs: 0 });
  await segment.close();
});

const EVENTS = ["lookup", "connectionAttempt", "connectionAttemptFailed", "connectionAttemptTimeout", "connect"];
/** On the link, and nobody has it: neighbour discovery takes seconds. */
const SILENT = "fd07::99";

/** A name that has these addresses. */
function named(...addresses: readonly string[]) {
  const found: LookupAddress[] = addresses.map((address) => ({ address, family: nodeNet.isIP(address) }));
  const lookup: nodeNet.LookupFunction = (_host, { all }, done) => {
    if (all) setImmediate(done, null, found);
    else setImmediate(done, null, found[0]?.address ?? "", found[0]?.family);
  };
  return { host: "a.test", lookup };
}

/** @returns what has happened, event by event. */
function traced(socket: nodeNet.Socket): string[] {
  const lines: string[] = [];
  for (const name of EVENTS) {
    socket.on(name, (...args: unknown[]) => {
      const shown = args.filter((arg) => typeof arg === "string" && arg !== "a.test");
      const error = args.find((arg) => arg instanceof Error) as NodeJS.ErrnoException | undefined;
      lines.push([name, ...shown, ...(error ? [error.code] : [])].join(" "));
    });
  }
  socket.on("error", (error: NodeJS.ErrnoException) => lines.push(`error ${error.name} ${error.code}`));
  return lines;
}

async function withServer(host: string, run: (port: number) => Promise<void>): Promise<void> {
  const server = net.createServer((socket) => socket.resume());
  const port = await listening(server, host);
  try {
    await run(port);
  } finally {
    server.close();
  }
}

const attempted = (socket: nodeNet.Socket) =>
  (socket as nodeNet.Socket & { autoSelectFamilyAttemptedAddresses: string[] }).autoSelectFamilyAttemptedAddresses;

describe("a name with several addresses", () => {
  it("is tried address by address until one answers, families in turn", () =>
    withServer("127.0.0.1", async (port) => {
      const addresses = named("fd07::2", "::1", "fd07::2", "127.0.0.1", "10.7.0.2");
      const socket = net.connect({ port, ...addresses });
      const lines = traced(socket);
      await event(socket, "connect");
      expect(lines.filter((line) => !line.startsWith("lookup"))).toEqual([
        "connectionAttempt fd07::2",
        "connectionAttemptFailed fd07::2 ECONNREFUSED",
        "connectionAttempt 127.0.0.1",
        "connect",
      ]);
      expect(lines.filter((line) => line.startsWith("lookup"))).toHaveLength(5);
      expect(attempted(socket)).toEqual([`fd07::2:${port}`, `127.0.0.1:${port}`]);
      expect(socket.remoteAddress).toBe("127.0.0.1");
      socket.end();
      await closed(socket);
    }));

  it("goes on to the next when one is silent, and carries what was written meanwhile", async () => {
    const server = net.createServer((socket) => socket.pipe(socket));
    const port = await listening(server, "10.7.0.2");
    const socket = net.connect({ port, ...named(SILENT, "10.7.0.2"), autoSelectFamilyAttemptTimeout: 20 });
    const lines = traced(socket);
    socket.end("early");
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).toString()).toBe("early");
    expect(lines.slice(2)).toEqual([
      `connectionAttempt ${SILENT}`,
      `connectionAttemptTimeout ${SILENT}`,
      "connectionAttempt 10.7.0.2",
      "connect",
    ]);
    server.close();
  });

  it("fails with the errors of all when none answers", async () => {
    const socket = net.connect({ port: 9, ...named(SILENT, "127.0.0.1"), autoSelectFamilyAttemptTimeout: 20 });
    const lines = traced(socket);
    const error = (await event(socket, "error")) as AggregateError & { code: string };
    expect(lines.at(-1)).toBe("error AggregateError ETIMEDOUT");
    expect(error.errors.map(({ code, address }: { code: string; address: string }) => [code, address])).toEqual([
      ["ETIMEDOUT", SILENT],
      ["ECONNREFUSED", "127.0.0.1"],
    ]);
    expect(socket.destroyed).toBe(true);
  });

  it("is given up with the socket", async () => {
    const socket = net.connect({ port: 9, ...named(SILENT, "127.0.0.1"), autoSelectFamilyAttemptTimeout: 20 });
    const lines = traced(socket);
    await event(socket, "connectionAttempt");
    socket.destroy();
    await closed(socket);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(lines.slice(2)).toEqual([`connectionAttempt ${SILENT}`]);
  });

  it("is its first address where nothing is to be selected", async () => {
    for (const options of [{ autoSelectFamily: false }, { localAddress: "fd07::2" }]) {
      const socket = net.connect({ port: 9, ...named("::1", "127.0.0.1"), ...options });
      const lines = traced(socket);
      await event(socket, "error");
      expect(lines.at(-1)).toBe("error Error ECONNREFUSED");
      expect(lines.filter((line) => line.startsWith("connectionAttempt "))).toHaveLength(1);
    }
  });
});

it("addresses of families that the stack does not speak are left out, unless there are no others", () => {
  const found = [
    { address: "fd07::1", family: 6 },
    { address: "10.0.0.1", family: 4 },
    { address: "10.0.0.2", family: 4 },
  ];
  expect(alternateFamilies(found, 4).map(({ address }) => address)).toEqual(["10.0.0.1", "10.0.0.2"]);
  expect(alternateFamilies(found, 0).map(({ address }) => address)).toEqual(["fd07::1", "10.0.0.1", "10.0.0.2"]);
  expect(alternateFamilies(found.slice(0, 1), 4).map(({ address }) => address)).toEqual(["fd07::1"]);
});

it.each([
  ["0.0.0.0", "127.0.0.1"],
  ["::", "::1"],
])("the wildcard %s as a destination is the stack itself, as in Linux", (host, remote) =>
  withServer(host, async (port) => {
    const socket = net.connect(port, host);
    await event(socket, "connect");
    expect(socket.remoteAddress).toBe(remote);
    socket.end();
    await closed(socket);
  }),
);
