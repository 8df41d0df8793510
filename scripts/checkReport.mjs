// Looks at a report page as a browser has rendered it (its DOM as text) and fails unless every chart has drawn data.
// Usage: node scripts/checkReport.mjs PAGE.html
import { readFileSync } from "node:fs";

const page = readFileSync(process.argv[2], "utf8");
const data = JSON.parse(/<script type="application\/json" id="report-data">(.*?)<\/script>/s.exec(page)?.[1] ?? "null");
if (data === null) throw new Error("the page has no report data");

const drawings = page.split('<div class="chart"').slice(1);
if (drawings.length !== data.charts.length) {
  throw new Error(`${data.charts.length} charts expected, ${drawings.length} places found`);
}
for (const [index, chart] of data.charts.entries()) {
  const svg = /<svg\b.*?<\/svg>/s.exec(drawings[index])?.[0] ?? "";
  const marks = [...svg.matchAll(/<path d="([^"]*)"/g)];
  // A drawn series is a long path (a line, an area) or several closed shapes (bars); axes alone are short open paths.
  const longest = Math.max(0, ...marks.map(([, path]) => path.length));
  const shapes = marks.filter(([, path]) => /[zZ]\s*$/.test(path)).length;
  const isDrawn = chart.kind === "share" ? shapes >= chart.categories.length : longest > 100;
  if (!isDrawn) throw new Error(`chart "${chart.title}" has drawn no data`);
}
console.log(`report: ${data.charts.length} charts drawn`);
