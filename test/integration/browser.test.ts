/** The package in a page of a real browser: no Node, no bundler, plain modules over HTTP. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { findBrowser } from "../helpers/browser.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const FOLDERS = /^\/(dist|build|test\/fixtures|node_modules\/@assemblyscript\/loader)\/[\w./-]+$/;
const TYPES: Record<string, string> = {
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};
const BUNDLE = "/bundle.js";
const PAGE_BUNDLED = `<!doctype html><title>NetPopcorn</title><script type="module" src="${BUNDLE}"></script>`;
const PAGE = `<!doctype html><title>NetPopcorn</title>
<script type="importmap">{"imports": {
  "netpopcorn": "/dist/index.js",
  "@assemblyscript/loader": "/node_modules/@assemblyscript/loader/index.js"
}}</script>
<script type="module" src="/test/fixtures/browserPage.mjs"></script>`;
/** With these a page may share memories between threads. */
const ISOLATION = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

const VISIT_MS_MAX = 60_000;
const browser = findBrowser();
let bundle = "";
beforeAll(async () => {
  if (browser === undefined) return;
  // As a user's bundler would: in one file, somewhere else than the WebAssembly modules.
  const { outputFiles } = await build({
    stdin: {
      contents: `import { setModuleBase } from "./dist/index.js";
        setModuleBase("build");
        await import("./test/fixtures/browserPage.mjs");`,
      resolveDir: ROOT,
    },
    alias: { netpopcorn: "./dist/index.js" },
    external: ["node:*"],
    bundle: true,
    minify: true,
    platform: "browser",
    format: "esm",
    write: false,
  });
  bundle = outputFiles[0]?.text ?? "";
});

const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

async function answer(path: string, response: ServerResponse, headers: Record<string, string>): Promise<void> {
  const html = { ...headers, "Content-Type": "text/html" };
  if (path === "/") response.writeHead(200, html).end(PAGE);
  else if (path === "/bundled") response.writeHead(200, html).end(PAGE_BUNDLED);
  else if (path === BUNDLE) response.writeHead(200, { ...headers, "Content-Type": TYPES[".js"] }).end(bundle);
  else if (!FOLDERS.test(path) || path.includes("..")) response.writeHead(404).end();
  else {
    const body = await readFile(join(ROOT, path)).catch(() => undefined);
    const type = TYPES[extname(path)] ?? "application/octet-stream";
    response.writeHead(body ? 200 : 404, { ...headers, "Content-Type": type }).end(body);
  }
}

/** Opens the page and waits for what it finds. */
async function visit(program: string, headers: Record<string, string>, path = ""): Promise<unknown> {
  let tell: (result: unknown) => void = () => {};
  const told = new Promise((resolve) => {
    tell = resolve;
  });
  const server = createServer((request, response) => {
    if (request.method !== "POST") return void answer(request.url ?? "/", response, headers);
    let text = "";
    request.setEncoding("utf8").on("data", (piece: string) => {
      text += piece;
    });
    request.on("end", () => {
      response.end();
      tell(JSON.parse(text));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUp.push(() => server.close());
  const profile = mkdtempSync(join(tmpdir(), "netpopcorn-browser-"));
  cleanUp.push(() => rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 }));
  const { port } = server.address() as AddressInfo;
  const words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"];
  const url = `http://127.0.0.1:${port}/${path}`;
  const child = spawn(program, [...words, `--user-data-dir=${profile}`, "--remote-debugging-port=0", url], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = new Promise((resolve) => child.once("close", resolve));
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (piece: string) => {
    errors += piece;
  });
  cleanUp.push(async () => {
    child.kill("SIGKILL");
    await ended;
    server.closeAllConnections();
  });
  const gone = ended.then((code) => {
    throw new Error(`${program} ended with ${code}: ${errors.slice(-500)}`);
  });
  const late = sleep(VISIT_MS_MAX, undefined, { ref: false }).then(() => {
    throw new Error(`the page has told nothing in ${VISIT_MS_MAX} ms: ${errors.slice(-500)}`);
  });
  return await Promise.race([told, gone, late]);
}

describe("in a browser", () => {
  const expected = { segment: { short: 50, isLongRight: true }, messages: "by messages" };

  it("two hosts exchange bytes, on a segment and by frames that the page carries", async (context) => {
    if (browser === undefined) return context.skip("no chromium");
    expect(await visit(browser, {})).toEqual({ ...expected, isolated: false });
  });

  it("and in a page that may share memories", async (context) => {
    if (browser === undefined) return context.skip("no chromium");
    expect(await visit(browser, ISOLATION)).toEqual({ ...expected, isolated: true });
  });

  it("and out of a bundle", async (context) => {
    if (browser === undefined) return context.skip("no chromium");
    expect(await visit(browser, {}, "bundled")).toEqual({ ...expected, isolated: false });
  });
});
