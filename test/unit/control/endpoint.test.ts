import { MessageChannel, receiveMessageOnPort } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { MESSAGE_HELD, OUTBOX_BYTES_MAX } from "../../../src/control/endpoint.ts";
import * as M from "../../../src/layout/message.ts";
import { MESSAGE_CONTROL_BASE, STATIC_DATA_BASE } from "../../../src/layout/kernelMemory.ts";
import { EAGAIN, EHOSTUNREACH, EMSGSIZE, OK } from "../../../src/layout/status.ts";
import { KernelMemory } from "../../../src/views/kernelMemory.ts";
import { MessageKernel, createMessageKernels } from "../../helpers/messageKernels.ts";

const bytes = (...values: number[]) => Uint8Array.from(values);
const pair = (options: { ringBytes?: number } = {}) =>
  createMessageKernels({ kernels: 2, ...options }) as [MessageKernel, MessageKernel];

describe("the layout", () => {
  it("lies between the TX ring's control and the static data", () => {
    expect(M.MESSAGE_AREA_END).toBeLessThanOrEqual(STATIC_DATA_BASE);
    expect(MESSAGE_CONTROL_BASE % 64).toBe(0);
    expect(M.MESSAGE_COUNTS_BASE % 8).toBe(0);
  });
});

describe("messages", () => {
  it("arrive after a flush, in order, with one doorbell for the batch", () => {
    const [a, b] = pair();
    for (let i = 1; i <= 5; i++) expect(a.endpoint.send(1, 1, 1, i, bytes(i, i))).toBe(OK);
    expect(b.endpoint.poll()).toBe(0);
    a.endpoint.flush();
    a.endpoint.flush();
    expect(b.rings).toBe(1);
    expect(b.endpoint.pending).toBe(true);
    expect(b.endpoint.poll()).toBe(5);
    expect(b.received.map(({ correlation }) => correlation)).toEqual([1, 2, 3, 4, 5]);
    expect(b.received[4]).toEqual({ from: 0, correlation: 5, payload: [5, 5] });
    expect(b.endpoint.pending).toBe(false);
    expect(a.count(M.MESSAGE_COUNTS_SENT + 1)).toBe(5);
    expect(b.count(M.MESSAGE_COUNTS_RECEIVED + 1)).toBe(5);
  });

  it("are not lost when the receiver is named again before they are published", () => {
    const [a, b] = createMessageKernels({ kernels: 2, shared: true }) as [MessageKernel, MessageKernel];
    expect(a.endpoint.send(1, 1, 1, 7, bytes(1))).toBe(OK);
    // As a thread is told of a kernel once more: the memory is the same, the object is not.
    const { memory } = b.memory;
    const again = { kernelId: 1, life: 0, memory: new KernelMemory({ buffer: memory.buffer } as WebAssembly.Memory) };
    a.endpoint.connect({ ...again, ring: () => {} });
    a.endpoint.flush();
    expect(b.endpoint.poll()).toBe(1);
  });

  it("are handled up to a bound per poll, and no sender is left out", () => {
    const [a, b, c] = createMessageKernels({ kernels: 3 }) as [MessageKernel, MessageKernel, MessageKernel];
    for (let i = 1; i <= 20; i++) a.endpoint.send(2, 1, 1, i);
    for (let i = 1; i <= 4; i++) b.endpoint.send(2, 1, 1, i);
    a.endpoint.flush();
    b.endpoint.flush();
    expect(c.endpoint.poll(8)).toBe(8);
    expect(c.endpoint.pending).toBe(true);
    expect(c.endpoint.poll(8)).toBe(8);
    expect(c.received.filter(({ from }) => from === 1)).toHaveLength(4);
    expect(c.endpoint.poll(8)).toBe(8);
    expect(c.endpoint.poll(8)).toBe(0);
    expect(c.endpoint.pending).toBe(false);
  });

  it("that have not been flushed, or wait for room, are not lost when a view names their receiver again", () => {
    const [a, b] = createMessageKernels({ kernels: 2, ringBytes: 4096, shared: true }) as [
      MessageKernel,
      MessageKernel,
    ];
    const { port1, port2 } = new MessageChannel();
    // As it comes to another thread: the same memory, another object.
    port1.postMessage(b.memory.memory);
    const memory = receiveMessageOnPort(port2)?.message as WebAssembly.Memory;
    expect(memory).not.toBe(b.memory.memory);
    for (const end of [port1, port2]) end.close();
    const payload = new Uint8Array(1000);
    for (let i = 1; i <= 8; i++) a.endpoint.send(1, 1, 1, i, payload);
    a.endpoint.connect({ kernelId: 1, life: 0, memory: new KernelMemory(memory), ring: () => {} });
    for (let rounds = 0; b.received.length < 8 && rounds < 10; rounds++) {
      a.endpoint.poll();
      a.endpoint.flush();
      b.endpoint.poll();
    }
    expect(b.received.map(({ correlation }) => correlation)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(a.count(M.MESSAGE_COUNT_ABANDONED)).toBe(0);
  });

  it("to itself need no ring, and come with the next poll", () => {
    const [a] = pair();
    a.endpoint.send(0, 1, 1, 9, bytes(7));
    expect(a.received).toEqual([]);
    expect(a.endpoint.poll()).toBe(1);
    expect(a.received).toEqual([{ from: 0, correlation: 9, payload: [7] }]);
  });

  it("wait in order when the ring is full, and go on when the receiver has made room", () => {
    const [a, b] = pair({ ringBytes: 4096 });
    const payload = new Uint8Array(1000);
    const results = Array.from({ length: 10 }, (_, i) => a.endpoint.send(1, 1, 1, i + 1, payload));
    expect(results).toEqual([OK, OK, OK, OK, ...new Array(6).fill(MESSAGE_HELD)].map((r, i) => (i < 4 ? OK : r)));
    a.endpoint.flush();
    expect(a.endpoint.pending).toBe(false);
    let rings = a.rings;
    for (let rounds = 0; b.received.length < 10 && rounds < 10; rounds++) {
      b.endpoint.poll();
      if (b.received.length < 10) expect(a.rings).toBe(++rings);
      a.endpoint.poll();
    }
    expect(b.received.map(({ correlation }) => correlation)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(a.count(M.MESSAGE_COUNT_HELD)).toBe(6);
    expect(a.count(M.MESSAGE_COUNTS_SENT + 1)).toBe(10);
  });

  it("are refused, and the caller told, when too much waits", () => {
    const [a, b] = pair();
    const payload = new Uint8Array(2000);
    let taken = 0;
    while (a.endpoint.send(1, 1, 1, taken + 1, payload) !== EAGAIN) taken++;
    expect(taken).toBeGreaterThan(OUTBOX_BYTES_MAX / 2100);
    expect(a.count(M.MESSAGE_COUNT_REFUSED)).toBe(1);
    a.endpoint.flush();
    for (let rounds = 0; b.received.length < taken && rounds < 2000; rounds++) {
      b.endpoint.poll();
      a.endpoint.poll();
    }
    expect(b.received).toHaveLength(taken);
    expect(a.endpoint.send(1, 1, 1, 1, payload)).toBe(OK);
  });

  it("that can never fit are refused at once; those for nobody too", () => {
    const [a] = pair({ ringBytes: 4096 });
    const max = a.endpoint.payloadBytesMax(1);
    expect(max).toBe(2048 - 16);
    expect(a.endpoint.send(1, 1, 1, 0, new Uint8Array(max))).toBe(OK);
    expect(a.endpoint.send(1, 1, 1, 0, new Uint8Array(max + 1))).toBe(EMSGSIZE);
    expect(a.endpoint.send(5, 1, 1, 0)).toBe(EHOSTUNREACH);
    expect(a.endpoint.payloadBytesMax(5)).toBe(0);
  });

  it("of an unknown type or version are counted and ignored; a handler that throws is reported", () => {
    const [a, b] = pair();
    b.endpoint.on(2, 1, () => {
      throw new Error("handler");
    });
    a.endpoint.send(1, 9, 1, 0);
    a.endpoint.send(1, 1, 2, 0);
    a.endpoint.send(1, 2, 1, 0);
    a.endpoint.send(1, 1, 1, 3);
    a.endpoint.flush();
    expect(b.endpoint.poll()).toBe(4);
    expect(b.count(M.MESSAGE_COUNT_UNKNOWN)).toBe(2);
    expect(b.errors).toEqual([new Error("handler")]);
    expect(b.received).toHaveLength(1);
  });
});

describe("kernels that come and go", () => {
  it("get what was sent before they had booted", () => {
    const a = new MessageKernel(0, { kernels: 2 });
    const b = new MessageKernel(1, { kernels: 2, booted: false });
    a.connect(b);
    a.endpoint.poll();
    expect(a.endpoint.send(1, 1, 1, 1)).toBe(MESSAGE_HELD);
    a.endpoint.flush();
    expect(a.endpoint.pending).toBe(false);
    b.bootRings();
    b.connect(a);
    b.endpoint.poll();
    expect(a.rings).toBe(1);
    a.endpoint.poll();
    expect(b.endpoint.poll()).toBe(1);
  });

  it("may send before the receiver knows them: it waits until it does", () => {
    const [a, b] = [new MessageKernel(0, { kernels: 2 }), new MessageKernel(1, { kernels: 2 })];
    a.connect(b);
    a.endpoint.send(1, 1, 1, 1);
    a.endpoint.flush();
    expect(b.endpoint.poll()).toBe(0);
    b.connect(a);
    expect(b.endpoint.poll()).toBe(1);
  });

  it("of a later life are waited for; what an earlier life has sent is ignored", () => {
    const [a, b] = pair();
    a.endpoint.send(1, 1, 1, 1);
    a.endpoint.flush();
    // Kernel 0 dies, and comes back; kernel 1 hears of it late.
    const again = new MessageKernel(0, { kernels: 2, life: 1 });
    again.connect(b);
    again.endpoint.send(1, 1, 1, 2);
    again.endpoint.flush();
    b.endpoint.poll();
    expect(b.received.map(({ correlation }) => correlation)).toEqual([1]);
    b.endpoint.disconnect(0);
    b.connect(again);
    b.endpoint.poll();
    expect(b.received.map(({ correlation }) => correlation)).toEqual([1, 2]);
  });

  it("leave behind nothing that waits for them", () => {
    const [a, b] = pair();
    for (let i = 0; i < 10; i++) a.endpoint.send(1, 1, 1, 1, new Uint8Array(1000));
    a.endpoint.disconnect(1);
    expect(a.count(M.MESSAGE_COUNT_ABANDONED)).toBe(6);
    expect(a.endpoint.isConnected(1)).toBe(false);
    a.endpoint.flush();
    expect(b.endpoint.poll()).toBe(0);
  });

  it("of an earlier life are counted when their records are met", () => {
    const [a, b] = pair();
    a.endpoint.send(1, 1, 1, 1);
    a.endpoint.flush();
    b.endpoint.disconnect(0);
    const again = new MessageKernel(0, { kernels: 2, life: 1 });
    b.connect(again);
    again.connect(b);
    again.endpoint.send(1, 1, 1, 2);
    again.endpoint.flush();
    b.endpoint.poll();
    expect(b.received.map(({ correlation }) => correlation)).toEqual([2]);
    expect(b.count(M.MESSAGE_COUNT_STALE)).toBe(1);
  });
});
