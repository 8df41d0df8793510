/** The simulator's report in a real browser: every chart draws its data, in both schemes. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { checkReport } from "../../scripts/checkReport.mjs";
import { sweepReport } from "../../src/cli/sim/report.ts";
import type * as html from "../../src/report/html.ts";
import { parsePoint } from "../../src/sim/point.ts";
import { combineCell } from "../../src/sim/sweep/combine.ts";
import { planCells } from "../../src/sim/sweep/plan.ts";
import type { DesignName } from "../../src/sim/types.ts";
import { countPixels, dumpPage, findBrowser, type Look, screenshot } from "../helpers/browser.ts";
import { importBuilt } from "../helpers/dist.ts";
import { sampleResult } from "../helpers/sampleResult.ts";

const { loadPageScript, renderReport } = await importBuilt<typeof html>("report/html.js");
const folder = mkdtempSync(join(tmpdir(), "netpopcorn-report-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const browser = findBrowser();
const designs: DesignName[] = ["linux", "fastsocket", "mtcp", "netpopcorn"];
// As src/report/page/scheme.ts gives them to the first four series: the test knows what a reader sees.
const schemes = [
  { isDark: false, page: "#f6f7f9", series: ["#2f6fde", "#d9730d", "#1a8f6a", "#b0399b"] },
  { isDark: true, page: "#12151b", series: ["#6ea8ff", "#f5a04c", "#43c79a", "#e57fd2"] },
];

async function writeReport(name: string, cores: readonly number[], repeats: number): Promise<string> {
  const points = designs.flatMap((design) =>
    cores.map((count) => parsePoint({ design, cores: count, workload: "web-epoll", requestsPerConn: 2 })),
  );
  const results = planCells(points, repeats, "test").map((cell) =>
    combineCell(
      cell,
      cell.tasks.map(({ point }) =>
        // Apart from each other, so that each line can be seen.
        sampleResult(point, {
          connsPerSec: 10_000 * point.cores * (1 + designs.indexOf(point.design)) + (point.seed % 977),
          failedConnections: designs.indexOf(point.design),
          latencyCdf: { us: [20, 80, 300].map((us) => us * (1 + designs.indexOf(point.design))), cdf: [0.3, 0.9, 1] },
        }),
      ),
    ),
  );
  const file = join(folder, `${name}.html`);
  writeFileSync(file, renderReport(sweepReport({ results, tables: [], provenance: [] }), await loadPageScript()));
  return pathToFileURL(file).href;
}

const look: Look = { isDark: false, widthPixels: 1280, heightPixels: 2_000 };

describe("in a browser", () => {
  test("every chart has drawn its data, in every variant", async (context) => {
    if (browser === undefined) return context.skip("no chromium");
    const url = await writeReport("sweep", [1, 4, 16], 3);
    // Rates, requests, rates per core, 3 distributions, 3 percentiles, failures, 3 shares, 3 loads.
    expect(checkReport(dumpPage(browser, `${url}#all`, look))).toBe(16);
    expect(checkReport(dumpPage(browser, url, look))).toBe(8);
  });

  test("one core count is enough", async (context) => {
    if (browser === undefined) return context.skip("no chromium");
    expect(checkReport(dumpPage(browser, await writeReport("one", [4], 1), look))).toBe(8);
  });

  test("a chart that draws nothing is found out", async (context) => {
    if (browser === undefined) return context.skip("no chromium");
    const page = dumpPage(browser, await writeReport("broken", [1, 4], 1), look);
    const parts = page.split('<div class="chart"');
    for (let chart = 1; chart < parts.length; chart++) {
      const broken = parts.map((part, index) => (index === chart ? part.replace(/<path [^>]*>/g, "") : part));
      expect(() => checkReport(broken.join('<div class="chart"'))).toThrow(/^chart "/);
    }
  });

  // Wide tables scroll on a screen; on paper their last columns were cut off.
  test("on paper every column of every table is there", async (context) => {
    if (browser === undefined) return context.skip("no chromium");
    const file = fileURLToPath(await writeReport("paper", [1, 4], 3));
    // The rules for paper hold on this screen, which is as wide as A4, landscape, between its margins.
    const script = `<script>
      for (const rule of [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]))
        if (rule.media?.mediaText === "print") rule.media.mediaText = "all";
      const tables = [...document.querySelectorAll("table")];
      const cut = tables.filter((table) => table.scrollWidth > table.parentElement.clientWidth);
      const names = cut.map((table) => table.closest(".card").querySelector("h2").textContent).join();
      document.body.dataset.paper = tables.length + " tables, cut: [" + names + "]";
    </script>`;
    writeFileSync(file, `${readFileSync(file, "utf8")}${script}`);
    const page = dumpPage(browser, pathToFileURL(file).href, { ...look, widthPixels: 1032 });
    expect(/data-paper="([^"]*)"/.exec(page)?.[1]).toMatch(/^[2-9] tables, cut: \[\]$/);
  });

  test.each(schemes)("a reader sees every design, isDark $isDark", async (context) => {
    if (browser === undefined) return;
    const { isDark, page, series } = context;
    const image = screenshot(browser, await writeReport("seen", [1, 4, 16], 1), { ...look, isDark });
    expect(countPixels(image, page)).toBeGreaterThan(100_000);
    // Lines and markers in six charts, and legends; nothing else has these colours.
    for (const color of series) expect(countPixels(image, color)).toBeGreaterThan(2_000);
    const other = schemes.find((scheme) => scheme.isDark !== isDark);
    for (const color of other?.series ?? []) expect(countPixels(image, color)).toBeLessThan(50);
  });
});
