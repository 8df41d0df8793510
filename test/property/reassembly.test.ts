import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { ipv4, parseIpv4, pattern } from "../helpers/packets.ts";
import { IpProbe, PROBE_BUILDS } from "../helpers/probeIp.ts";
import { type Fragment, ReassemblyModel } from "../model/reassembly.ts";

/** Fragment boundaries in units of 8 bytes; few enough that overlaps and duplicates are common. */
const UNITS_MAX = 40;

/** A packet of `payload` cut at random places, all of it there, in any order, some pieces twice. */
const validSet = fc
  .record({
    bytes: fc.integer({ min: 1, max: 20_000 }),
    cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 20 }),
    order: fc.array(fc.nat(), { minLength: 64, maxLength: 64 }),
    repeats: fc.array(fc.nat(), { maxLength: 5 }),
  })
  .map(({ bytes, cuts, order, repeats }) => {
    const payload = pattern(bytes, bytes);
    const places = new Set(cuts.map((cut) => Math.floor((cut * bytes) / 8) * 8).filter((at) => at > 0 && at < bytes));
    const starts = [0, ...[...places].sort((a, b) => a - b)];
    const pieces: Fragment[] = starts.map((start, i) => {
      const end = starts[i + 1] ?? bytes;
      return { start, bytes: payload.subarray(start, end), more: end < bytes };
    });
    const all = [...pieces, ...repeats.map((n) => pieces[n % pieces.length] as Fragment)];
    const shuffled = all.map((piece, i) => ({ piece, key: order[i] as number })).sort((a, b) => a.key - b.key);
    return { payload, pieces: shuffled.map(({ piece }) => piece) };
  });

/** Fragments that need not fit together: overlaps, gaps, several ends. */
const anySet = fc.array(
  fc
    .record({
      start: fc.nat({ max: UNITS_MAX }),
      units: fc.integer({ min: 1, max: 8 }),
      odd: fc.nat({ max: 7 }),
      more: fc.boolean(),
    })
    .map(({ start, units, odd, more }): Fragment => {
      const bytes = pattern(more ? units * 8 : units * 8 - odd, start);
      return { start: start * 8, bytes, more };
    }),
  { maxLength: 24 },
);

describe.each(PROBE_BUILDS)("reassembly equals its model, %s build", (build) => {
  const probe = new IpProbe({ build });
  let identification = 0;

  /** Feeds one packet's fragments to both. The probe serves for all runs: nothing may be left behind. */
  function compare(fragments: readonly Fragment[]): (Uint8Array | undefined)[] {
    const model = new ReassemblyModel();
    identification = (identification + 1) & 0xffff;
    const results = fragments.map((fragment) => {
      const packet = ipv4(
        {
          source: "10.0.0.2",
          destination: "10.0.0.1",
          protocol: 253,
          identification,
          fragmentOffset: fragment.start,
          moreFragments: fragment.more,
        },
        fragment.bytes,
      );
      const at = probe.wasm.reassemblyInput(probe.place(packet), 20, packet.length) >>> 0;
      const expected = model.take(fragment);
      if (at === 0) {
        expect(expected).toBeUndefined();
        return undefined;
      }
      const whole = parseIpv4(probe.bytes.subarray(at, at + 65535));
      expect(whole).toMatchObject({ identification, moreFragments: false, fragmentOffset: 0, checksumValid: true });
      expect(Buffer.compare(whole.payload, expected ?? new Uint8Array(0))).toBe(0);
      return whole.payload.slice();
    });
    // What is left goes with time; then no block may be held.
    probe.advance(15_300);
    expect(probe.wasm.reassemblyHasDeadline()).toBe(0);
    expect(probe.counters()).toMatchObject({ gaugeReassemblyBytes: 0, dropFragmentLimit: 0 });
    return results;
  }

  test("any cut, order and repetition of a whole packet gives the packet back", () => {
    fc.assert(
      fc.property(validSet, ({ payload, pieces }) => {
        // A piece that is not a fragment at all (offset 0, no more) never gets here.
        fc.pre(pieces.length > 1 && pieces.some((piece) => piece.start > 0));
        const results = compare(pieces);
        // Repetitions that come after the whole packet may make it up a second time.
        const wholes = results.filter((whole) => whole !== undefined);
        expect(wholes.length).toBeGreaterThan(0);
        for (const whole of wholes) expect(Buffer.compare(whole, payload)).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test("any fragments at all", () => {
    fc.assert(
      fc.property(anySet, (fragments) => void compare(fragments)),
      { numRuns: 1000 },
    );
  });
});
