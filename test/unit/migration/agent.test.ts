/** Late frames that do not fit a message come in parts: they are processed whole, or not at all. */
import { describe, expect, it } from "vitest";
import type { KernelHost } from "../../../src/kernel/host.ts";
import { FRAME_QUEUE } from "../../../src/layout/frameRing.ts";
import { RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import { MigrationAgent } from "../../../src/migration/agent.ts";
import type { Carrier } from "../../../src/migration/carrier.ts";

const MEMORY_BYTES = RESULT_BASE + 65_536;
const AREA = RESULT_BASE + 1024;
const SHELF = RESULT_BASE + 2048;
const FRAME_BYTES = 40;
const PART_BYTES = 16;
const THIEF = 1;

type Part = { readonly bytes: Uint8Array; readonly offset: number; readonly total: number };

function frame(value: number): Uint8Array {
  const bytes = new Uint8Array(FRAME_BYTES).fill(value);
  bytes.set([THIEF, 0], FRAME_QUEUE);
  return bytes;
}

/** A kernel that has late frames, and shows those that come. */
class FakeKernel {
  readonly bytes = new Uint8Array(MEMORY_BYTES);
  readonly late: Uint8Array[] = [];
  readonly replayed: number[][] = [];
  readonly parts: Part[] = [];
  /** How many parts find room. */
  room = Number.POSITIVE_INFINITY;
  readonly agent: MigrationAgent;

  constructor() {
    const view = new DataView(this.bytes.buffer);
    const nothing = () => 0;
    const exports = {
      migrationReplay: (at: number) => this.replayed.push([...this.bytes.subarray(at, at + FRAME_BYTES)]),
      migrationLatePeek: () => {
        const [oldest] = this.late;
        if (!oldest) return 0;
        this.bytes.set(oldest, SHELF);
        view.setUint32(RESULT_BASE, oldest.length, true);
        return SHELF;
      },
      migrationLateDrop: () => void this.late.shift(),
      migrationReplayLate: () => this.late.splice(0, 1).length,
      stealDetour: nothing,
      migrationThaw: nothing,
      migrationDiscard: nothing,
      migrationSetGroup: nothing,
      migrationReplayHeld: nothing,
    };
    const memory = { bytes: this.bytes, loadU32: (at: number) => view.getUint32(at, true) };
    const host = { exports, memory, handles: { alloc: () => AREA }, requestTurn: nothing, nowNs: 0, kernelId: 0 };
    const carrier = {
      sameThread: false,
      pieceBytesMax: () => PART_BYTES,
      sendLate: (_to: number, bytes: Uint8Array, offset: number, total: number) => {
        if (this.room === 0) return false;
        this.room--;
        this.parts.push({ bytes: bytes.slice(), offset, total });
        return true;
      },
    };
    this.agent = new MigrationAgent(host as unknown as KernelHost, carrier as unknown as Carrier);
  }

  take(from: number, parts: readonly Part[]): void {
    for (const { bytes, offset, total } of parts) this.agent.takeLate(from, bytes, offset, total);
  }
}

function partsOf(value: number): Part[] {
  const sender = new FakeKernel();
  sender.late.push(frame(value));
  sender.agent.handle({ ask: "stealGone", move: 1 }, () => {});
  sender.agent.turn(0, false);
  return sender.parts;
}

describe("late frames in parts", () => {
  it("of two kernels come between each other", () => {
    const [a, b] = [partsOf(7), partsOf(8)];
    expect(a.length).toBe(3);
    const kernel = new FakeKernel();
    for (const [i, part] of a.entries()) {
      kernel.take(2, [part]);
      kernel.take(3, [b[i] as Part]);
      // Whoever else uses the kernel's area in between.
      kernel.bytes.fill(0, AREA, AREA + FRAME_BYTES);
    }
    expect(kernel.replayed).toEqual([[...frame(7)], [...frame(8)]]);
  });

  it("one that begins in the middle, or has a hole, is none", () => {
    const kernel = new FakeKernel();
    const [first, second, third] = partsOf(7) as [Part, Part, Part];
    kernel.take(2, [second, third, first, third]);
    expect(kernel.replayed).toEqual([]);
    kernel.take(2, [first, second, third]);
    expect(kernel.replayed).toEqual([[...frame(7)]]);
  });

  it("the next one is sent from its first byte, when the steal of the first is undone", () => {
    const sender = new FakeKernel();
    sender.late.push(frame(7), frame(8));
    sender.agent.handle({ ask: "stealGone", move: 1 }, () => {});
    sender.room = 1;
    sender.agent.turn(0, false);
    sender.agent.handle({ ask: "stealStay", move: 2 }, () => {});
    sender.room = Number.POSITIVE_INFINITY;
    sender.agent.turn(0, false);
    const kernel = new FakeKernel();
    kernel.take(2, sender.parts);
    expect(kernel.replayed).toEqual([[...frame(8)]]);
  });
});
