/**
 * Puts a report document and the script that draws it into one HTML file: no network, no other file.
 */
import { readFile } from "node:fs/promises";
import { NetPopcornError } from "../errors.ts";
import type { ReportDocument } from "./document.ts";

/** Where scripts/buildTs.mjs puts the bundle of page/; only dist/ has it. */
const pageScriptUrl = new URL("./page.js", import.meta.url);

/** @throws NetPopcornError ERR_REPORT_PAGE_MISSING when dist/ was built without the page. */
export async function loadPageScript(): Promise<string> {
  try {
    return await readFile(pageScriptUrl, "utf8");
  } catch (cause) {
    throw new NetPopcornError("ERR_REPORT_PAGE_MISSING", "the report page is not built; run: npm run build:ts", {
      cause,
    });
  }
}

export function renderReport(document: ReportDocument, pageScript: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(document.title)}</title>
<style>${styles}</style>
</head>
<body>
<noscript>This report draws its plots with the script inside this file; allow scripts to see them.</noscript>
<main id="report"></main>
<script type="application/json" id="report-data">${escapeForScript(JSON.stringify(document))}</script>
<script>${escapeForScript(pageScript)}</script>
</body>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/**
 * Inside a script element only "</script" and "<!--" end or change it; "\x3c" means "<" in JSON strings and in scripts'
 * strings.
 */
function escapeForScript(text: string): string {
  return text.replace(/<(?=\/script|!--)/gi, "\\u003c");
}

const styles = `
:root {
  --page: #f6f7f9; --card: #fff; --text: #1b1f27; --muted: #5d6675; --line: #e1e5eb; --good: #1a7f4b; --bad: #c62f3b;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151b; --card: #1b2029; --text: #e6e9ef; --muted: #98a2b3; --line: #2d3441; --good: #4cc38a;
    --bad: #ff6b74;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); }
main { max-width: 1240px; margin: 0 auto; padding: 28px 20px 40px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; margin-bottom: 20px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 16px; margin: 0; }
header p { flex-basis: 100%; margin: 0; color: var(--muted); }
.verdict { font-weight: 600; color: var(--good); }
.bad { color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(136px, 1fr)); gap: 12px; margin-bottom: 12px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; min-width: 0; }
.figure-label { color: var(--muted); font-size: 13px; }
.figure-value { font-size: 23px; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; }
.figure-value small { font-size: 14px; font-weight: 400; color: var(--muted); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 12px; }
.card p { margin: 2px 0 8px; color: var(--muted); font-size: 13px; }
.heading { display: flex; justify-content: space-between; align-items: baseline; gap: 12px; }
.heading label { color: var(--muted); font-size: 13px; white-space: nowrap; }
select { font: inherit; color: var(--text); background: var(--page); border: 1px solid var(--line);
  border-radius: 6px; }
td.good { color: var(--good); }
td.muted { color: var(--muted); }
.wide { grid-column: 1 / -1; }
.chart { height: 300px; }
.tables { display: grid; gap: 12px; margin-top: 12px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin-top: 8px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
th { color: var(--muted); font-weight: 500; font-size: 13px; }
th:first-child, td:first-child, .words, .prose { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
td.prose { white-space: normal; min-width: 12em; }
tr { vertical-align: top; }
footer { margin-top: 16px; color: var(--muted); font-size: 13px; }
footer { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; }
footer dt { font-weight: 500; }
footer dd { margin: 0; overflow-wrap: anywhere; }
@page { size: A4 landscape; margin: 12mm; }
@media print {
  body { background: #fff; }
  .card { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 10px; }
  th { font-size: inherit; }
  th, td { padding: 3px 4px; }
  td.prose { min-width: 0; overflow-wrap: anywhere; }
}
`;
