import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { KernelHost } from "../../../src/kernel/host.ts";
import type { EventSink } from "../../../src/kernel/host.ts";
import * as E from "../../../src/layout/event.ts";
import { INFO_REMOTE_PORT, INFO_STATE, STATE_ESTABLISHED } from "../../../src/layout/option.ts";
import { EAGAIN, EBADF } from "../../../src/layout/status.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import type { Stack } from "../../../src/types.ts";
import { createStackPair, type StackPair, testBytes } from "../../helpers/stacks.ts";

let pair: StackPair;
let client: KernelHost;
let server: KernelHost;
let nowNs: number;

beforeEach(async () => {
  pair = await createStackPair({ client: { drive: "manual" }, server: { drive: "manual", restart: false } });
  client = kernelOf(pair.client);
  server = kernelOf(pair.server);
  nowNs = 1e9;
});

afterEach(() => pair.close());

function kernelOf(stack: Stack): KernelHost {
  return stack.kernels[0] as KernelHost;
}

/** Turns until neither kernel has anything to do. */
function settle(): void {
  for (let turns = 0; turns < 1000; turns++) {
    nowNs += 1000;
    const busy = [client.turn(nowNs), server.turn(nowNs)];
    if (!busy.includes(true)) return;
  }
  throw new Error("the kernels do not come to rest");
}

/** Collects [handle, mask, status] of every event. */
function collect(host: KernelHost): number[][] {
  const events: number[][] = [];
  host.handles.onEvents((words, first, count) => {
    for (let i = 0, at = first; i < count; i++, at += E.EVENT_SIZE_BYTES / 4) {
      const maskAndStatus = words[at + 1] as number;
      events.push([words[at] as number, maskAndStatus & 0xffff, maskAndStatus >> 16]);
    }
  });
  return events;
}

describe("handle level", () => {
  it("opens, exchanges and closes with numbers only", () => {
    const events = collect(server);
    const listener = server.handles.listen(7);
    expect(listener >>> E.HANDLE_KIND_SHIFT).toBe(E.HANDLE_KIND_LISTENER);
    expect(server.handles.accept(listener)).toBe(EAGAIN);
    const active = client.handles.connect(parseAddress("10.7.0.2"), 7);
    settle();
    expect(events).toEqual([[listener, E.EVENT_ACCEPTABLE, 0]]);
    const passive = server.handles.accept(listener);
    const info = client.handles.info(active);
    expect(client.memory.loadU32(info + INFO_STATE)).toBe(STATE_ESTABLISHED);
    expect(client.memory.loadU32(info + INFO_REMOTE_PORT)).toBe(7);

    const source = client.handles.alloc(1000);
    client.handles.bytes.set(testBytes(1000), source);
    expect(client.handles.send(active, source, 1000)).toBe(1000);
    const room = client.handles.reserve(active, 24);
    expect(client.handles.available).toBeGreaterThanOrEqual(1);
    client.handles.bytes.fill(7, room, room + 1);
    expect(client.handles.commit(active, 1)).toBe(1);
    settle();
    expect(events.at(-1)).toEqual([passive, E.EVENT_READABLE, 0]);
    // In place, as far as it lies in one piece.
    const at = server.handles.peek(passive);
    const piece = server.handles.available;
    expect(piece).toBeGreaterThan(0);
    expect(server.handles.bytes.slice(at, at + piece)).toEqual(testBytes(1000).subarray(0, piece));
    expect(server.handles.consume(passive, piece)).toBe(0);
    const target = server.handles.alloc(2000);
    expect(server.handles.receive(passive, target, 2000)).toBe(1001 - piece);
    const rest = server.handles.bytes.subarray(target, target + 1001 - piece);
    expect([...rest]).toEqual([...testBytes(1000).subarray(piece), 7]);
    expect(server.handles.peek(passive)).toBe(0);
    expect(server.handles.available).toBe(0);

    client.handles.close(active);
    settle();
    expect((events.at(-1) as number[])[1]).toBe(E.EVENT_PEER_CLOSED);
    server.handles.close(passive);
    settle();
    expect(events.at(-1)).toEqual([passive, E.EVENT_CLOSED, 0]);
    expect(server.handles.send(passive, target, 1)).toBe(EBADF);
    expect(server.handles.close(passive)).toBe(EBADF);
    expect(server.handles.closeListener(listener)).toBe(0);
  });

  it("reports a refused connection as status of its event", () => {
    const events = collect(client);
    const active = client.handles.connect(parseAddress("10.7.0.2"), 9);
    settle();
    expect(events).toEqual([[active, E.EVENT_CLOSED | E.EVENT_ERROR, -111]]);
  });
});

describe("KernelHost", () => {
  it("gives events to the sink of exactly that handle, beside the handler", () => {
    const all = collect(server);
    const listener = server.handles.listen(7);
    const seen: number[] = [];
    const sink = (handle: number): EventSink => ({ handle, onEvent: (mask) => seen.push(mask) });
    const right = sink(listener);
    server.addSink(right);
    client.handles.connect(parseAddress("10.7.0.2"), 7);
    settle();
    expect(seen).toEqual([E.EVENT_ACCEPTABLE]);
    expect(all.length).toBe(1);
    server.removeSink(right);
    // The same index, an older generation: an event that is not for it.
    server.addSink(sink(listener ^ (1 << E.HANDLE_GENERATION_SHIFT)));
    client.handles.connect(parseAddress("10.7.0.2"), 7);
    settle();
    expect(seen.length).toBe(1);
    expect(all.length).toBe(2);
  });

  it("has nothing to do while the device takes nothing, until it takes something", () => {
    const socket = client.handles.udpBind(1000);
    const source = client.handles.alloc(1000);
    const send = () => client.handles.udpSend(socket, source, 1000, parseAddress("10.7.0.2"), 9);
    send();
    settle();
    // The server takes no turns: its lane fills, then our TX ring.
    for (let i = 0; i < 10_000 && (send() >= 0 || client.turn(nowNs)); i++);
    while (client.turn(nowNs));
    expect(client.transmitPending).toBe(true);
    expect(client.turn(nowNs)).toBe(false);
    expect(client.prepareSleep()).toBe(true);
    client.endSleep();
    server.turn(nowNs);
    expect(client.turn(nowNs)).toBe(true);
    for (let i = 0; i < 100 && client.transmitPending; i++) {
      server.turn(nowNs);
      client.turn(nowNs);
    }
    expect(client.transmitPending).toBe(false);
  });

  it("goes on after an exception of the application", () => {
    const errors: unknown[] = [];
    pair.server.on("error", (event) => errors.push(event));
    server.handles.listen(7);
    server.handles.onEvents(() => {
      throw new Error("the application's mistake");
    });
    client.handles.connect(parseAddress("10.7.0.2"), 7);
    settle();
    expect(server.failure).toBeUndefined();
    return expect.poll(() => errors).toMatchObject([{ error: { message: "the application's mistake" }, fatal: false }]);
  });

  it("is dead after a trap, which does not touch the other kernel", async () => {
    const errors: unknown[] = [];
    pair.server.on("error", (event) => errors.push(event));
    const listener = await pair.server.listen(7);
    const waiting = listener.accept();
    server.handles.onEvents(() => {
      // A write far outside the memory, from inside the kernel: the engine traps.
      const handle = server.handles.accept(listenerHandle);
      server.exports.tcpGetInfo(handle, 0xffffff00);
    });
    const listenerHandle = server.handles.listen(8);
    client.handles.connect(parseAddress("10.7.0.2"), 8);
    for (let i = 0; i < 20; i++) {
      nowNs += 1000;
      client.turn(nowNs);
      pair.server.turn(nowNs);
    }
    expect(server.failure).toMatchObject({ code: "ERR_KERNEL_TRAP" });
    expect(server.failure?.message).toMatch(/kernel 0 trapped at \d+ ns: .*out of bounds/);
    expect(await waiting).toBeUndefined();
    await expect.poll(() => errors).toMatchObject([{ kernelId: 0, fatal: true, error: { code: "ERR_KERNEL_TRAP" } }]);
    expect(pair.server.nextDeadlineNs()).toBe(Number.POSITIVE_INFINITY);
    expect(client.failure).toBeUndefined();
  });
});

it("a kernel whose stack is closed opens nothing any more", async () => {
  const pair = await createStackPair();
  const { handles } = pair.client.kernels[0] as KernelHost;
  await pair.close();
  const server = parseAddress("10.7.0.2");
  expect([
    handles.listen(80),
    handles.connect(server, 80),
    handles.udpBind(53),
    handles.udpBindToward(server, 53),
  ]).toEqual([EBADF, EBADF, EBADF, EBADF]);
  expect(await handles.connectAsync(server, 80)).toBe(EBADF);
});
