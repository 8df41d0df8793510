/** Kernels killed behind a TAP, under real load: `serve --chaos`. */
import { afterEach, beforeEach, describe, expect, type TestContext, test } from "vitest";
import { missing, Namespace } from "../helpers/namespace.ts";
import { SERVER, Served } from "../helpers/serve.ts";

let namespace: Namespace;
let served: Served | undefined;

beforeEach((context: TestContext) => {
  const reason = missing("ping", "curl");
  if (reason !== undefined) context.skip(reason);
  namespace = new Namespace();
});

afterEach(async () => {
  await served?.[Symbol.asyncDispose]();
  served = undefined;
  await namespace?.[Symbol.asyncDispose]();
});

describe("serve --chaos on a TAP", () => {
  test("answers new connections and pings whatever kernel is gone", async () => {
    served = await Served.start(namespace, { app: "http", port: 80, kernels: 3, chaos: 1 });
    const began = Date.now();
    let answered = 0;
    // A busy machine takes longer for as many.
    while (Date.now() - began < 8000 || answered <= 100) {
      const urls = Array.from({ length: 20 }, () => `http://${SERVER}/kernel`);
      // A request that a kernel took into its grave gets RST or nothing: curl tries again, as a browser would.
      const tries = ["--retry", "3", "--retry-all-errors", "--retry-delay", "0", "--max-time", "3"];
      const curl = await namespace.run("curl", [
        "-sS",
        "--fail",
        ...tries,
        "-H",
        "Connection: close",
        "-w",
        "\n",
        ...urls,
      ]);
      expect(curl.status, curl.stderr).toBe(0);
      answered += curl.stdout.split("\n").filter((line) => line.startsWith("{")).length;
      // Not covered by flow groups: they come by the queue of one kernel, and by a loan while it is gone.
      namespace.ip("neighbor", "flush", "dev", "pop0");
      const ping = await namespace.run("ping", ["-c", "1", "-W", "3", SERVER]);
      expect(ping.status, ping.stdout).toBe(0);
    }
    const { status, stdout, stderr } = await served.interrupt();
    expect(status, stderr).toBe(0);
    expect(stdout.match(/^kernel \d down \(exit\)/gm)?.length).toBeGreaterThanOrEqual(5);
    expect(stdout.match(/^kernel \d up \(restarted\)/gm)?.length).toBeGreaterThanOrEqual(4);
    expect(namespace.ip("link", "show")).not.toMatch(/pop0/);
  });
});
