import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      {
        // Runs on the sources (and on build/*.wasm), in parallel, in seconds.
        test: {
          name: "fast",
          include: ["test/{unit,property,model,sim,packet,golden,security,tidy}/**/*.test.ts"],
          // Vitest's own share leaves one processor out: half of a machine with two.
          maxWorkers: availableParallelism(),
          // Against what hangs; a busy machine may take long.
          testTimeout: 120_000,
          expect: { poll: { timeout: 20_000 } },
        },
      },
      {
        // Runs on dist/ with real workers, devices and programs: one file after the other, nothing else beside it.
        test: {
          name: "integration",
          include: ["test/integration/**/*.test.ts"],
          fileParallelism: false,
          // Real clocks, processes and devices, on a machine that others use: tried again once, and the totals say so.
          retry: 1,
          sequence: { groupOrder: 1 },
          testTimeout: 180_000,
          expect: { poll: { timeout: 20_000 } },
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
