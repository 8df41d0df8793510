import { appendFileSync, chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parsePoint } from "../../../../src/sim/point.ts";
import { ResultStore } from "../../../../src/sim/sweep/store.ts";
import { sampleResult } from "../../../helpers/sampleResult.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "netpopcorn-store-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const result = sampleResult(parsePoint({ design: "mtcp", cores: 2, workload: "web-epoll" }));
const file = () => join(folder, "results.jsonl");

describe("a store", () => {
  test("gives back what was added, in another process too", () => {
    const first = ResultStore.open(folder, true);
    first.add("p1", result);
    expect(first.find("p1")).toEqual(result);
    first.close();
    const second = ResultStore.open(folder, true);
    expect(second.find("p1")).toEqual(result);
    expect(second.find("p2")).toBeUndefined();
    second.close();
  });

  test("makes its folder, and takes each key once", () => {
    const store = ResultStore.open(join(folder, "a", "b"), true);
    store.add("p1", result);
    store.add("p1", { ...result, connsPerSec: 1 });
    expect(store.find("p1")?.connsPerSec).toBe(result.connsPerSec);
    expect(readFileSync(join(folder, "a", "b", "results.jsonl"), "utf8").split("\n")).toHaveLength(2);
    store.close();
  });

  test("begins anew when told so", () => {
    const first = ResultStore.open(folder, true);
    first.add("p1", result);
    first.close();
    const second = ResultStore.open(folder, false);
    expect(second.find("p1")).toBeUndefined();
    expect(readFileSync(file(), "utf8")).toBe("");
    second.close();
  });

  test("cuts off the line that a killed process has half written, wherever it ends", () => {
    const line = `${JSON.stringify({ key: "p1", result })}\n`;
    const half = JSON.stringify({ key: "p2", result });
    // Behind multi-byte text, so that bytes and characters differ.
    const before = `${JSON.stringify({ key: "µ", result })}\n${line}`;
    for (const length of [1, 10, half.length - 1, half.length]) {
      writeFileSync(file(), before + half.slice(0, length));
      const store = ResultStore.open(folder, true);
      expect(store.find("p1")).toEqual(result);
      expect(store.find("p2")).toBeUndefined();
      expect(store.unreadableLines).toBe(0);
      store.add("p3", result);
      store.close();
      const lines = readFileSync(file(), "utf8").split("\n");
      expect(lines).toHaveLength(4);
      expect(JSON.parse(lines[2] ?? "")).toMatchObject({ key: "p3" });
    }
  });

  test("leaves alone what it cannot read, and says how much that is", () => {
    writeFileSync(file(), `{"key":"p1"}\nnull\n[]\nnot JSON\n${JSON.stringify({ key: "p9", result })}\n`);
    const store = ResultStore.open(folder, true);
    expect(store.unreadableLines).toBe(4);
    expect(store.find("p9")).toEqual(result);
    store.close();
    appendFileSync(file(), "");
    expect(readFileSync(file(), "utf8")).toContain("not JSON");
  });

  test("is of one process at a time; the lock of a process that is gone does not count", () => {
    // Process 1 is always there and never this one.
    writeFileSync(join(folder, ".lock"), "1");
    expect(() => ResultStore.open(folder, true)).toThrow(expect.objectContaining({ code: "ERR_OUT_BUSY" }));
    // Above the largest process id of Linux.
    writeFileSync(join(folder, ".lock"), "99999999");
    ResultStore.open(folder, true).close();
    writeFileSync(join(folder, ".lock"), "");
    ResultStore.open(folder, true).close();
  });

  test("that cannot be written is an error before anything runs", () => {
    writeFileSync(join(folder, "plain"), "");
    expect(() => ResultStore.open(join(folder, "plain"), true)).toThrow(expect.objectContaining({ code: "EEXIST" }));
    expect(() => ResultStore.open(join(folder, "plain", "x"), true)).toThrow(
      expect.objectContaining({ code: "ENOTDIR" }),
    );
    if (process.getuid?.() !== 0) {
      chmodSync(folder, 0o500);
      expect(() => ResultStore.open(join(folder, "x"), true)).toThrow(expect.objectContaining({ code: "EACCES" }));
    }
  });
});
