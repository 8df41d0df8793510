import { expect, test } from "vitest";
import { demoReport } from "../../../src/cli/demo/report.ts";
import { renderReport } from "../../../src/report/html.ts";
import { sampleDemoResult } from "../../helpers/demoResult.ts";

function embeddedData(html: string): unknown {
  const data = /<script type="application\/json" id="report-data">(.*?)<\/script>/s.exec(html)?.[1];
  return JSON.parse(data ?? "");
}

test("the data in the file is the document, so that programs can read it", () => {
  const report = demoReport(sampleDemoResult(), [["seed", "1"]]);
  expect(embeddedData(renderReport(report, ""))).toEqual(JSON.parse(JSON.stringify(report)));
});

test("is self-contained: nothing is loaded from anywhere", () => {
  const html = renderReport(demoReport(sampleDemoResult(), []), "draw();");
  expect(html).not.toMatch(/\b(src|href)=|@import|url\(/);
});

test("no text of a report can end its script or add markup", () => {
  const hostile = '</script><script>alert(1)</script><!--<b title="x">';
  const report = { ...demoReport(sampleDemoResult(), [["command", hostile]]), title: hostile };
  const html = renderReport(report, `const text = "</script>";`);
  // The data's and the page's own; what begins a script inside the data is harmless where nothing ends one.
  expect(html.match(/<\/script>/g)).toHaveLength(2);
  expect(html).not.toContain("<!--");
  expect(html).toContain("<title>&#60;/script&#62;");
  expect(embeddedData(html)).toMatchObject({ title: hostile });
});
