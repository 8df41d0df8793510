/** What a router advertises about the link (RFC 4861 6.3.4), in all kernels of a stack and for its connections. */
import { afterEach, expect, test } from "vitest";
import { createFrameDevice, type FrameDevice } from "../../../src/device/frameDevice.ts";
import { steerInSoftware } from "../../../src/device/steered/device.ts";
import type { Connection } from "../../../src/socket/connection.ts";
import { createStack } from "../../../src/stack.ts";
import type { Stack } from "../../../src/types.ts";
import { concat, parseEthernet } from "../../helpers/packets.ts";
import { frame6, icmp6, parseIpv6 } from "../../helpers/packets6.ts";
import { createStackPair, readAll, testBytes, writeAll } from "../../helpers/stacks.ts";

const KERNELS = 3;
const TCP = 6;
const tuning = { memoryBytes: 64 << 20, connectionsMax: 1024 };

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

type Packet = { readonly bytes: number; readonly hopLimit: number };
/** TCP over IPv6 that the stack, and its peer, have sent. */
type Sent = { readonly own: Packet[]; readonly peer: Packet[] };

/** A stack of several kernels that hears routers, and one with a fixed address, with a wire between that is watched. */
async function create() {
  const sent: Sent = { own: [], peer: [] };
  const note = (side: "own" | "peer", frame: Uint8Array) => {
    const { etherType, payload } = parseEthernet(frame);
    if (etherType !== 0x86dd) return;
    const { nextHeader, hopLimit } = parseIpv6(payload);
    if (nextHeader === TCP) sent[side].push({ bytes: payload.length, hopLimit });
  };
  const devices: FrameDevice[] = [];
  const carry = (side: "own" | "peer", to: number) => (frame: Uint8Array) => {
    note(side, frame);
    devices[to]?.receive(frame);
  };
  devices.push(createFrameDevice({ transmit: carry("own", 1) }), createFrameDevice({ transmit: carry("peer", 0) }));
  const [own, peer] = devices as [FrameDevice, FrameDevice];
  const stack = await createStack({
    device: await steerInSoftware(own, { queues: KERNELS }),
    address: ["fd07::1/64", "slaac"],
    seed: "own",
    tuning,
  });
  cleanUp.push(() => stack.close({ drainMs: 0 }));
  const far = await createStack({ device: peer, address: "fd07::2/64", seed: "peer", tuning });
  cleanUp.push(() => far.close({ drainMs: 0 }));
  const advertise = (mtu: number, hopLimit: number) => {
    const option = Uint8Array.of(5, 1, 0, 0, 0, 0, mtu >> 8, mtu & 255);
    const packet = icmp6({ source: "fe80::99", destination: "ff02::1", hopLimit: 255 }, 134, {
      rest: ((hopLimit << 24) | 1800) >>> 0,
      body: concat(new Uint8Array(8), option),
    });
    own.receive(frame6("33:33:00:00:00:01", "02:00:00:00:00:99", packet));
  };
  return { stack, far, sent, advertise };
}

/** Opens a connection by each kernel in turn, with `bytes` there and back. */
async function exchange(stack: Stack, data: Uint8Array): Promise<void> {
  const connection = await stack.connect({ address: "fd07::2", port: 7 });
  const reading = readAll(connection.readable);
  await writeAll(connection, data);
  expect(Buffer.compare(await reading, data)).toBe(0);
}

/**
 * Until new connections of all kernels show that they have it: an advertisement goes from one kernel to the others, and
 * changes are told once a second at most. The test's time limit is the end.
 */
async function exchangeUntil(stack: Stack, sent: Sent, data: Uint8Array, is: () => boolean): Promise<void> {
  do {
    sent.own.length = 0;
    sent.peer.length = 0;
    for (let i = 0; i < KERNELS; i++) await exchange(stack, data);
  } while (!is());
}

const echo = ({ readable, writable }: Connection) => void readable.pipeTo(writable).catch(() => {});
const largest = (packets: readonly { bytes: number }[]) => Math.max(0, ...packets.map(({ bytes }) => bytes));

test("MTU and hop limit reach every kernel; an MTU that falls breaks no connection", async () => {
  const { stack, far, sent, advertise } = await create();
  await far.listen({ port: 7, onConnection: echo });
  const data = testBytes(60_000);
  const until = (is: () => boolean) => exchangeUntil(stack, sent, data, is);
  await until(() => largest(sent.own) === 1500);
  expect(new Set(sent.own.map(({ hopLimit }) => hopLimit))).toEqual(new Set([64]));

  // These stay open.
  const open = await Promise.all(
    Array.from({ length: KERNELS }, async () => stack.connect({ address: "fd07::2", port: 7 })),
  );
  const writers = open.map(({ writable }) => writable.getWriter());
  const readings = open.map(({ readable }) => readAll(readable));
  await Promise.all(writers.map(async (writer) => writer.write(testBytes(30_000, 5))));
  advertise(1400, 33);
  // The peer's segments to new connections are what the own MSS allows.
  await until(() => largest(sent.own) === 1400 && largest(sent.peer) === 1400);
  expect(new Set(sent.own.map(({ hopLimit }) => hopLimit))).toEqual(new Set([33]));

  sent.own.length = 0;
  await Promise.all(writers.map(async (writer) => writer.write(testBytes(30_000, 7))));
  await Promise.all(writers.map(async (writer) => writer.close()));
  const expected = Buffer.concat([testBytes(30_000, 5), testBytes(30_000, 7)]);
  for (const reading of readings) expect(Buffer.compare(await reading, expected)).toBe(0);
  expect(largest(sent.own)).toBe(1400);
  for (const kernel of (await stack.stats()).kernels) expect(kernel.tcpPathMtuReduced).toBe(1);

  // No MTU of this device's, and none of IPv6: the last good one stays. Then the device's own again.
  advertise(9000, 33);
  advertise(1279, 34);
  await until(() => sent.own.some(({ hopLimit }) => hopLimit === 34));
  expect(largest(sent.own)).toBe(1400);
  advertise(1500, 35);
  await until(() => largest(sent.own) === 1500 && largest(sent.peer) === 1500);
});

test("those that wait to be accepted do so through a narrower MTU", async () => {
  const pair = await createStackPair({
    client: { address: ["10.7.0.1/24", "fd07::1/64"] },
    server: { address: ["10.7.0.2/24", "fd07::2/64"] },
  });
  cleanUp.push(pair.close);
  // Not by the stack's listen(), which accepts at once.
  const exports = (pair.server.kernels[0] as (typeof pair.server.kernels)[0]).exports;
  const listener = exports.tcpListen(-1, 80, 16);
  const first = await pair.client.connect({ address: "fd07::2", port: 80 });
  expect(exports.linkSet(1300, 0, 0, 0)).toBe(0);
  await pair.client.connect({ address: "fd07::2", port: 80 });
  const total = async () => (await pair.server.stats()).total;
  await expect.poll(async () => (await total()).gaugeAcceptQueue).toBe(2);
  // It stays in the queue, to be accepted with its error.
  first.abort();
  await expect.poll(async () => (await total()).gaugeFlows).toBe(1);
  for (let i = 0; i < 2; i++) expect(exports.tcpAccept(listener)).toBeGreaterThanOrEqual(0);
});

test("a connection that moves meanwhile keeps to it in the kernel it comes to", async () => {
  const pair = await createStackPair({
    serverKernels: 2,
    client: { address: ["10.7.0.1/24", "fd07::1/64"] },
    server: { address: ["10.7.0.2/24", "fd07::2/64"], balancer: "static" },
  });
  cleanUp.push(pair.close);
  const listener = await pair.server.listen(80);
  const theirs = await pair.client.connect({ address: "fd07::2", port: 80 });
  const ours = (await listener.accept()) as Connection;
  const to = 1 - ours.kernelId;
  // As when the change has come here and not yet there.
  expect(pair.server.kernels[to]?.exports.linkSet(1300, 0, 0, 0)).toBe(0);
  await pair.server.migrate(ours.remotePort & 4095, to);
  const data = testBytes(50_000);
  const reading = readAll(theirs.readable);
  await writeAll(ours, data);
  expect(Buffer.compare(await reading, data)).toBe(0);
  const { kernels } = await pair.server.stats();
  expect(kernels.map(({ tcpPathMtuReduced }) => tcpPathMtuReduced)).toEqual(to === 0 ? [1, 0] : [0, 1]);
});

test("a kernel that is started again has what was advertised before", async () => {
  const { stack, far, sent, advertise } = await create();
  await far.listen({ port: 7, onConnection: echo });
  const data = testBytes(20_000);
  advertise(1300, 21);
  await exchangeUntil(stack, sent, data, () => largest(sent.own) === 1300 && largest(sent.peer) === 1300);
  const states: string[] = [];
  stack.on("kernel", ({ kernelId, state }) => states.push(`${kernelId} ${state}`));
  // Not the one that has heard the router.
  stack.killKernel(KERNELS - 1);
  await expect.poll(() => states.at(-1), { timeout: 10_000 }).toBe(`${KERNELS - 1} up`);
  sent.own.length = 0;
  sent.peer.length = 0;
  for (let i = 0; i < 2 * KERNELS; i++) await exchange(stack, data);
  expect(largest(sent.own)).toBe(1300);
  expect(largest(sent.peer)).toBe(1300);
  expect(new Set(sent.own.map(({ hopLimit }) => hopLimit))).toEqual(new Set([21]));
});
