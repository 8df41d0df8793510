/**
 * Browser entry of a report: reads the embedded document, writes the page, draws the charts. Bundled by
 * scripts/buildTs.mjs.
 */
import type { Chart, KeyFigure, PlainChart, ReportDocument, Table, TableCell } from "../document.ts";
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

/** Cells longer than this are sentences. */
const PROSE_CHARACTERS = 36;

function tableCard(table: Table): HTMLElement {
  const kinds = table.columns.map((_, column) => columnKind(table.rows.map((row) => textOf(row[column] ?? ""))));
  const head = element("tr", "", ...table.columns.map((name, column) => element("th", kinds[column] ?? "", name)));
  const rows = table.rows.map((row) =>
    element("tr", "", ...row.map((cell, column) => tableCell(cell, kinds[column] ?? ""))),
  );
  const body = element("table", "", element("thead", "", head), element("tbody", "", ...rows));
  const caption = table.caption === undefined ? [] : [element("p", "", table.caption)];
  return element("section", "card", element("h2", "", table.title), ...caption, element("div", "scroll", body));
}

const textOf = (cell: TableCell): string => (typeof cell === "string" ? cell : cell.text);

/** Sentences may break; words begin where the ones above begin; numbers end there. */
function columnKind(texts: readonly string[]): "prose" | "words" | "" {
  if (texts.some((text) => text.length > PROSE_CHARACTERS)) return "prose";
  return texts.every((text) => text === "" || /^[-+±]?\.?\d/.test(text)) ? "" : "words";
}

function tableCell(cell: TableCell, kind: string): HTMLElement {
  if (typeof cell === "string") return element("td", kind, cell);
  return element("td", `${kind} ${cell.tone}`.trim(), cell.text);
}

/** The reader wants every variant of every chart: a link or a program that ends in #all, or paper. */
function isEverythingShown(): boolean {
  return location.hash === "#all";
}

/** A chart with its heading, and where and what to draw in it. */
type ChartCard = {
  readonly card: HTMLElement;
  readonly place: HTMLElement;
  readonly chart: PlainChart;
  /** Called with what the reader has chosen. */
  onChoice: (chart: PlainChart) => void;
};

function plainCard(chart: PlainChart, ...controls: HTMLElement[]): ChartCard {
  const place = element("div", "chart");
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", `${chart.title}. ${chart.caption}`);
  const heading = element("div", "heading", element("h2", "", chart.title), ...controls);
  const width = chart.kind === "heatMap" ? "card wide" : "card";
  const card = element("section", width, heading, element("p", "", chart.caption), place);
  return { card, place, chart, onChoice: () => {} };
}

function chartCards(chart: Chart): ChartCard[] {
  if (chart.kind !== "variants") return [plainCard(chart)];
  const { label, title, caption, variants } = chart;
  const named = variants.map((variant) => ({ ...variant.chart, title, caption }));
  if (isEverythingShown()) {
    return named.map((each, index) => plainCard({ ...each, title: `${title}: ${variants[index]?.name} ${label}` }));
  }
  const last = named.at(-1);
  if (last === undefined) return [];
  const select = document.createElement("select");
  select.append(...variants.map(({ name }) => element("option", "", name)));
  select.selectedIndex = variants.length - 1;
  const card = plainCard(last, element("label", "", select, ` ${label}`));
  select.addEventListener("change", () => {
    const chosen = named[select.selectedIndex];
    if (chosen !== undefined) card.onChoice(chosen);
  });
  return [card];
}

function render(report: ReportDocument, main: HTMLElement): void {
  const verdict = element("span", report.verdict.isGood ? "verdict" : "verdict bad", report.verdict.text);
  const cards = report.charts.flatMap(chartCards);
  const provenance = report.provenance.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]);
  main.append(
    element("header", "", element("h1", "", report.title), verdict, element("p", "", report.subtitle)),
    element("div", "figures", ...report.figures.map(figureCard)),
    element("div", "charts", ...cards.map(({ card }) => card)),
    element("div", "tables", ...report.tables.map(tableCard)),
    element("footer", "", ...provenance),
  );
  const drawn = drawCharts(cards);
  for (const [index, card] of cards.entries()) card.onChoice = (chart) => drawn[index]?.show(chart);
}

const data = document.getElementById("report-data")?.textContent ?? "";
const main = document.getElementById("report");
if (main !== null) render(JSON.parse(data) as ReportDocument, main);
addEventListener("hashchange", () => location.reload());
