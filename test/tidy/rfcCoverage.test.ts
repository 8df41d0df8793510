/** docs/rfc-coverage.md says the truth about itself: no empty cell, known states, and tests that exist. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const text = readFileSync(join(root, "docs/rfc-coverage.md"), "utf8");
const STATES = ["met", "partly", "not met", "does not apply"];

const rows = text
  .split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| requirement "))
  .map((line) => {
    const [requirement = "", clause = "", state = "", shown = "", ...more] = line.slice(2, -2).split(" | ");
    return { line, requirement, clause, state, shown, more };
  });

test("every row has its four cells, and a known state", () => {
  expect(rows.length).toBeGreaterThan(200);
  for (const { line, requirement, clause, state, shown, more } of rows) {
    expect(more, line).toEqual([]);
    for (const cell of [requirement, clause, shown]) expect(cell.trim(), line).not.toBe("");
    expect(STATES, line).toContain(state);
  }
});

test("what is met is shown by a test; every file that is named exists", () => {
  for (const { line, state, shown } of rows) {
    const files = shown.match(/\b(?:test|src|assembly)\/[\w/.-]+\.(?:ts|pkt)/g) ?? [];
    if (state === "met") expect(files.filter((file) => file.startsWith("test/")).length, line).toBeGreaterThan(0);
    expect(
      files.filter((file) => !existsSync(join(root, file))),
      line,
    ).toEqual([]);
  }
});

test("every numbered requirement of RFC 9293's appendix B is there", () => {
  const named = new Set(rows.map(({ clause }) => clause.replace(/ .*/, "")));
  // MUST-57 to MUST-61 and the like belong to it too; numbers that the RFC does not use are left out.
  const numbers = (kind: string, last: number, unused: readonly number[] = []) =>
    Array.from({ length: last }, (_, i) => i + 1)
      .filter((number) => !unused.includes(number))
      .map((number) => `${kind}-${number}`);
  const all = [...numbers("MUST", 69), ...numbers("SHLD", 31), ...numbers("MAY", 18), "REC-1"];
  expect(all.filter((name) => !named.has(name))).toEqual([]);
});

test("the sums are right", () => {
  const count = (state: string) => rows.filter((row) => row.state === state).length;
  const [met, partly, notMet, not] = STATES.map((state) => count(state));
  expect(text).toContain(
    `${rows.length} requirements: ${met} met, ${partly} partly, ${notMet} not met, ${not} do not apply.`,
  );
});
