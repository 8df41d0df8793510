/** `netpopcorn sim` and `netpopcorn worker` as users run them: short simulations of the real engine. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { machineNamed } from "../../src/sim/machines/index.ts";
import { type PointResult, SHARES, type TraceEvent } from "../../src/sim/types.ts";
import { RedisServer, redisMissing } from "../helpers/redis.ts";
import { runCli } from "../helpers/serve.ts";

const cli = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "netpopcorn-sim-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Two designs, two core counts, a twentieth of a virtual second. */
const sweep = ["sim", "--design", "linux,netpopcorn", "--cores", "1,2", "--duration", "0.05", "--concurrency", "500"];

type Line = PointResult & { readonly repeats: number; readonly ci95?: Readonly<Record<string, [number, number]>> };

function linesOf(text: string): Line[] {
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);
}

describe("a sweep", () => {
  test("prints a JSON object for each point, in the order asked for, the same however many threads", () => {
    const one = runCli(...sweep, "--json", "--jobs", "1");
    expect(one.status).toBe(0);
    const lines = linesOf(one.stdout);
    expect(lines.map(({ design, cores }) => `${design} ${cores}`)).toEqual([
      "linux 1",
      "linux 2",
      "netpopcorn 1",
      "netpopcorn 2",
    ]);
    for (const line of lines) {
      expect(line).toMatchObject({
        workload: "web-epoll",
        machine: "e5-2695v2",
        protocol: "steady",
        repeats: 1,
        seed: 1,
      });
      expect(line.connsPerSec).toBeGreaterThan(1_000);
      expect(line.utilization).toHaveLength(line.cores);
      expect(SHARES.reduce((sum, name) => sum + line.shares[name], 0)).toBeCloseTo(1, 6);
      const { p50, p99, p999 } = line.latencyUs;
      expect(p50).toBeLessThanOrEqual(p99);
      expect(p99).toBeLessThanOrEqual(p999);
    }
    // Two cores do more than one, in the design that shares nothing.
    expect(lines[3]?.connsPerSec).toBeGreaterThan(1.5 * (lines[2]?.connsPerSec ?? 0));
    expect(runCli(...sweep, "--json", "--jobs", "4").stdout).toBe(one.stdout);
    expect(runCli(...sweep, "--json", "--seed", "2").stdout).not.toBe(one.stdout);
  });

  test("with repeats has confidence intervals around its means", () => {
    const { stdout } = runCli(...sweep, "--design", "netpopcorn", "--cores", "1", "--repeats", "3", "--json");
    const [line] = linesOf(stdout);
    const [low, high] = line?.ci95?.connsPerSec ?? [0, 0];
    expect(line).toMatchObject({ repeats: 3, seed: 1 });
    expect(low).toBeLessThanOrEqual(line?.connsPerSec ?? 0);
    expect(high).toBeGreaterThanOrEqual(line?.connsPerSec ?? 0);
    expect(low).toBeGreaterThan(0);
  });

  test("is a table without --json", () => {
    const { stdout, status } = runCli(...sweep);
    expect(status).toBe(0);
    const [header = "", ...rows] = stdout.trimEnd().split("\n");
    expect(header).toMatch(/^design +cores +conn\/s/);
    expect(rows).toHaveLength(4);
    for (const row of rows) expect(row).toMatch(/^(linux|netpopcorn) +[12] +[\d,]+ .*%$/);
  });

  test("on a machine from a file is simulated on that", () => {
    const machine = structuredClone(machineNamed("e5-2695v2")) as unknown as {
      name: string;
      constants: { clockGhz: { value: number } };
    };
    machine.name = "twice as fast";
    machine.constants.clockGhz.value *= 2;
    const file = join(folder, "machine.json");
    writeFileSync(file, JSON.stringify(machine));
    const args = [...sweep, "--design", "netpopcorn", "--cores", "1", "--json"];
    const [usual] = linesOf(runCli(...args).stdout);
    const [fast] = linesOf(runCli(...args, "--machine", file).stdout);
    expect(fast?.machine).toBe("twice as fast");
    expect(fast?.connsPerSec).toBeGreaterThan(1.7 * (usual?.connsPerSec ?? 0));
  });
});

describe("--out", () => {
  test("has the report, the tables and, with --explain, timelines that Perfetto reads", () => {
    const out = join(folder, "explained");
    const { status, stdout } = runCli(...sweep, "--explain", "--json", "--out", out);
    expect(status).toBe(0);
    const lines = linesOf(stdout);
    for (const line of lines) {
      expect(line.coreShares).toHaveLength(line.cores);
      expect(line.locks.length).toBeGreaterThan(0);
    }
    expect(readdirSync(out).sort()).toEqual([
      "index.html",
      "results.csv",
      "results.json",
      "results.jsonl",
      "trace-linux-1.json",
      "trace-linux-2.json",
      "trace-netpopcorn-1.json",
      "trace-netpopcorn-2.json",
    ]);
    const html = readFileSync(join(out, "index.html"), "utf8");
    expect(html).toContain("report-data");
    const csv = readFileSync(join(out, "results.csv"), "utf8").trimEnd().split("\r\n");
    expect(csv).toHaveLength(5);
    expect(new Set(csv.map((row) => row.split(",").length)).size).toBe(1);
    const records = JSON.parse(readFileSync(join(out, "results.json"), "utf8")) as Line[];
    expect(records.map(({ connsPerSec }) => connsPerSec)).toEqual(lines.map(({ connsPerSec }) => connsPerSec));
    for (const { design, cores } of lines)
      checkTrace(readFileSync(join(out, `trace-${design}-${cores}.json`), "utf8"), cores);
  });

  test("goes on where a killed sweep has ended", async () => {
    const out = join(folder, "killed");
    const args = [...sweep, "--cores", "1,2,3,4", "--duration", "0.15", "--json", "--out", out];
    const child = spawn(process.execPath, [cli, ...args, "--jobs", "1"], { stdio: "ignore" });
    const exited = new Promise((resolve) => child.once("exit", resolve));
    const file = join(out, "results.jsonl");
    for (let waits = 0; countLines(file) < 2; waits++) {
      if (waits > 2_000) throw new Error("no results are written");
      await sleep(20);
    }
    child.kill("SIGKILL");
    await exited;
    const kept = countLines(file);
    expect(kept).toBeLessThan(8);
    writeFileSync(file, `${readFileSync(file, "utf8")}{"key":"p123","resu`);
    const { status, stdout, stderr } = runCli(...args);
    expect(status).toBe(0);
    expect(stderr).toMatch(new RegExp(`^${kept} of 8 simulations were done before\\n`));
    expect(stderr).toContain(`${8 - kept} simulations in `);
    expect(stdout).toBe(runCli(...args.slice(0, -2)).stdout);
    // All are there now; --no-resume does them again.
    expect(runCli(...args).stderr).toMatch(/^8 of 8 simulations were done before\n/);
    expect(runCli(...args, "--no-resume").stderr).toContain("8 simulations in ");
  });

  test("Ctrl-C ends a sweep at once", async () => {
    const child = spawn(process.execPath, [cli, "sim", "--cores", "24", "--duration", "100", "--jobs", "2"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const exited = new Promise((resolve) => child.once("exit", resolve));
    await sleep(2_000);
    child.kill("SIGINT");
    expect(await exited).toBe(130);
    expect(stderr).toMatch(/netpopcorn: ERR_INTERRUPTED: ended by SIGINT\n$/);
  });
});

function countLines(file: string): number {
  try {
    return readFileSync(file, "utf8").split("\n").length - 1;
  } catch {
    return 0;
  }
}

/** Chrome's trace-event format, JSON object form: what Perfetto needs of complete ("X") and metadata ("M") events. */
function checkTrace(text: string, cores: number): void {
  const trace = JSON.parse(text) as {
    displayTimeUnit: string;
    traceEvents: (TraceEvent | { ph: "M"; name: string; tid: number; pid: number; args: object })[];
  };
  expect(["ms", "ns"]).toContain(trace.displayTimeUnit);
  const tracks = new Set<number>();
  const slices = new Map<number, TraceEvent[]>();
  for (const event of trace.traceEvents) {
    expect(Number.isInteger(event.pid) && Number.isInteger(event.tid)).toBe(true);
    expect(event.name).not.toBe("");
    if (event.ph === "M") {
      if (event.name === "thread_name") tracks.add(event.tid);
      continue;
    }
    expect(event.ph).toBe("X");
    expect(typeof event.cat).toBe("string");
    expect(Number.isFinite(event.ts) && event.ts >= 0).toBe(true);
    expect(Number.isFinite(event.dur) && event.dur >= 0).toBe(true);
    slices.set(event.tid, [...(slices.get(event.tid) ?? []), event]);
  }
  expect([...tracks].sort((a, b) => a - b)).toEqual(Array.from({ length: cores }, (_, core) => core));
  for (const [core, events] of slices) {
    expect(tracks.has(core)).toBe(true);
    // Slices of a track may nest but not overlap otherwise: Perfetto would drop them.
    const ends: number[] = [];
    for (const { ts, dur } of events.sort((a, b) => a.ts - b.ts || b.dur - a.dur)) {
      while (ends.length > 0 && (ends.at(-1) ?? 0) <= ts + 1e-6) ends.pop();
      expect(ts + dur).toBeLessThanOrEqual((ends.at(-1) ?? Number.POSITIVE_INFINITY) + 1e-3);
      ends.push(ts + dur);
    }
  }
  expect(slices.size).toBeGreaterThan(0);
}

describe("bad use ends in one line with a code and status 1", () => {
  const machineFile = (name: string, text: string) => {
    const file = join(folder, name);
    writeFileSync(file, text);
    return file;
  };
  const known = machineNamed("e5-2690");
  const { clockGhz: _clockGhz, ...rest } = known.constants;
  test.each([
    [["--design", "plan9"], "ERR_ARGUMENT", '--design must be .*netpopcorn.*, not "plan9"'],
    [["--design", ""], "ERR_ARGUMENT", "--design"],
    [["--cores", "0"], "ERR_ARGUMENT", '--cores must be an integer 1..128, not "0"'],
    [["--cores", "1,x"], "ERR_ARGUMENT", "--cores"],
    [["--cores", "1000"], "ERR_ARGUMENT", "--cores"],
    [["--workload", "web"], "ERR_ARGUMENT", "web-epoll"],
    [["--machine", "pdp-11"], "ERR_SIM_MACHINE", "there is no machine"],
    [["--machine", "missing.json"], "ENOENT", "cannot be read"],
    [["--machine", machineFile("a.json", "{")], "ERR_SIM_MACHINE", "is not JSON"],
    [["--machine", machineFile("b.json", "{}")], "ERR_SIM_MACHINE", "name"],
    [
      ["--machine", machineFile("c.json", JSON.stringify({ ...known, constants: rest }))],
      "ERR_SIM_MACHINE",
      "clockGhz.*missing",
    ],
    [["--skew", "7"], "ERR_ARGUMENT", "COUNT:SHARE"],
    [["--duration", "-1"], "ERR_ARGUMENT", "--duration"],
    [["--queue", "localhost"], "ERR_QUEUE_ADDRESS", "redis://HOST"],
    [["--queue", "redis://127.0.0.1:1"], "ERR_QUEUE_UNREACHABLE", "127.0.0.1:1"],
    [["--validate", "--sensitivity"], "ERR_USAGE", "one of them"],
    [["--validate", "NP1,XX9"], "ERR_ARGUMENT", 'there is no row "XX9"; there are held-out, checked, NP1,'],
    [["--set", "linkGbps"], "ERR_ARGUMENT", "linkGbps must be a number"],
    [["--set", "warpFactor=9"], "ERR_ARGUMENT", '"warpFactor=9" is no constant'],
    [["--set", "coresPerSocket=0.5"], "ERR_SIM_MACHINE", "coresPerSocket.*an integer"],
    [["--validate", "NP1", "--set", "linkGbps=40"], "ERR_USAGE", "leave --set out"],
    [["--validate", "NP1", "--design", "linux", "--cores", "4"], "ERR_USAGE", "leave --design, --cores out"],
    [["--validate", "--no-vfs-bypass"], "ERR_USAGE", "leave --no-vfs-bypass out"],
    [["--sensitivity", "--explain"], "ERR_USAGE", "--explain"],
    [["--out", ""], "ERR_ARGUMENT", "--out must name a folder"],
    [["--no-resume"], "ERR_USAGE", "--no-resume is about a folder"],
    [["--queue", "redis://127.0.0.1:1", "--jobs", "2"], "ERR_USAGE", "--jobs"],
    [["--ab-connections", "9"], "ERR_USAGE", "add --protocol ab"],
    [["--protocol", "ab", "--duration", "1"], "ERR_USAGE", "--duration is of steady runs"],
    [["--protocol", "ab", "--arrivals", "1"], "ERR_USAGE", "--arrivals is of steady runs"],
    [["--think-ms", "5"], "ERR_USAGE", "add --requests-per-conn"],
    [["--workload", "web-accept", "--accepts-per-event", "5"], "ERR_USAGE", "event loops"],
    [["--workload", "proxy", "--file-opens", "5"], "ERR_USAGE", "a proxy opens none"],
    [["--workload", "rpc", "--time-wait", "5"], "ERR_USAGE", "rpc's clients do"],
    [["--design", "mtcp", "--os", "2.6.32"], "ERR_USAGE", "--os is of designs in the operating system's kernel"],
    [["--design", "mtcp", "--procs-per-core", "8"], "ERR_USAGE", "--procs-per-core is of designs in"],
    [["--design", "mtcp", "--accepts-per-event", "1"], "ERR_USAGE", "--accepts-per-event is of designs in"],
    [["--design", "mtcp", "--threads"], "ERR_USAGE", "--threads is of designs in"],
    [["--sensitivity", "--cores", "1,2"], "ERR_USAGE", "--cores is one count"],
    [["--policy", "angel", "--design", "linux"], "ERR_USAGE", "is netpopcorn's"],
    [["--no-local-listen", "--design", "linux"], "ERR_USAGE", "--no-local-listen is fastsocket's"],
    [["--skew", "0:0.5"], "ERR_ARGUMENT", "--skew"],
    [["--background", "50:0.5", "--cores", "1,4"], "ERR_ARGUMENT", "50 busy cores, but the sweep has 4"],
    [["--out", "/proc/nosuch/x"], "(ENOENT|EACCES|EPERM|EROFS)", "--out"],
    [["--sensitivity", "--design", "netpopcorn"], "ERR_ARGUMENT", "design beside netpopcorn"],
    [["--out", "/dev/null/x"], "ENOTDIR", "--out"],
  ])("sim %j: %s", (args, code, reason) => {
    const { status, stdout, stderr } = runCli("sim", ...args, "--json");
    expect(stderr).toMatch(new RegExp(`^netpopcorn: ${code}: .*${reason}[^\\n]*\\n$`));
    expect(stdout).toBe("");
    expect(status).toBe(1);
  });

  test("a worker without a queue, or with one that nobody serves", () => {
    expect(runCli("worker")).toMatchObject({ status: 1, stderr: expect.stringMatching(/^netpopcorn: ERR_USAGE: /) });
    const { status, stderr } = runCli("worker", "--queue", "redis://127.0.0.1:1");
    expect(status).toBe(1);
    expect(stderr).toMatch(/^netpopcorn: ERR_QUEUE_UNREACHABLE: [^\n]+\n$/);
  });

  test("a folder that another sweep writes to", () => {
    const out = join(folder, "busy");
    mkdirSync(out);
    writeFileSync(join(out, ".lock"), String(process.pid));
    const { status, stderr } = runCli(...sweep, "--out", out);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^netpopcorn: ERR_OUT_BUSY: [^\n]+\n$/);
  });
});

test("workers elsewhere give the same results, also when one is killed", async (context) => {
  const missing = redisMissing();
  if (missing !== undefined) return context.skip(missing);
  const server = await RedisServer.start();
  const children: ChildProcess[] = [];
  const startWorker = (...args: string[]) => {
    const words = ["worker", "--queue", server.address, "--jobs", "1", "--lost-after", "3", "--json", ...args];
    const child = spawn(process.execPath, [cli, ...words], { stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
    return { child, events: () => linesOf(text) as unknown as { event: string }[] };
  };
  try {
    const args = [...sweep, "--cores", "1,2,3,4", "--json"];
    const local = runCli(...args).stdout;
    const killed = startWorker();
    const collecting = spawn(process.execPath, [cli, ...args, "--queue", server.address], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.push(collecting);
    let collected = "";
    collecting.stdout.setEncoding("utf8").on("data", (part: string) => {
      collected += part;
    });
    const exited = new Promise((resolve) => collecting.once("exit", resolve));
    for (let waits = 0; !killed.events().some(({ event }) => event === "point"); waits++) {
      if (waits > 1_000) throw new Error("the worker does nothing");
      await sleep(20);
    }
    killed.child.kill("SIGKILL");
    const other = startWorker("--drain");
    expect(await exited).toBe(0);
    expect(collected).toBe(local);
    const drained = new Promise((resolve) => other.child.once("exit", resolve));
    if (other.child.exitCode === null) await drained;
    expect(other.child.exitCode).toBe(0);
    expect(other.events().at(0)).toMatchObject({ event: "ready", jobs: 1 });
    expect(other.events().at(-1)).toMatchObject({ event: "end", failed: 0 });
  } finally {
    for (const child of children) child.kill("SIGKILL");
    server.stop();
  }
});
