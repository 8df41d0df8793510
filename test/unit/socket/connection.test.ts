import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NetPopcornError } from "../../../src/errors.ts";
import type { Connection } from "../../../src/socket/connection.ts";
import type { Listener } from "../../../src/socket/listener.ts";
import { createStackPair, readAll, type StackPair, testBytes, writeAll } from "../../helpers/stacks.ts";

const MIB = 1 << 20;

let pair: StackPair;
let listener: Listener;

beforeAll(async () => {
  pair = await createStackPair();
  listener = await pair.server.listen(7);
});

afterAll(() => pair.close());

async function connectPair(): Promise<{ client: Connection; server: Connection }> {
  const [client, server] = await Promise.all([
    pair.client.connect({ address: "10.7.0.2", port: 7 }),
    listener.accept(),
  ]);
  if (!server) throw new Error("the listener was closed");
  return { client, server };
}

describe("Connection", () => {
  it("carries bytes both ways, equal and in order", async () => {
    const { client, server } = await connectPair();
    const up = testBytes(3 * MIB, 1);
    const down = testBytes(2 * MIB, 2);
    const [atServer, atClient] = await Promise.all([
      readAll(server.readable),
      readAll(client.readable),
      writeAll(client, up.subarray(0, 1), up.subarray(1, MIB), up.subarray(MIB)),
      writeAll(server, down),
    ]);
    expect(Buffer.compare(atServer, up)).toBe(0);
    expect(Buffer.compare(atClient, down)).toBe(0);
    await Promise.all([client.closed, server.closed]);
  });

  it("knows both ends", async () => {
    const { client, server } = await connectPair();
    expect(client.remoteAddress).toBe("10.7.0.2");
    expect(client.remotePort).toBe(7);
    expect(client.localAddress).toBe("10.7.0.1");
    expect(server.localAddress).toBe("10.7.0.2");
    expect(server.remotePort).toBe(client.localPort);
    expect(client.info()).toMatchObject({ state: "ESTABLISHED", sndMssBytes: 1448 });
    client.setNoDelay();
    client.setKeepAlive();
    client.abort();
    await expect(client.closed).rejects.toMatchObject({ code: "ECONNABORTED" });
    expect(() => client.info()).toThrow(expect.objectContaining({ code: "EBADF" }));
    expect(client.remotePort).toBe(7);
  });

  it("closes each direction for itself", async () => {
    const { client, server } = await connectPair();
    // The client has said all it has to say, and goes on listening.
    await writeAll(client, testBytes(100, 3));
    expect(await readAll(server.readable)).toEqual(testBytes(100, 3));
    expect(server.info().state).toBe("CLOSE_WAIT");
    await expect.poll(() => client.info().state).toBe("FIN_WAIT_2");
    await writeAll(server, testBytes(MIB, 4));
    expect(Buffer.compare(await readAll(client.readable), testBytes(MIB, 4))).toBe(0);
    await Promise.all([client.closed, server.closed]);
  });

  it("delivers bytes and end that came before the application accepted", async () => {
    const client = await pair.client.connect({ address: "10.7.0.2", port: 7 });
    await writeAll(client, testBytes(10, 5));
    await new Promise((resolve) => setTimeout(resolve, 20));
    const server = (await listener.accept()) as Connection;
    expect(await readAll(server.readable)).toEqual(testBytes(10, 5));
    await writeAll(server);
    await readAll(client.readable);
    await Promise.all([client.closed, server.closed]);
  });

  it("stops a sender whose peer does not read, and loses nothing", async () => {
    const { client, server } = await connectPair();
    const chunk = testBytes(64 * 1024, 6);
    const total = 64 * MIB;
    let written = 0;
    const writing = (async () => {
      const writer = client.writable.getWriter();
      while (written < total) {
        await writer.write(chunk.slice());
        written += chunk.length;
      }
      await writer.close();
    })();
    // Until the buffers at both ends are full, and then some.
    for (let before = -1; before !== written || client.info().sndWnd >= chunk.length; ) {
      before = written;
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    expect(written).toBeGreaterThan(chunk.length);
    expect(written).toBeLessThan(total);
    expect(client.info().sndWnd).toBeLessThan(chunk.length);
    let received = 0;
    let differing = 0;
    for await (const bytes of server.readable) {
      for (let i = 0; i < bytes.length; i += 997) {
        if (bytes[i] !== chunk[(received + i) % chunk.length]) differing++;
      }
      received += bytes.length;
    }
    await writing;
    expect(received).toBe(total);
    expect(differing).toBe(0);
    await writeAll(server);
    await readAll(client.readable);
  }, 120_000);

  it("fills a reader's own buffer", async () => {
    const { client, server } = await connectPair();
    await writeAll(client, testBytes(5000, 7));
    const reader = server.readable.getReader({ mode: "byob" });
    const collected: number[] = [];
    for (;;) {
      const { value, done } = await reader.read(new Uint8Array(777));
      if (value) collected.push(...value);
      if (done) break;
      expect(value.length).toBeLessThanOrEqual(777);
    }
    expect(Uint8Array.from(collected)).toEqual(testBytes(5000, 7));
    await server.close();
  });

  it("takes any kind of buffer, and says so when given something else", async () => {
    const { client, server } = await connectPair();
    const writer = client.writable.getWriter();
    await writer.write(Uint16Array.of(0x0201, 0x0403));
    await writer.write(Uint8Array.of(5, 6).buffer);
    await writer.write(new Uint8Array(0));
    await expect(writer.write("text" as unknown as BufferSource)).rejects.toMatchObject({
      code: "ERR_INVALID_ARG_TYPE",
    });
    const reader = server.readable.getReader();
    const first = (await reader.read()).value as Uint8Array;
    expect([...first]).toEqual([1, 2, 3, 4, 5, 6].slice(0, first.length));
    server.abort();
  });

  it("fails both streams and closed when the peer resets", async () => {
    const { client, server } = await connectPair();
    const reading = client.readable.getReader().read();
    const writer = client.writable.getWriter();
    server.abort(new Error("enough"));
    await expect(reading).rejects.toMatchObject({ code: "ECONNRESET" });
    await expect(writer.closed).rejects.toMatchObject({ code: "ECONNRESET" });
    await expect(client.closed).rejects.toMatchObject({ code: "ECONNRESET" });
    await expect(server.closed).rejects.toThrow("enough");
    await expect(server.readable.getReader().read()).rejects.toThrow("enough");
  });

  it("gives what came before a reset to one that reads only then, and after it the error", async () => {
    const { client, server } = await connectPair();
    const data = testBytes(200_000, 7);
    await writeAll(server, data);
    await expect.poll(() => client.info().rcvQueuedBytes).toBe(data.length);
    server.abort();
    await expect(client.closed).rejects.toMatchObject({ code: "ECONNRESET" });
    // The peer's FIN was there before its RST.
    expect(await readAll(client.readable)).toEqual(data);
    await expect(client.writable.getWriter().write(new Uint8Array(1))).rejects.toMatchObject({ code: "ECONNRESET" });
  });

  it.each(["chunks", "byob"])("likewise without the peer's end: %s, then the error", async (how) => {
    const { client, server } = await connectPair();
    const data = testBytes(3000, 7);
    await server.writable.getWriter().write(data);
    await expect.poll(() => client.info().rcvQueuedBytes).toBe(data.length);
    server.abort();
    await expect(client.closed).rejects.toMatchObject({ code: "ECONNRESET" });
    const reader = client.readable.getReader(how === "byob" ? { mode: "byob" } : (undefined as never));
    const got: Uint8Array[] = [];
    for (let bytes = 0; bytes < data.length; bytes += got.at(-1)?.length ?? 0) {
      got.push((await reader.read(new Uint8Array(999))).value as Uint8Array);
    }
    expect(new Uint8Array(Buffer.concat(got))).toEqual(data);
    await expect(reader.read(new Uint8Array(999))).rejects.toMatchObject({ code: "ECONNRESET" });
  });

  it.each(["abort", "writable.abort", "lost"])("%s with unread bytes before the peer's end is no end", async (how) => {
    const own = await createStackPair();
    const listening = await own.server.listen(7);
    const opening = own.client.connect({ address: "10.7.0.2", port: 7 });
    const [client, server] = await Promise.all([opening, listening.accept() as Promise<Connection>]);
    await writeAll(server, testBytes(200_000, 7));
    await expect.poll(() => client.info().state).toBe("CLOSE_WAIT");
    const reader = client.readable.getReader();
    expect((await reader.read()).value?.length).toBeLessThan(200_000);
    const reason = new NetPopcornError("ECONNABORTED", "too slow");
    if (how === "abort") client.abort(reason);
    else if (how === "lost") client.lost(reason);
    else await client.writable.abort(reason);
    await expect(reader.read()).rejects.toThrow("too slow");
    await own.close();
  });

  it("fails at once, and reads no more, when this side aborts", async () => {
    const { client, server } = await connectPair();
    await server.writable.getWriter().write(testBytes(3000, 7));
    await expect.poll(() => client.info().rcvQueuedBytes).toBe(3000);
    client.abort(new Error("enough"));
    await expect(client.readable.getReader().read()).rejects.toThrow("enough");
  });

  it("resets through writable.abort(), even with a write that waits", async () => {
    const { client, server } = await connectPair();
    const writer = client.writable.getWriter();
    const stuck = writer.write(new Uint8Array(32 * MIB));
    stuck.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 30));
    await writer.abort(new Error("gave up"));
    await expect(stuck).rejects.toThrow("gave up");
    await expect(server.closed).rejects.toMatchObject({ code: "ECONNRESET" });
  });

  it("resets when it lets go of bytes that were never read (RFC 2525 2.17)", async () => {
    const { client, server } = await connectPair();
    await writeAll(client, testBytes(100, 8));
    await new Promise((resolve) => setTimeout(resolve, 20));
    await server.close();
    await expect(client.closed).rejects.toMatchObject({ code: "ECONNRESET" });
  });

  it("throws away what arrives after cancel, and ends when the other direction is closed", async () => {
    const { client, server } = await connectPair();
    await server.readable.cancel();
    // Far more than the buffers hold: somebody must be taking it.
    await writeAll(client, testBytes(8 * MIB, 9));
    await expect.poll(() => server.info().state).toBe("CLOSE_WAIT");
    await writeAll(server, testBytes(10, 10));
    expect(await readAll(client.readable)).toEqual(testBytes(10, 10));
    await Promise.all([client.closed, server.closed]);
  });

  it("tells a peer that goes on sending when both directions are let go", async () => {
    const { client, server } = await connectPair();
    await Promise.all([server.readable.cancel(), server.writable.close()]);
    const writer = client.writable.getWriter();
    const sending = (async () => {
      for (;;) await writer.write(testBytes(10_000));
    })();
    await expect(sending).rejects.toMatchObject({ code: "ECONNRESET" });
  });

  it("works with await using", async () => {
    const { client, server } = await connectPair();
    {
      await using held = client;
      expect(held.localPort).toBeGreaterThan(0);
      // An orderly close needs both: this one when the client's FIN has come.
      readAll(server.readable).then(() => writeAll(server));
    }
    await expect(client.closed).resolves.toBeUndefined();
    await server.closed;
  });

  it("is released in the kernel when it is over", async () => {
    const before = (await pair.server.stats()).total;
    const { client, server } = await connectPair();
    await Promise.all([writeAll(client), writeAll(server), readAll(client.readable), readAll(server.readable)]);
    await Promise.all([client.closed, server.closed]);
    const after = (await pair.server.stats()).total;
    const live = (counters: typeof after) => (counters.gaugeConnections ?? 0) - (counters.gaugeTimeWait ?? 0);
    expect(live(after)).toBe(live(before));
    expect(after.tcpAccepted).toBe((before.tcpAccepted ?? 0) + 1);
  });
});

describe("connect", () => {
  it("is refused where nobody listens", async () => {
    await expect(pair.client.connect({ address: "10.7.0.2", port: 8 })).rejects.toMatchObject({
      code: "ECONNREFUSED",
      errno: -111,
    });
  });

  it("has no route without a gateway", async () => {
    await expect(pair.client.connect({ address: "192.0.2.1", port: 80 })).rejects.toMatchObject({
      code: "ENETUNREACH",
    });
  });

  it("fails when no host has the address", async () => {
    const impatient = await createStackPair({ client: { tuning: { rtoInitialUs: 50_000, synRetriesMax: 1 } } });
    const connecting = impatient.client.connect({ address: "10.7.0.77", port: 80 });
    await expect(connecting).rejects.toMatchObject({ code: expect.stringMatching(/^(EHOSTUNREACH|ETIMEDOUT)$/) });
    await impatient.close();
  });

  it.each([
    [{ address: "10.7.0.2", port: 0 }, "ERR_OPTION_RANGE"],
    [{ address: "10.7.0.2", port: 65536 }, "ERR_OPTION_RANGE"],
    [{ address: "server", port: 80 }, "ERR_ADDRESS_FORMAT"],
    [{ address: "10.7.0.2", port: 80, localPort: -1 }, "ERR_OPTION_RANGE"],
    [{ address: "10.7.0.2", port: 80, localAddress: "10.7.0.9" }, "EADDRNOTAVAIL"],
  ])("refuses %j with %s", async (options, code) => {
    await expect(pair.client.connect(options)).rejects.toMatchObject({ code });
  });

  it("uses the local port that is asked for, once", async () => {
    const options = { address: "10.7.0.2", port: 7, localPort: 12345 };
    const client = await pair.client.connect(options);
    expect(client.localPort).toBe(12345);
    await expect(pair.client.connect(options)).rejects.toMatchObject({ code: "EADDRINUSE" });
    (await listener.accept())?.abort();
    await expect(client.closed).rejects.toMatchObject({ code: "ECONNRESET" });
  });

  it("gives up when its signal is aborted, before and during the handshake", async () => {
    const done = AbortSignal.abort(new Error("too late"));
    await expect(pair.client.connect({ address: "10.7.0.2", port: 7, signal: done })).rejects.toThrow("too late");
    const controller = new AbortController();
    const connecting = pair.client.connect({ address: "10.7.0.78", port: 7, signal: controller.signal });
    setTimeout(() => controller.abort(new Error("changed my mind")), 20);
    await expect(connecting).rejects.toThrow("changed my mind");
  });
});
