/** `netpopcorn/register`: a proxy in kernel threads listens, and asks its back end, by way of the stack. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

describe("netpopcorn/register in kernels' threads", () => {
  it.each([
    ["imported by the application", [], "registeredProxy.mjs"],
    ["by --import", ["--import", "netpopcorn/register"], "proxyServer.mjs"],
  ] as const)("%s", async (_form, flags, app) => {
    const args = [...flags, "test/fixtures/runProxy.mjs", `test/fixtures/${app}`];
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: ROOT, timeout: 60_000 });
    // Whom the back end has seen is the stack: the host has no such address.
    expect(stdout).toBe("proxied: for 10.7.0.2\n".repeat(8));
  });
});
