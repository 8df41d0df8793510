import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { SCRATCH_BASE } from "../../src/layout/kernelMemory.ts";
import { tcp, type TcpFields, v4Word } from "../helpers/packets.ts";
import { createTcpProbe, TCP_PROBE_BUILDS } from "../helpers/probeTcp.ts";

const PERIOD_MS = 64_000;
const CLIENT = "10.0.0.9";
const SERVER = "10.0.0.1";
/** What a cookie can express (assembly/tcp/cookies.ts). */
const MSS_STEPS = [216, 536, 1200, 1360, 1400, 1440, 1452, 1460];

describe.each(TCP_PROBE_BUILDS)("SYN cookies, %s build", (build) => {
  const { wasm, memory } = createTcpProbe(build, { connectionsMax: 16, streamPoolBytes: 65_536 });
  const place = (fields: Partial<TcpFields>, remote = CLIENT): void => {
    const segment = tcp({ source: remote, destination: SERVER, sourcePort: 40_000, destinationPort: 80, ...fields });
    memory.bytes.set(segment, SCRATCH_BASE);
    expect(wasm.placeSegment(SCRATCH_BASE, segment.length, v4Word(remote), v4Word(SERVER))).toBe(1);
  };
  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  const ms = fc.integer({ min: 0, max: 30 * 24 * 3_600_000 });

  /** @returns the cookie, that is the SYN-ACK's sequence number, and its timestamp value. */
  const cookieFor = (isn: number, mss: number, wscale: number, nowMs: number): { seq: number; tsVal: number } => {
    wasm.setNowNs(nowMs * 1e6);
    place({ seq: isn, flags: "syn", options: { mss, windowScale: wscale, timestamps: [1, 0] } });
    return { seq: wasm.cookieSeq() >>> 0, tsVal: wasm.cookieTsVal() >>> 0 };
  };

  test("come back with MSS and window scale for one to two periods, and not later", () => {
    fc.assert(
      fc.property(u32, fc.integer({ min: 216, max: 9000 }), fc.nat(14), ms, fc.nat(5 * PERIOD_MS), (...drawn) => {
        const [isn, mss, wscale, nowMs, laterMs] = drawn;
        const { seq, tsVal } = cookieFor(isn, mss, wscale, nowMs);
        wasm.setNowNs((nowMs + laterMs) * 1e6);
        const ack = (seq + 1) >>> 0;
        place({ seq: (isn + 1) >>> 0, ack, flags: "ack", options: { timestamps: [2, tsVal] } });
        const periods = Math.floor((nowMs + laterMs) / PERIOD_MS) - Math.floor(nowMs / PERIOD_MS);
        const expected = periods > 1 ? 0 : MSS_STEPS.findLast((step) => step <= mss);
        expect(wasm.cookieCheck()).toBe(expected);
        expect(wasm.cookieWscale()).toBe(wscale);
      }),
      { numRuns: 500 },
    );
  });

  test("are never ahead of the timestamp clock", () => {
    fc.assert(
      fc.property(u32, fc.nat(14), ms, fc.integer({ min: 1, max: 1000 }), (isn, wscale, nowMs, laterMs) => {
        const early = cookieFor(isn, 1460, wscale, nowMs).tsVal;
        const late = cookieFor(isn, 1460, wscale, nowMs + laterMs + 32).tsVal;
        expect((late - early) | 0).toBeGreaterThanOrEqual(laterMs - 32);
      }),
      { seed: 22 },
    );
  });

  test("do not open a connection to another segment, address, port or number", () => {
    const wrong = fc.constantFrom("seq", "ack", "port", "address");
    fc.assert(
      fc.property(u32, ms, wrong, fc.integer({ min: 1, max: 2 ** 31 }), (isn, nowMs, what, by) => {
        const { seq } = cookieFor(isn, 1460, 7, nowMs);
        place(
          {
            seq: (isn + 1 + (what === "seq" ? by : 0)) >>> 0,
            ack: (seq + 1 + (what === "ack" ? by : 0)) >>> 0,
            flags: "ack",
            sourcePort: what === "port" ? 40_001 : 40_000,
          },
          what === "address" ? "10.0.0.8" : CLIENT,
        );
        // 24 bits of hash: none of some hundred forgeries should hit.
        expect(wasm.cookieCheck()).toBe(0);
        // A later segment of the same connection is recognised as long as its cookie is remembered; forgeries are not.
        expect(wasm.cookieIsRecent()).toBe(what === "seq" ? 1 : 0);
      }),
      { numRuns: 400 },
    );
  });
});
