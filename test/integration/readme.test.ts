import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

test("the README's quick start runs as it stands", () => {
  const code = /```ts\n(.*?)```/s.exec(readFileSync(`${root}README.md`, "utf8"))?.[1] ?? "";
  expect(code).toContain('from "netpopcorn"');
  // Inside the package, its own name resolves to dist/ as it does for users. The code has no types to strip.
  const folder = `${root}.setup/readme`;
  mkdirSync(folder, { recursive: true });
  try {
    writeFileSync(`${folder}/quickStart.mjs`, code);
    const output = execFileSync(process.execPath, [`${folder}/quickStart.mjs`], { encoding: "utf8", timeout: 20_000 });
    expect(output).toBe("hello\n");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
