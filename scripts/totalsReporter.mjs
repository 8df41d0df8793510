// A vitest reporter for scripts/runTests.mjs: leaves the totals in the file that NETPOPCORN_TEST_TOTALS names.
// The JSON reporter of vitest would do, but it drops the reason that a test gives to `skip()`.
import { writeFileSync } from "node:fs";

export default class TotalsReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const totals = { passed: 0, failed: unhandledErrors.length, skipped: [], again: [] };
    for (const module of modules) {
      // A file that cannot be loaded has errors instead of tests.
      totals.failed += module.errors().length;
      for (const suite of module.children.allSuites()) totals.failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (test.diagnostic()?.flaky) totals.again.push(test.fullName);
        if (result.state === "passed") totals.passed++;
        else if (result.state === "skipped") totals.skipped.push(result.note ?? test.fullName);
        else totals.failed++;
      }
    }
    writeFileSync(process.env.NETPOPCORN_TEST_TOTALS, JSON.stringify(totals));
  }
}
