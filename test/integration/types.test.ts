/** The package's types in a strict project of a user's, as each kind of resolution finds them; libraries checked. */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

const USER = `
import http from "node:http";
import { createSegment, createStack, NetPopcornError, TUNING_RANGES } from "netpopcorn";
import type { Application, Connection, KernelStack, TcpInfo, Tuning } from "netpopcorn";
import net, { createNet } from "netpopcorn/net";
import dgram, { createDgram } from "netpopcorn/dgram";
import { redirectNode } from "netpopcorn/redirect";
import "netpopcorn/register";

const segment = await createSegment({ impairments: { lossPpm: 1000 } });
await using stack = await createStack({
  device: segment.createCard({ queues: 2 }),
  address: ["10.7.0.1/24", "fd07::1/64"],
  balancer: { policy: "angel" },
  tuning: { rtoMinUs: TUNING_RANGES.rtoMinUs.default },
});
const listener = await stack.listen(7, { onConnection: ({ readable, writable }) => void readable.pipeTo(writable) });
const connection: Connection = await stack.connect({ address: "10.7.0.1", port: 7 });
await connection.writable.getWriter().write(new Uint8Array(1));
const { value } = await connection.readable.getReader({ mode: "byob" }).read(new Uint8Array(5));
const length: number | undefined = value?.length;
for await (const accepted of listener) {
  const info: TcpInfo = accepted.tcpInfo();
  console.log(info.tcpi_rtt);
}
for await (const { data, address, port } of await stack.bindUdp(9)) console.log(data.length, address, port);
stack.on("error", ({ error, kernelId, fatal }) => console.log(error.message, kernelId, fatal));
const bound = createNet(stack);
bound.listenOn(http.createServer(), 80);
const server: import("node:net").Server = bound.createServer((socket) => socket.end()).listen(5);
createDgram(stack).createSocket("udp4", (_message, from) => console.log(from.port)).bind(5);
net.connect({ port: 5, host: "10.7.0.1" });
dgram.createSocket("udp6");
const undo: () => void = redirectNode(stack);
const application: Application = async (kernel: KernelStack, { port }: { port: number }) => {
  await kernel.listen(port);
};
try {
  await stack.migrate(1, 1);
} catch (error) {
  if (error instanceof NetPopcornError) console.log(error.code satisfies string);
}
// @ts-expect-error There is no such option.
await createStack({ device: segment.createCard(), address: "10.7.0.2/24", kernel: 2 });
const wanted: Partial<Tuning> = { sack: 0 };
export { application, length, server, undo, wanted };
`;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "netpopcorn-types-"));
  mkdirSync(join(folder, "node_modules/@types"), { recursive: true });
  symlinkSync(ROOT, join(folder, "node_modules/netpopcorn"));
  symlinkSync(join(ROOT, "node_modules/@types/node"), join(folder, "node_modules/@types/node"));
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  writeFileSync(join(folder, "user.ts"), USER);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each([
  ["node16", "node16"],
  ["nodenext", "nodenext"],
  ["bundler", "esnext"],
])("moduleResolution %s", async (moduleResolution, module) => {
  const compilerOptions = {
    ...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false },
    ...{ noEmit: true, target: "es2022", module, moduleResolution, types: ["node"] },
    // What docs/api.md says of `lib`: WebAssembly and MessagePort are not among Node's own types.
    lib: ["ES2022", "ESNext.Disposable", "DOM", "DOM.Iterable"],
  };
  const config = join(folder, `tsconfig.${moduleResolution}.json`);
  writeFileSync(config, JSON.stringify({ compilerOptions, files: ["user.ts"] }));
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  const result = await run(process.execPath, [tsc, "-p", config]).catch((error) => error);
  expect(result).toMatchObject({ stdout: "" });
});
