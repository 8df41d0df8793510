/** Socket options by their usual names: at the Web level, on listeners, and where Node has them. */
import type { Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as OPTION from "../../../src/layout/option.ts";
import { createNet } from "../../../src/net/index.ts";
import { kernelOptions, type SocketOptions } from "../../../src/socket/options.ts";
import { KERNEL_BUILDS, KernelBench, openPassive } from "../../helpers/kernelBench.ts";
import { createStackPair, type StackPair } from "../../helpers/stacks.ts";

const SERVER = "10.7.0.2";
let pair: StackPair;

beforeAll(async () => {
  // Every path of these tests needs data to be acknowledged, none to be waited for.
  pair = await createStackPair({ client: { tuning: { keepaliveProbesMax: 2 } } });
});

afterAll(() => pair.close());

describe("kernelOptions", () => {
  it("converts to the kernel's units", () => {
    const options: SocketOptions = { TCP_NODELAY: true, TCP_KEEPIDLE: 10, TCP_CONGESTION: "reno", SO_LINGER: 0 };
    expect(kernelOptions({ ...options, SO_REUSEADDR: true })).toEqual([
      [OPTION.OPTION_NODELAY, 1],
      [OPTION.OPTION_KEEPALIVE_IDLE_MS, 10_000],
      [OPTION.OPTION_CONGESTION, OPTION.CONGESTION_RENO],
      [OPTION.OPTION_LINGER_RESET, 1],
    ]);
  });

  it.each([
    [{ TCP_KEEPIDLE: 0 }, "ERR_OPTION_RANGE", "TCP_KEEPIDLE is 0; it must be an integer 1..32767"],
    [{ TCP_CORK: 1 }, "ERR_OPTION_RANGE", "TCP_CORK is 1; it must be true or false"],
    [{ TCP_CONGESTION: "vegas" }, "ERR_OPTION_RANGE", "it must be reno, cubic, bbr"],
    [{ toString: 1 }, "ERR_OPTION_UNKNOWN", "there is no socket option toString"],
  ])("%o is refused", (options, code, message) => {
    expect(() => kernelOptions(options as SocketOptions)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) }),
    );
  });
});

describe("listen and connect", () => {
  it("take options that the first segments show", async () => {
    const listener = await pair.server.listen(7, { socketOptions: { TCP_MAXSEG: 900, TCP_NODELAY: true } });
    const client = await pair.client.connect({ address: SERVER, port: 7, socketOptions: { TCP_MAXSEG: 800 } });
    const server = await listener.accept();
    // 12 bytes of every segment are timestamps.
    expect(client.tcpInfo().tcpi_snd_mss).toBe(800 - 12);
    expect(server?.tcpInfo()).toMatchObject({ tcpi_snd_mss: 800 - 12, tcpi_state: 1, tcpi_unacked: 0 });
    client.setOptions({ TCP_CORK: true, TCP_USER_TIMEOUT: 1000, SO_KEEPALIVE: true, TCP_KEEPCNT: 3 });
    expect(() => client.setOptions({ TCP_MAXSEG: 5 })).toThrow(expect.objectContaining({ code: "ERR_OPTION_RANGE" }));
    client.abort();
    await expect(client.closed).rejects.toThrow();
    expect(() => client.tcpInfo()).toThrow(expect.objectContaining({ code: "EBADF" }));
    await listener.close();
  });

  it("refuse options before anything is opened", async () => {
    const socketOptions = { TCP_NO_SUCH: true } as SocketOptions;
    await expect(pair.server.listen(8, { socketOptions })).rejects.toMatchObject({ code: "ERR_OPTION_UNKNOWN" });
    const connecting = pair.client.connect({ address: SERVER, port: 8, socketOptions });
    await expect(connecting).rejects.toMatchObject({ code: "ERR_OPTION_UNKNOWN" });
    // The port is free.
    await (await pair.server.listen(8)).close();
  });

  it("SO_LINGER 0 makes of close a reset", async () => {
    const listener = await pair.server.listen(9, { socketOptions: { SO_LINGER: 0 } });
    const client = await pair.client.connect({ address: SERVER, port: 9 });
    const server = await listener.accept();
    await server?.close();
    await expect(client.closed).rejects.toMatchObject({ code: "ECONNRESET" });
    await listener.close();
  });
});

describe("netpopcorn/net", () => {
  it("setKeepAlive's delay counts, in whole seconds", async () => {
    const server = createNet(pair.server).createServer({ keepAlive: true, keepAliveInitialDelay: 1500 });
    await new Promise<void>((resolve) => server.listen(10, SERVER, resolve));
    const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
    const client = createNet(pair.client).connect({ host: SERVER, port: 10 });
    const socket = await accepted;
    const before = (await pair.server.stats()).total.tcpKeepaliveProbes ?? 0;
    await expect
      .poll(async () => (await pair.server.stats()).total.tcpKeepaliveProbes, { timeout: 5000 })
      .toBe(before + 1);
    client.destroy();
    socket.destroy();
    server.close();
  });
});

describe.each(KERNEL_BUILDS)("settings in the %s kernel", (build) => {
  const bench = new KernelBench({ build, tuning: { connectionsMax: 4 } });

  it("end with the connection: the next in the same slot has none", () => {
    const { peer, handle, listener } = openPassive(bench);
    expect(bench.wasm.tcpSetOption(handle, OPTION.OPTION_CORK, 1)).toBe(0);
    bench.wasm.tcpAbort(handle);
    bench.turn();
    peer.expect({ flags: "rst ack" });
    const again = openPassive(bench, { port: 5001 }, listener);
    bench.write(again.handle, new Uint8Array(10));
    again.peer.expect({ payloadBytes: 10 });
    bench.wasm.tcpAbort(again.handle);
  });

  it("are refused for values out of range, and for handles that are none", () => {
    const { handle } = openPassive(bench, { kernelPort: 81 });
    expect(bench.wasm.tcpSetOption(handle, OPTION.OPTION_KEEPALIVE_PROBES, 0)).toBe(-22);
    expect(bench.wasm.tcpSetOption(handle, OPTION.OPTION_MSS_BYTES, 63)).toBe(-22);
    expect(bench.wasm.tcpSetOption(handle, 99, 1)).toBe(-22);
    expect(bench.wasm.tcpListenSetOption(handle, OPTION.OPTION_NODELAY, 1)).toBe(-9);
    expect(bench.wasm.tcpSetOption(0x7fffffff, OPTION.OPTION_CORK, 1)).toBe(-9);
  });
});
