/** The bar on a terminal: results keep their lines, whole. */
import { afterEach, expect, test, vi } from "vitest";
import { createSweepView } from "../../../../src/cli/sim/progress.ts";

const wasTerminal = process.stderr.isTTY;
afterEach(() => {
  vi.restoreAllMocks();
  process.stderr.isTTY = wasTerminal;
});

test("results are not cut at the terminal's edge, and the end does not go back above them", async () => {
  process.stderr.isTTY = true;
  let written = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    written += String(text);
    return true;
  });
  const view = await createSweepView();
  view.show({ done: 0, total: 2, leftMs: undefined, last: "" });
  view.around(() => process.stderr.write("result\n"));
  view.show({ done: 2, total: 2, leftMs: 0, last: "linux at 1 core" });
  view.close();
  view.close();
  view.note("the end");
  const upTo = (text: string) => written.slice(0, written.indexOf(text));
  const isWrapping = (text: string) => text.lastIndexOf("\x1b[?7h") > text.lastIndexOf("\x1b[?7l");
  expect(isWrapping(upTo("result"))).toBe(true);
  expect(isWrapping(upTo("the end"))).toBe(true);
  // The bar goes back to the place that was kept last: that must be below the result.
  const back = written.lastIndexOf("\x1b8");
  expect(back).toBeGreaterThan(0);
  expect(written.slice(0, back).lastIndexOf("\x1b7")).toBeGreaterThan(written.indexOf("result"));
  expect(written.endsWith("the end\n")).toBe(true);
});
