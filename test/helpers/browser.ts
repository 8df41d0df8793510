/** Pages in a headless Chromium: what they become, and how they look. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PNG } from "pngjs";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];

/** The browser's program, or undefined. */
export function findBrowser(): string | undefined {
  return NAMES.find((name) => spawnSync(name, ["--version"]).status === 0);
}

export type Look = { readonly isDark: boolean; readonly widthPixels: number; readonly heightPixels: number };

/** Opens `url` and returns the page's DOM after its scripts have run. */
export function dumpPage(browser: string, url: string, look: Look): string {
  return withProfile((profile) => runBrowser(browser, profile, look, ["--dump-dom", url]));
}

export function screenshot(browser: string, url: string, look: Look): PNG {
  return withProfile((profile) => {
    const file = join(profile, "screenshot.png");
    runBrowser(browser, profile, look, [`--screenshot=${file}`, url]);
    return PNG.sync.read(readFileSync(file));
  });
}

/** Pixels of exactly the colour "#rrggbb". */
export function countPixels({ data }: PNG, color: string): number {
  const wanted = Number.parseInt(color.slice(1), 16);
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    if ((((data[at] ?? 0) << 16) | ((data[at + 1] ?? 0) << 8) | (data[at + 2] ?? 0)) === wanted) count++;
  }
  return count;
}

function withProfile<Result>(use: (profile: string) => Result): Result {
  const profile = mkdtempSync(join(tmpdir(), "netpopcorn-browser-"));
  try {
    return use(profile);
  } finally {
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

function runBrowser(browser: string, profile: string, look: Look, words: readonly string[]): string {
  const run = spawnSync(
    browser,
    [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=5000"],
      `--user-data-dir=${profile}`,
      `--window-size=${look.widthPixels},${look.heightPixels}`,
      // Chromium's name for what the system prefers: 0 is dark, 1 is light.
      `--blink-settings=preferredColorScheme=${look.isDark ? 0 : 1}`,
      ...words,
    ],
    { encoding: "utf8", timeout: 120_000, maxBuffer: 1 << 28 },
  );
  if (run.status !== 0) throw new Error(`${browser} ended with ${run.status}: ${run.stderr.slice(-500)}`);
  return run.stdout;
}
