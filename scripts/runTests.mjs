// Runs the tests with vitest and ends with one plain line, `N passed, N failed, N skipped`, that scripts can read.
// Arguments go to vitest: `npm test -- test/unit`, `npm test -- --project fast -t "SYN"`.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "./upToDate.mjs";

const folder = mkdtempSync(join(tmpdir(), "netpopcorn-test-"));
const totalsFile = join(folder, "totals.json");
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const reporters = ["--reporter=default", "--reporter=./scripts/totalsReporter.mjs"];

let status = 1;
try {
  const run = spawnSync(process.execPath, [vitest, "run", ...reporters, ...process.argv.slice(2)], {
    cwd: root,
    env: { ...process.env, NETPOPCORN_TEST_TOTALS: totalsFile },
    stdio: ["ignore", "inherit", "inherit"],
  });
  status = run.status ?? 1;
  if (existsSync(totalsFile)) {
    const totals = JSON.parse(readFileSync(totalsFile, "utf8"));
    for (const reason of new Set(totals.skipped)) console.log(`skipped: ${reason}`);
    for (const name of totals.again) console.log(`failed once, passed when tried again: ${name}`);
    if (totals.failed > 0 && status === 0) status = 1;
    if (status !== 0 && totals.failed === 0) totals.failed = 1;
    console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped.length} skipped`);
  } else {
    console.error("vitest did not finish; its messages are above");
    console.log("0 passed, 1 failed, 0 skipped");
    status ||= 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(status);
