/**
 * Browser entry of a report: reads the embedded document, writes the page, draws the charts. Bundled by
 * scripts/buildTs.mjs.
 */
import type { KeyFigure, ReportDocument, Table } from "../document.ts";
import { drawCharts } from "./charts.ts";

type Child = Node | string;

function element(tag: string, className: string, ...children: Child[]): HTMLElement {
  const node = document.createElement(tag);
  if (className !== "") node.className = className;
  node.append(...children);
  return node;
}

function figureCard(figure: KeyFigure): HTMLElement {
  const value = element("div", figure.isBad === true ? "figure-value bad" : "figure-value", figure.value);
  if (figure.unit !== undefined) value.append(" ", element("small", "", figure.unit));
  return element("div", "card", element("div", "figure-label", figure.label), value);
}

function tableCard(table: Table): HTMLElement {
  const head = element("tr", "", ...table.columns.map((column) => element("th", "", column)));
  const rows = table.rows.map((row) => element("tr", "", ...row.map((cell) => element("td", "", cell))));
  const body = element("table", "", element("thead", "", head), element("tbody", "", ...rows));
  return element("section", "card", element("h2", "", table.title), element("div", "scroll", body));
}

function render(report: ReportDocument, main: HTMLElement): void {
  const verdict = element("span", report.verdict.isGood ? "verdict" : "verdict bad", report.verdict.text);
  const places = report.charts.map((chart) => {
    const place = element("div", "chart");
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `${chart.title}. ${chart.caption}`);
    return { chart, place };
  });
  const chartCards = places.map(({ chart, place }) =>
    element("section", "card", element("h2", "", chart.title), element("p", "", chart.caption), place),
  );
  const provenance = report.provenance.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]);
  main.append(
    element("header", "", element("h1", "", report.title), verdict, element("p", "", report.subtitle)),
    element("div", "figures", ...report.figures.map(figureCard)),
    element("div", "charts", ...chartCards),
    element("div", "tables", ...report.tables.map(tableCard)),
    element("footer", "", ...provenance),
  );
  drawCharts(places);
}

const data = document.getElementById("report-data")?.textContent ?? "";
const main = document.getElementById("report");
if (main !== null) render(JSON.parse(data) as ReportDocument, main);
