/** Flow labels of what a stack sends over IPv6 (RFC 6437 3). */
import { afterEach, expect, test } from "vitest";
import { createFrameDevice, type FrameDevice } from "../../../src/device/frameDevice.ts";
import { steerInSoftware } from "../../../src/device/steered/device.ts";
import type { Connection } from "../../../src/socket/connection.ts";
import { createStack } from "../../../src/stack.ts";
import { parseEthernet, pattern } from "../../helpers/packets.ts";
import { readAll, testBytes, writeAll } from "../../helpers/stacks.ts";

const KERNELS = 3;
const TCP = 6;
const UDP = 17;
const FRAGMENT = 44;
const ICMPV6 = 58;
const tuning = { memoryBytes: 64 << 20, connectionsMax: 1024 };

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

type Sent = { readonly next: number; readonly label: number; readonly ports: string };

/** A stack of several kernels whose packets over IPv6 are watched, and another one. */
async function create() {
  const sent: Sent[] = [];
  const note = (frame: Uint8Array) => {
    const { etherType, payload } = parseEthernet(frame);
    if (etherType !== 0x86dd) return;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const ports = `${view.getUint16(40)} ${view.getUint16(42)}`;
    sent.push({ next: view.getUint8(6), label: view.getUint32(0) & 0xfffff, ports });
  };
  const devices: FrameDevice[] = [];
  const carry = (to: number, watched: boolean) => (frame: Uint8Array) => {
    if (watched) note(frame);
    devices[to]?.receive(frame);
  };
  devices.push(createFrameDevice({ transmit: carry(1, true) }), createFrameDevice({ transmit: carry(0, false) }));
  const [own, peer] = devices as [FrameDevice, FrameDevice];
  const device = await steerInSoftware(own, { queues: KERNELS });
  const stack = await createStack({ device, address: "fd07::1/64", seed: "own", balancer: "static", tuning });
  cleanUp.push(() => stack.close({ drainMs: 0 }));
  const far = await createStack({ device: peer, address: "fd07::2/64", seed: "peer", tuning });
  cleanUp.push(() => far.close({ drainMs: 0 }));
  const labels = (next: number, ports?: string) => [
    ...new Set(
      sent.filter((packet) => packet.next === next && (ports ?? packet.ports) === packet.ports).map((p) => p.label),
    ),
  ];
  return { stack, far, sent, labels };
}

test("TCP: one label for a connection, from SYN-ACK to the end, in every kernel; another for another", async () => {
  const { stack, far, labels } = await create();
  const listener = await stack.listen(80);
  const seen = new Set<number>();
  for (let i = 0; i < 4; i++) {
    const theirs = await far.connect({ address: "fd07::1", port: 80 });
    const ours = (await listener.accept()) as Connection;
    const reading = readAll(theirs.readable);
    const writer = ours.writable.getWriter();
    for (let round = 0; round < KERNELS; round++) {
      await writer.write(testBytes(5000, round));
      await stack.migrate(ours.remotePort & 4095, (ours.kernelId + 1) % KERNELS);
    }
    await writer.close();
    expect((await reading).length).toBe(KERNELS * 5000);
    const own = labels(TCP, `80 ${ours.remotePort}`);
    expect(own).toHaveLength(1);
    expect(own[0]).toBeGreaterThan(0);
    seen.add(own[0] as number);
    await writeAll(theirs);
  }
  expect(seen.size).toBe(4);
});

test("UDP: one label for a pair of sockets, fragments too; ICMPv6 and neighbour discovery have none", async () => {
  const { stack, far, labels } = await create();
  const to = await far.bindUdp(53);
  const from = await stack.bindUdp(0);
  for (const bytes of [10, 1400, 10]) {
    from.send(pattern(bytes), { address: "fd07::2", port: 53 });
    await to.receive();
  }
  const [label, ...others] = labels(UDP);
  expect(others).toEqual([]);
  expect(label).toBeGreaterThan(0);
  from.send(pattern(5000), { address: "fd07::2", port: 53 });
  await to.receive();
  expect(labels(FRAGMENT)).toEqual([label]);
  const other = await far.bindUdp(54);
  from.send(pattern(10), { address: "fd07::2", port: 54 });
  await other.receive();
  expect(labels(UDP)).toHaveLength(2);
  expect(labels(ICMPV6)).toEqual([0]);
});
