import fc from "../helpers/property.ts";
import { expect, test } from "vitest";
import { RING_HEAD, RING_TAIL } from "../../src/layout/frameRing.ts";
import { MESSAGE_CONTROL_BASE, STATIC_DATA_BASE } from "../../src/layout/kernelMemory.ts";
import { MESSAGE_CONTROL_SIZE_BYTES } from "../../src/layout/message.ts";
import { createMessageKernels, type MessageKernel } from "../helpers/messageKernels.ts";

const KERNELS = 3;
const RING_BYTES = 4096;

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("send" as const), from: fc.nat(2), to: fc.nat(2), bytes: fc.nat(2032) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("flush" as const), from: fc.nat(2) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("poll" as const), from: fc.nat(2), max: fc.integer({ min: 1, max: 9 }) }),
  },
);

test("whatever is sent arrives once, whole and in order, however rings fill and kernels poll", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.nat(0xffffffff), (steps, origin) => {
      const kernels = createMessageKernels({ kernels: KERNELS, ringBytes: RING_BYTES });
      // Counters run freely: they may wrap at any time.
      for (const { memory } of kernels) startAt(memory.words, origin);
      const sent: number[][][] = kernels.map(() => kernels.map(() => []));
      let number = 0;
      for (const action of steps) {
        const { endpoint } = kernels[action.from] as MessageKernel;
        if (action.do === "flush") endpoint.flush();
        else if (action.do === "poll") endpoint.poll(action.max);
        else if (endpoint.send(action.to, 1, 1, ++number, new Uint8Array(action.bytes).fill(number)) >= 0) {
          sent[action.to]?.[action.from]?.push(number);
        }
      }
      for (let quiet = 0; quiet < 3; ) {
        const worked = kernels.map(({ endpoint }) => endpoint.poll());
        for (const { endpoint } of kernels) endpoint.flush();
        quiet = worked.some((handled) => handled > 0) ? 0 : quiet + 1;
      }
      for (const [to, { received, errors, endpoint }] of kernels.entries()) {
        expect(errors).toEqual([]);
        expect(endpoint.pending).toBe(false);
        for (let from = 0; from < KERNELS; from++) {
          const got = received.filter((message) => message.from === from);
          expect(got.map(({ correlation }) => correlation)).toEqual(sent[to]?.[from]);
          for (const { correlation, payload } of got)
            expect(payload.every((b) => b === (correlation & 255))).toBe(true);
        }
      }
    }),
    { numRuns: 150 },
  );
});

test("a ring with anything in it neither throws nor blocks: the kernel goes on with what comes after", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 512 }),
      fc.nat(0xffffffff),
      fc.nat(0xffffffff),
      (junk, tail, head) => {
        const [a, b] = createMessageKernels({ kernels: 2, ringBytes: RING_BYTES }) as [MessageKernel, MessageKernel];
        const { bytes, words } = b.memory;
        for (let at = 0; at < RING_BYTES; at++) bytes[STATIC_DATA_BASE + at] = junk[at % junk.length] as number;
        words[(MESSAGE_CONTROL_BASE + RING_TAIL) >> 2] = tail & -16;
        words[(MESSAGE_CONTROL_BASE + RING_HEAD) >> 2] = head & -16;
        b.endpoint.connect({ kernelId: 0, life: 0, memory: a.memory, ring: () => {} });
        for (let polls = 0; polls < 300; polls++) b.endpoint.poll();
        expect(b.errors).toEqual([]);
        // A new life of the sender begins where the ring was left.
        b.endpoint.disconnect(0);
        words[(MESSAGE_CONTROL_BASE + RING_HEAD) >> 2] = words[(MESSAGE_CONTROL_BASE + RING_TAIL) >> 2] as number;
        const [fresh] = createMessageKernels({ kernels: 2, ringBytes: RING_BYTES, life: 7 }) as [MessageKernel];
        fresh.connect(b);
        b.connect(fresh);
        const before = b.received.length;
        fresh.endpoint.send(1, 1, 1, 42);
        fresh.endpoint.flush();
        b.endpoint.poll();
        expect(b.received.slice(before)).toEqual([{ from: 0, correlation: 42, payload: [] }]);
      },
    ),
    { numRuns: 300 },
  );
});

function startAt(words: Int32Array, origin: number): void {
  for (let sender = 0; sender < KERNELS; sender++) {
    const control = MESSAGE_CONTROL_BASE + sender * MESSAGE_CONTROL_SIZE_BYTES;
    words[(control + RING_TAIL) >> 2] = origin & -16;
    words[(control + RING_HEAD) >> 2] = origin & -16;
  }
}
