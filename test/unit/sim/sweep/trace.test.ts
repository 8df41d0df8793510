import { describe, expect, test } from "vitest";
import { parsePoint } from "../../../../src/sim/point.ts";
import { runPoint } from "../../../../src/sim/run.ts";
import { traceDocument } from "../../../../src/sim/sweep/trace.ts";
import { DESIGNS } from "../../../../src/sim/types.ts";

type Event = {
  readonly name?: unknown;
  readonly cat?: unknown;
  readonly ph?: unknown;
  readonly ts?: unknown;
  readonly dur?: unknown;
  readonly pid?: unknown;
  readonly tid?: unknown;
  readonly args?: Readonly<Record<string, unknown>>;
};

/** What the "Trace Event Format" asks of metadata events. */
function checkMetadata(event: Event): void {
  expect(["process_name", "thread_name", "thread_sort_index"]).toContain(event.name);
  const value = event.name === "thread_sort_index" ? event.args?.sort_index : event.args?.name;
  expect(typeof value).toBe(event.name === "thread_sort_index" ? "number" : "string");
}

/** What it asks of complete events. */
function checkComplete(event: Event): void {
  expect(typeof event.name).toBe("string");
  expect(typeof event.cat).toBe("string");
  for (const value of [event.ts, event.dur]) {
    expect(Number.isFinite(value)).toBe(true);
    expect(value).toBeGreaterThanOrEqual(0);
  }
}

describe("traceDocument", () => {
  // Calls that run on in one step had the name of the first: what served a request was all "release_sock".
  test.each(["linux", "netpopcorn"] as const)("%s: each call of a process has its name", async (design) => {
    const point = parsePoint({
      ...{ design, cores: 2, workload: "web-epoll", machine: "e5-2690", concurrency: 100 },
      ...{ durationS: 0.01, traceMs: 2 },
    });
    const names = new Set((await runPoint(point)).trace.map(({ name }) => name));
    const calls = ["accept", "release_sock", "accepted", "read", "respond", "close"];
    expect([...names]).toEqual(expect.arrayContaining(["packet", ...calls]));
  });

  test.each(DESIGNS)("%s: rules of the trace-event format hold", async (design) => {
    const point = parsePoint({
      ...{ design, cores: 2, workload: "web-epoll", machine: "e5-2690", concurrency: 100 },
      ...{ durationS: 0.01, appCycles: 20_000, traceMs: 2 },
    });
    const result = await runPoint(point);
    const cell = { point, result, repeats: 1 };
    const document = JSON.parse(JSON.stringify(traceDocument(cell))) as {
      readonly displayTimeUnit: string;
      readonly traceEvents: readonly Event[];
    };
    expect(["ms", "ns"]).toContain(document.displayTimeUnit);
    const named = new Set<unknown>();
    const tracks = new Map<unknown, Event[]>();
    for (const event of document.traceEvents) {
      expect(Number.isInteger(event.pid)).toBe(true);
      expect(Number.isInteger(event.tid)).toBe(true);
      if (event.ph === "M") {
        checkMetadata(event);
        if (event.name === "thread_name") named.add(event.tid);
      } else {
        expect(event.ph).toBe("X");
        checkComplete(event);
        const track = tracks.get(event.tid) ?? [];
        tracks.set(event.tid, track);
        track.push(event);
      }
    }
    expect([...tracks.keys()].every((tid) => named.has(tid))).toBe(true);
    expect(tracks.size).toBe(2);
    for (const track of tracks.values()) {
      expect(track.length).toBeGreaterThan(5);
      // Slices of a track may nest but not cross, or a viewer drops them. A core does one thing at a time.
      let endUs = 0;
      for (const { ts, dur } of track) {
        expect(Number(ts)).toBeGreaterThanOrEqual(endUs - 1e-6);
        endUs = Number(ts) + Number(dur);
      }
    }
  });
});
