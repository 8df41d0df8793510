/** Goal: docs/security.md has a row for each promise of the design, and every row a test that exists. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const rows = readFileSync(`${root}docs/security.md`, "utf8")
  .split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| input"))
  .map((line) => line.split("|").map((cell) => cell.trim()));

test.each(rows.map((cells) => ({ row: cells[1] as string, shown: cells[3] as string })))("$row", ({ shown }) => {
  const files = shown.split(", ");
  expect(files.length).toBeGreaterThan(0);
  expect(files.filter((file) => !/^test\/.*\.(test\.ts|pkt)$/.test(file) || !existsSync(root + file))).toEqual([]);
});

test("nothing that the design promises is missing", () => {
  const promised = [
    "malformed frame",
    "SYN flood",
    "a full pool",
    "blind RST",
    "a kernel traps",
    "the owner",
    "wrong use",
  ];
  expect(promised.filter((start) => !rows.some((cells) => cells[1]?.startsWith(start)))).toEqual([]);
});
