import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { runCli } from "../helpers/serve.ts";

const cli = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "netpopcorn-cli-"));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function linesOf(text: string): Record<string, unknown>[] {
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe("bench", () => {
  test("rehome ends the owner and another, and tells how long each took", () => {
    const { status, stdout, stderr } = runCli("bench", "rehome", "--kernels", "3", "--seconds", "0.5", "--json");
    expect(stderr).toMatch(/, the owner: /);
    expect(status).toBe(0);
    const [line] = linesOf(stdout);
    expect(line).toMatchObject({ workload: "rehome", kernels: 3, restartMs: 50 });
    // A third of 4,096 flow groups and of the RETA's 512 entries, and more for who stands in.
    expect(line?.entries).toBeGreaterThan(1500);
    for (const name of ["ofOwnerMs", "ofOthersMs", "throwMs", "exitMs", "killMs", "upAgainMs"])
      expect(line?.[name]).toBeGreaterThan(0);
    // Each way for the owner and for another: however short the run is.
    expect(line?.ends).toBeGreaterThanOrEqual(6);
  });
});

describe("demo", () => {
  test("every connection completes, every kernel has a share, and the report is there", () => {
    const report = join(folder, "report.html");
    const load = ["--kernels", "2", "--seconds", "1.2", "--concurrency", "64"];
    const options = ["--json", "--no-comparison", ...load, "--out", report];
    const { status, stdout, stderr } = runCli("demo", ...options);
    expect(stderr).toBe("");
    const lines = linesOf(stdout);
    const summary = lines.at(-1) as {
      completed: number;
      failures: unknown;
      kernels: { served: number; queueFrames: number }[];
    };
    expect(summary).toMatchObject({ phase: "summary", ok: true, failed: 0, bytesDiffering: 0, failures: {}, report });
    expect(status).toBe(0);
    expect(summary.completed).toBeGreaterThan(100);
    const served = summary.kernels.map((kernel) => kernel.served);
    expect(served.reduce((sum, count) => sum + count, 0)).toBe(summary.completed);
    // 32 hosts and thousands of ports: a kernel without a fair share would mean that the card does not spread.
    for (const count of served) expect(count / summary.completed).toBeGreaterThan(0.3);
    for (const { queueFrames } of summary.kernels) expect(queueFrames).toBeGreaterThan(0);
    expect(lines.slice(0, -1).every((line) => line.phase === "load")).toBe(true);
    const html = readFileSync(report, "utf8");
    expect(html).toContain('<script type="application/json" id="report-data">');
    expect(html.length).toBeGreaterThan(100_000);
  });

  test("SIGINT ends it at once, without a report, with the status of an interrupted program", async () => {
    const report = join(folder, "interrupted.html");
    const child = spawn(process.execPath, [cli, "demo", "--seconds", "60", "--out", report], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
    const timer = setTimeout(() => child.kill("SIGKILL"), 30_000);
    // The first line of progress: it runs.
    await new Promise((resolve) => child.stdout.once("data", resolve));
    child.kill("SIGINT");
    expect(await exited).toBe(130);
    clearTimeout(timer);
    expect(stderr).toBe("netpopcorn: ERR_INTERRUPTED: ended by SIGINT\n");
    expect(() => readFileSync(report)).toThrow(/ENOENT/);
  });

  test("a report that cannot be written is an error with the way out", () => {
    const report = join(folder, "missing", "report.html");
    const { status, stderr } = runCli("demo", "--no-comparison", "--kernels", "1", "--seconds", "0.5", "--out", report);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^netpopcorn: ENOENT: the report cannot be written to .*--out\n$/);
  });
});

describe("bad use ends in one line with a code and status 1", () => {
  test.each([
    [[], "ERR_USAGE"],
    [["simulate"], "ERR_USAGE"],
    [["demo", "--fast"], "ERR_USAGE"],
    [["demo", "--kernels", "0"], "ERR_ARGUMENT"],
    [["serve", "--tap", "pop0"], "ERR_USAGE"],
    [["serve", "--tap", "pop0", "--address", "10.7.0.2"], "ERR_ADDRESS_FORMAT"],
    [["serve", "--tap", "pop0", "--address", "10.7.0.2/24", "--app", "./nothing.js"], "ERR_APP_NOT_FOUND"],
    [["serve", "--tap", "pop0", "--address", "10.7.0.2/24", "--gateway", "here"], "ERR_ADDRESS_FORMAT"],
    [["serve", "--tap", "a name that is too long", "--address", "10.7.0.2/24"], "ERR_OPTION_RANGE"],
  ])("%j: %s", (args, code) => {
    const { status, stdout, stderr } = runCli(...args);
    expect(stderr).toMatch(new RegExp(`^netpopcorn: ${code}: [^\\n]+\\n$`));
    expect(stdout).toBe("");
    expect(status).toBe(1);
  });
});

test("--help and --version answer on stdout with status 0", () => {
  for (const args of [["--help"], ["demo", "--help"], ["serve", "--help"], ["sim", "--help"], ["worker", "--help"]]) {
    expect(runCli(...args)).toMatchObject({
      status: 0,
      stderr: "",
      stdout: expect.stringMatching(/^Usage: netpopcorn/),
    });
  }
  expect(runCli("--version")).toMatchObject({ status: 0, stdout: "0.1.0\n" });
});
