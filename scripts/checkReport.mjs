// Looks at a report page as a browser has rendered it (its DOM as text) and fails unless every chart has drawn its
// data; all variants of charts when the page was opened with #all.
// Usage: node scripts/checkReport.mjs PAGE.html
import { readFileSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** @param text the rendered page. @returns how many charts it has. @throws Error that names the chart without data. */
export function checkReport(text) {
  const data = JSON.parse(
    /<script type="application\/json" id="report-data">(.*?)<\/script>/s.exec(text)?.[1] ?? "null",
  );
  if (data === null) throw new Error("the page has no report data");
  const drawings = text.split('<div class="chart"').slice(1);
  const all = data.charts.flatMap((chart) => variantsOf(chart));
  const shown = drawings.length === all.length ? all : data.charts.map((chart) => variantsOf(chart).at(-1));
  if (drawings.length !== shown.length) {
    throw new Error(`${shown.length} charts expected, ${drawings.length} places found`);
  }
  for (const [index, chart] of shown.entries()) {
    const svg = /<svg\b.*?<\/svg>/s.exec(drawings[index])?.[0] ?? "";
    const paths = [...svg.matchAll(/<path d="([^"]*)"([^>]*)>/g)].map(([, path, style]) => ({ path, style }));
    const why = missingIn(chart, paths);
    if (why !== undefined) throw new Error(`chart "${chart.title}" ${chart.variant ?? ""}: ${why}`);
  }
  return shown.length;
}

function variantsOf(chart) {
  if (chart.kind !== "variants") return [chart];
  return chart.variants.map((variant) => ({ ...variant.chart, title: chart.title, variant: variant.name }));
}

const isClosed = ({ path }) => /[zZ]\s*$/.test(path);
const segments = ({ path }) => path.split("L").length - 1;

/** @returns what is missing in the drawing, or undefined. */
function missingIn(chart, paths) {
  const atLeast = (count, wanted, what) => (count >= wanted ? undefined : `${count} of ${wanted} ${what}`);
  switch (chart.kind) {
    case "lines":
    case "distributions": {
      const lengths = chart.series.map((series) => drawnPoints(chart, series));
      const lines = lengths.filter((length) => length >= 2);
      // Lines of data are 2 wide and open; axes and intervals are not.
      const drawn = paths.filter((one) => /stroke-width="2"/.test(one.style) && segments(one) > 0 && !isClosed(one));
      const points = lengths.reduce((sum, length) => sum + length, 0);
      if (points === 0) return "no data";
      return lines.length > 0 ? atLeast(drawn.length, lines.length, "lines") : atLeast(paths.length, points, "points");
    }
    case "stack": {
      const wanted = chart.parts.flatMap(({ percents }) => percents.filter((percent) => percent >= 1)).length;
      return wanted === 0 ? "no data" : atLeast(paths.filter(isClosed).length, wanted, "parts of bars");
    }
    case "heatMap": {
      const wanted = chart.percents.flat().filter((percent) => percent !== null).length;
      const cells = paths.filter((one) => isClosed(one) && /fill="(rgb|#)/.test(one.style));
      return wanted === 0 ? "no data" : atLeast(cells.length, wanted, "cells");
    }
    case "share":
      // Several closed shapes (bars); axes are open paths.
      return atLeast(paths.filter(isClosed).length, chart.categories.length, "bars");
    default: {
      // A drawn series is a long path (a line, an area); axes alone are short ones.
      const longest = Math.max(0, ...paths.map(({ path }) => path.length));
      return longest > 100 ? undefined : "nothing";
    }
  }
}

/** Points of a series that a reader can see. */
function drawnPoints(chart, series) {
  if (chart.kind === "distributions") return series.pointsUs.filter(([us]) => us > 0).length;
  return series.values.filter((value) => value !== null && (!chart.isLogarithmic || value > 0)).length;
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  console.log(`report: ${checkReport(readFileSync(process.argv[2], "utf8"))} charts drawn`);
}
