/**
 * Goal: TCP_INFO's sums of bytes are right beyond 2^32, wherever the sequence numbers began and however they moved.
 * Method: SND.UNA and RCV.NXT of one connection move on by random amounts; the record's sums against plain additions.
 */
import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { TCP_PROBE_BUILDS, createTcpProbe } from "../helpers/probeTcp.ts";

const ACKED_AT = 0;
const RECEIVED_AT = 8;
/** What one ACK or segment may move at most: the largest window (RFC 7323 2.3). */
const STEP_MAX = 2 ** 30;

describe.each(TCP_PROBE_BUILDS)("sums of bytes, %s build", (build) => {
  test("64 bits of them come from 32-bit sequence numbers", () => {
    let wrapped = 0;
    const step = fc.record({
      acked: fc.integer({ min: 0, max: STEP_MAX }),
      received: fc.integer({ min: 0, max: STEP_MAX }),
      isAsked: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.nat(0xffffffff),
        fc.nat(0xffffffff),
        fc.array(step, { minLength: 1, maxLength: 60, size: "max" }),
        (sndSeq, rcvSeq, steps) => {
          const { wasm, memory } = createTcpProbe(build);
          const index = wasm.connectionCreate(0x0200000a, 0x0100000a, 0x5000_1234);
          wasm.accountBegin(index, sndSeq, rcvSeq);
          let acked = 0;
          let received = 0;
          const compare = () => {
            const at = wasm.accountRead(index);
            const sum = (offset: number) => memory.loadU32(at + offset + 4) * 2 ** 32 + memory.loadU32(at + offset);
            expect([sum(ACKED_AT), sum(RECEIVED_AT)]).toEqual([acked, received]);
          };
          for (const { acked: byAck, received: bySegment, isAsked } of steps) {
            wasm.accountMove(index, byAck, bySegment);
            acked += byAck;
            received += bySegment;
            if (isAsked) compare();
          }
          compare();
          if (acked > 2 ** 32 && received > 2 ** 32) wrapped++;
        },
      ),
      { numRuns: 200 },
    );
    expect(wrapped).toBeGreaterThan(50);
  });
});
