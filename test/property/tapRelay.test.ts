/** The mailbox by which frames for all kernels come, against a plain queue. */
import fc from "../helpers/property.ts";
import { expect, test } from "vitest";
import { Mailbox, RELAY_FRAME_BYTES_MAX } from "../../src/device/tap/relay.ts";

const SLOTS = 64;

test("a mailbox is a queue of 64 frames that refuses the 65th", () => {
  const frame = fc.uint8Array({ maxLength: RELAY_FRAME_BYTES_MAX });
  const step = fc.oneof(fc.array(frame, { maxLength: 90 }), fc.constant("drain" as const));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const producer = new Mailbox();
      const consumer = new Mailbox(producer.buffer);
      let model: number[][] = [];
      for (const each of steps) {
        if (each === "drain") {
          const taken: number[][] = [];
          consumer.drain((bytes) => taken.push([...bytes]));
          expect(taken).toEqual(model);
          model = [];
        } else {
          for (const bytes of each) {
            expect(producer.put(bytes)).toBe(model.length < SLOTS);
            if (model.length < SLOTS) model.push([...bytes]);
          }
        }
        expect(consumer.isEmpty).toBe(model.length === 0);
      }
    }),
  );
});
