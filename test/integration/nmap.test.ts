/** nmap's scans and its probes for operating systems: exactly the open ports are found, and nothing breaks. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { missing, Namespace } from "../helpers/namespace.ts";
import { SERVER, Served } from "../helpers/serve.ts";

const PORT = 80;
const PORTS = "1-1024,5000-5100";
const SCANNED = 1024 + 101;

const reason = missing("nmap", "curl");

describe("nmap", () => {
  let host: Namespace;
  let served: Served;

  beforeAll(async () => {
    if (reason !== undefined) return;
    host = new Namespace();
    served = await Served.start(host, { app: "http", port: PORT });
  });

  afterAll(async () => {
    await served?.[Symbol.asyncDispose]();
    await host?.[Symbol.asyncDispose]();
  });

  test.for([
    ["SYN scan", ["-sS"]],
    ["connect scan", ["-sT"]],
    ["FIN, null and Xmas scans", ["-sX"]],
    ["operating system detection", ["-sS", "-O", "--osscan-guess"]],
  ] as const)("%s", async ([, kind], context) => {
    if (reason !== undefined) context.skip(reason);
    const scan = await host.run("nmap", ["-n", "-Pn", "-T4", "-p", PORTS, ...kind, "-oG", "-", SERVER], 120_000);
    expect(scan.status, scan.stderr).toBe(0);
    const line = scan.stdout.split("\n").find((each) => each.includes("Ports:")) ?? "";
    const open = [...line.matchAll(/(\d+)\/(open[^/]*)\//g)].map(([, port, state]) => [Number(port), state]);
    // A port that does not answer a scan without SYN or RST may be open or filtered (RFC 9293 3.10.7.2).
    expect(open).toEqual([[PORT, kind[0] === "-sX" ? "open|filtered" : "open"]]);
    expect(line).toContain(`Ignored State: closed (${SCANNED - 1})`);
    const curl = await host.run("curl", ["-sS", "--fail", `http://${SERVER}/kernel`]);
    expect(curl, curl.stderr).toMatchObject({ status: 0 });
  });

  test("the server ends in order afterwards", async (context) => {
    if (reason !== undefined) context.skip(reason);
    expect(await served.interrupt()).toMatchObject({ status: 0 });
  });
});
