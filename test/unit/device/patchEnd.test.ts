import { describe, expect, it } from "vitest";
import type { DevicePort } from "../../../src/device/device.ts";
import { PatchEnd, PatchRings } from "../../../src/device/steered/patchEnd.ts";
import type { FrameRing } from "../../../src/views/frameRing.ts";
import { pattern } from "../../helpers/packets.ts";

const FRAME_BYTES = 1500;

/** A port that brings `frames` and sends as much as it is let. */
class StandInPort implements DevicePort {
  readonly sent: Uint8Array[] = [];
  frames: Uint8Array[] = [];
  sendMax = Number.POSITIVE_INFINITY;
  arms = 0;
  readonly #lanes: readonly FrameRing[];
  readonly #tx: FrameRing;

  constructor(lanes: readonly FrameRing[], tx: FrameRing) {
    this.#lanes = lanes;
    this.#tx = tx;
  }

  receive(): number {
    let brought = 0;
    while (this.frames.length > 0 && this.#lanes[brought % this.#lanes.length]?.push(this.frames[0] as Uint8Array)) {
      this.frames.shift();
      brought++;
    }
    return brought;
  }

  transmit(): number {
    const before = this.sent.length;
    while (this.sent.length - before < this.sendMax) {
      const frame = this.#tx.shift();
      if (!frame) break;
      this.sent.push(frame);
    }
    return this.sent.length - before;
  }

  nextDeadlineNs(): number {
    return Number.POSITIVE_INFINITY;
  }

  arm(): boolean {
    this.arms++;
    return true;
  }

  close(): void {}
}

/** Two ends with `lanes` lanes each; one lane is the other's TX ring. */
function patch(lanes: number) {
  const [a, b] = [new PatchRings(lanes, false), new PatchRings(lanes, false)];
  const [toA, toB] = lanes === 1 ? [b.lanes[0], a.lanes[0]] : [a.tx, b.tx];
  const connect = (rings: PatchRings, tx: FrameRing, target: FrameRing) => {
    const pair = rings.pair(() => {}, tx);
    const port = new StandInPort(pair.rx, tx);
    return { port, end: new PatchEnd({ rings, port, tx, target: lanes === 1 ? undefined : target, spinUs: 0 }) };
  };
  return [connect(a, toA as FrameRing, toB as FrameRing), connect(b, toB as FrameRing, toA as FrameRing)] as const;
}

describe.each([1, 3])("a patch of ends with %i lanes", (lanes) => {
  it("carries every frame both ways, also when an end is slow", () => {
    const [a, b] = patch(lanes);
    const frames = Array.from({ length: 5000 }, (_, i) => pattern(60 + ((i * 37) % FRAME_BYTES), i));
    a.port.frames = frames.slice();
    b.port.frames = frames.slice();
    b.port.sendMax = 7;
    let turns = 0;
    for (; turns < 5000; turns++) {
      const busy = [a.end.turn(0), b.end.turn(0)];
      if (!busy.includes(true)) break;
    }
    expect(turns).toBeLessThan(5000);
    for (const { port } of [a, b]) {
      const text = (frame: Uint8Array) => Buffer.from(frame).toString("latin1");
      expect(port.sent.map(text).sort()).toEqual(frames.map(text).sort());
    }
    expect([a.end.prepareSleep(), b.end.prepareSleep()]).toEqual([true, true]);
  });

  it("does not sleep over frames that have come since", () => {
    const [a, b] = patch(lanes);
    expect([a.end.turn(0), b.end.turn(0)]).toEqual([false, false]);
    a.port.frames = [pattern(100)];
    a.port.receive();
    const mayAllSleep = () => [a.end.prepareSleep(), b.end.prepareSleep()].every((may) => may);
    expect(mayAllSleep()).toBe(false);
    for (let i = 0; i < 3; i++) for (const { end } of [a, b]) end.turn(0);
    expect(b.port.sent).toEqual([pattern(100)]);
    expect(mayAllSleep()).toBe(true);
  });
});

describe("an end whose frames nobody takes", () => {
  it("does not arm its port until there is room again", () => {
    const [a, b] = patch(1);
    a.port.frames = Array.from({ length: 2000 }, () => pattern(FRAME_BYTES));
    b.port.sendMax = 0;
    for (let i = 0; i < 3; i++) for (const { end } of [a, b]) end.turn(0);
    expect(b.end.transmitPending).toBe(true);
    expect([a.end.prepareSleep(), b.end.prepareSleep(), a.port.arms]).toEqual([true, true, 0]);
    b.port.sendMax = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 9; i++) for (const { end } of [a, b]) end.turn(0);
    expect(b.port.sent.length).toBe(2000);
    expect([a.end.prepareSleep(), a.port.arms]).toEqual([true, 1]);
  });
});
