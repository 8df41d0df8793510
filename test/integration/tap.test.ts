/**
 * The TAP device alone, against Linux in a namespace: opening and its errors, frames both ways, waking sleeping
 * kernels, steering. What answers is a stand-in kernel, so that a failure here is the device's.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { TapDevice, TapOptions } from "../../src/device/tap/device.ts";
import { importBuilt } from "../helpers/dist.ts";
import { exited, missing, Namespace } from "../helpers/namespace.ts";
import { createQueuePair } from "../helpers/queuePair.ts";
import { StandInKernel } from "../helpers/standInKernel.ts";

const HOST = "10.7.0.1";
const OURS = "10.7.0.2";
const UDP_PORT = 7000;
/** The program places by ports, not by addresses. */
const ANY = new Uint8Array(16);
const FLOWS = 64;

const { openTap } = await importBuilt<typeof import("../../src/device/tap/device.ts")>("device/tap/device.js");

describe("TAP device", () => {
  let namespace: Namespace;
  const devices: TapDevice[] = [];
  const kernels: StandInKernel[] = [];

  beforeEach((context) => {
    const reason = missing("ping");
    if (reason !== undefined) context.skip(reason);
    namespace = new Namespace();
  });

  afterEach(async () => {
    await Promise.all(kernels.splice(0).map((kernel) => kernel.stop()));
    await Promise.all(devices.splice(0).map((device) => device.close()));
    await namespace?.[Symbol.asyncDispose]();
  });

  async function open(options: Partial<TapOptions> = {}): Promise<TapDevice> {
    const device = await openTap({ name: "pop0", queues: 1, netns: namespace.name, ...options });
    devices.push(device);
    return device;
  }

  /** A stand-in kernel on each queue. */
  async function openWithKernels(queues: number, shared = true): Promise<TapDevice> {
    const device = await open({ queues, hostAddress: `${HOST}/24` });
    for (let queue = 0; queue < queues; queue += 1) {
      const kernel = new StandInKernel(queue, device.mac, shared);
      kernel.run(device.openPort(queue, kernel.pair));
      kernels.push(kernel);
    }
    return device;
  }

  /** The namespace sends one datagram from each of FLOWS ports, from `firstPort` on. */
  async function sendDatagrams(firstPort: number, to = OURS): Promise<void> {
    const source = `
      const [first, flows, to, port] = process.argv.slice(1);
      for (let flow = 0; flow < Number(flows); flow++) {
        const socket = require("node:dgram").createSocket(to.includes(":") ? "udp6" : "udp4");
        socket.bind(Number(first) + flow, () => socket.send("x", Number(port), to, () => socket.close()));
      }`;
    const sent = await namespace.run(process.execPath, ["-e", source, `${firstPort}`, `${FLOWS}`, to, `${UDP_PORT}`]);
    expect(sent).toMatchObject({ status: 0, stderr: "" });
  }

  /** Queue on which each source port's datagram has arrived. */
  function arrivals(portsOffset: number): Map<number, number> {
    const queues = new Map<number, number>();
    kernels.forEach((kernel, queue) => {
      for (const frame of kernel.frames) {
        const view = new DataView(frame.buffer);
        if (frame.length < portsOffset + 4 || view.getUint16(portsOffset + 2) !== UDP_PORT) continue;
        queues.set(view.getUint16(portsOffset), queue);
      }
    });
    return queues;
  }

  async function arrived(portsOffset: number): Promise<Map<number, number>> {
    await expect.poll(() => arrivals(portsOffset).size, { timeout: 10_000 }).toBe(FLOWS);
    return arrivals(portsOffset);
  }

  describe("opening", () => {
    test("creates the device with its queues, address and MTU, and removes it again", async () => {
      const device = await open({ queues: 3, mtuBytes: 9000, hostAddress: "10.9.0.1/16" });
      expect(device.name).toBe("pop0");
      expect(device.capabilities).toMatchObject({ queues: 3, mtuBytes: 9000, steering: "ebpf", flowGroups: 4096 });
      const shown = namespace.ip("address", "show", "pop0");
      expect(shown).toMatch(/UP/);
      expect(shown).toMatch(/mtu 9000/);
      expect(shown).toMatch(/qlen 1000/);
      expect(shown).toMatch(/inet 10\.9\.0\.1\/16/);
      await device.close();
      expect(namespace.ip("link", "show")).not.toMatch(/pop0/);
    });

    test("the host numbers a name with %d, and takes an IPv6 address", async () => {
      const device = await open({ name: "pop%d", hostAddress: "fd00:7::1/64" });
      expect(device.name).toBe("pop0");
      expect(namespace.ip("-6", "address", "show", "pop0")).toMatch(/fd00:7::1\/64/);
    });

    test("takes a persistent multi-queue device with its MTU, and leaves it", async () => {
      namespace.ip("tuntap", "add", "dev", "pop0", "mode", "tap", "multi_queue");
      namespace.ip("link", "set", "pop0", "mtu", "1400");
      const device = await open({ queues: 2 });
      expect(device.capabilities.mtuBytes).toBe(1400);
      await device.close();
      expect(namespace.ip("link", "show", "pop0")).toMatch(/pop0/);
    });

    test("EINVAL: the device is not multi-queue; its one queue can be had", async () => {
      namespace.ip("tuntap", "add", "dev", "pop0", "mode", "tap");
      const message = expect.stringContaining("multi_queue");
      await expect(open({ queues: 2 })).rejects.toMatchObject({ code: "EINVAL", message });
      const device = await open();
      expect(device.capabilities.queues).toBe(1);
      await expect(open()).rejects.toMatchObject({ code: "EBUSY" });
    });

    test("EBUSY: another program has the device, which is undisturbed", async () => {
      await open();
      await expect(open()).rejects.toMatchObject({ code: "EBUSY" });
      expect(namespace.ip("link", "show", "pop0")).toMatch(/pop0/);
    });

    test("ENODEV: no such namespace", async () => {
      await expect(open({ netns: "npt-none" })).rejects.toMatchObject({ code: "ENODEV" });
    });

    test.each([
      { name: "a name too long" },
      { name: "" },
      { queues: 0 },
      { queues: 256 },
      { mtuBytes: 100 },
      { mac: new Uint8Array([1, 0, 0, 0, 0, 0]) },
      { localPorts: { first: 9, last: 8 } },
    ])("ERR_OPTION_RANGE: %o", async (options) => {
      await expect(open(options)).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
    });

    test("ERR_ADDRESS_FORMAT: the host's address is not in CIDR form", async () => {
      await expect(open({ hostAddress: "10.7.0.1" })).rejects.toMatchObject({ code: "ERR_ADDRESS_FORMAT" });
    });

    /** Opens pop0 with two queues as root with fewer capabilities. @returns what the child has printed. */
    async function openWithout(capabilities: string): Promise<unknown> {
      const module = new URL("../../dist/device/tap/device.js", import.meta.url).href;
      const source = `
        const { openTap } = await import(${JSON.stringify(module)});
        const outcome = {};
        try {
          const device = await openTap({ name: "pop0", queues: 2 });
          outcome.steering = device.capabilities.steering;
          outcome.refusal = device.steeringRefusal;
          try { device.moveFlowGroup(1, 1); } catch (error) { outcome.moveCode = error.code; }
          await device.close();
        } catch (error) { outcome.code = error.code; }
        console.log(JSON.stringify(outcome));`;
      const node = [process.execPath, "--input-type=module", "-e", source];
      const run = await namespace.run("setpriv", ["--bounding-set", capabilities, ...node]);
      expect(run).toMatchObject({ status: 0, stderr: "" });
      return JSON.parse(run.stdout);
    }

    test("without bpf(2) the host steers by learning, and says so", async (context) => {
      const reason = missing("setpriv");
      if (reason !== undefined) context.skip(reason);
      expect(await openWithout("-bpf,-sys_admin")).toEqual({
        steering: "learned",
        refusal: expect.stringContaining("CAP_BPF"),
        moveCode: "EOPNOTSUPP",
      });
    });

    test("EPERM: no right to make a device", async (context) => {
      const reason = missing("setpriv");
      if (reason !== undefined) context.skip(reason);
      expect(await openWithout("-all")).toEqual({ code: "EPERM" });
    });

    test("nothing is left behind by a process that is killed", async () => {
      const module = new URL("../../dist/device/tap/device.js", import.meta.url).href;
      const source = `
        const { openTap } = await import(${JSON.stringify(module)});
        await openTap({ name: "pop0", queues: 2, netns: ${JSON.stringify(namespace.name)} });
        console.log("open");
        setInterval(() => {}, 1000);`;
      const child = spawn(process.execPath, ["--input-type=module", "-e", source], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      await once(child.stdout, "data");
      expect(namespace.ip("link", "show")).toMatch(/pop0/);
      child.kill("SIGKILL");
      await exited(child);
      await expect.poll(() => namespace.ip("link", "show"), { timeout: 5_000 }).not.toMatch(/pop0/);
    });

    test("an open device does not keep a process alive that has nothing else to do", async () => {
      const module = new URL("../../dist/device/tap/device.js", import.meta.url).href;
      const source = `
        const { openTap } = await import(${JSON.stringify(module)});
        await openTap({ name: "pop0", queues: 1, netns: ${JSON.stringify(namespace.name)} });`;
      const child = spawn(process.execPath, ["--input-type=module", "-e", source], { stdio: "inherit" });
      await exited(child);
      expect(child.exitCode).toBe(0);
    });
  });

  describe("frames", () => {
    test.each([
      { queues: 1, shared: true },
      { queues: 2, shared: true },
      { queues: 4, shared: true },
      { queues: 2, shared: false },
    ])("ping loses nothing: $queues queues, shared memory: $shared", async ({ queues, shared }) => {
      const device = await openWithKernels(queues, shared);
      const small = await namespace.run("ping", ["-c", "50", "-i", "0.002", "-W", "5", OURS]);
      expect(small.stdout).toMatch(/50 received, 0% packet loss/);
      const large = await namespace.run("ping", ["-c", "20", "-i", "0.002", "-W", "5", "-s", "1472", "-M", "do", OURS]);
      expect(large.stdout).toMatch(/20 received, 0% packet loss/);
      const frames = device.queueFrames().reduce((sum, count) => sum + count, 0);
      expect(frames).toBe(kernels.reduce((sum, kernel) => sum + kernel.frames.length, 0));
      for (let queue = 0; queue < queues; queue += 1) {
        expect(device.statistics(queue)).toMatchObject({ rxErrors: 0, txErrors: 0 });
      }
    });

    test("a sleeping kernel stays asleep until a frame arrives", async () => {
      await openWithKernels(1);
      namespace.ip("neighbor", "replace", OURS, "lladdr", "02:00:00:00:00:02", "dev", "pop0");
      const [kernel] = kernels as [StandInKernel];
      // The host's own chatter (IPv6 neighbour discovery) goes on for a moment after the interface is up.
      namespace.ip("link", "set", "pop0", "addrgenmode", "none");
      await expect
        .poll(
          async () => {
            const before = kernel.turns;
            await new Promise((resolve) => setTimeout(resolve, 300));
            return kernel.turns - before;
          },
          { timeout: 20_000, interval: 10 },
        )
        .toBe(0);
      const before = kernel.frames.length;
      await sendDatagrams(10_000);
      await expect.poll(() => kernel.frames.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(before + FLOWS);
    });

    test("a frame that the host refuses is dropped and counted, and the next one goes out", async () => {
      const device = await openWithKernels(1);
      const [kernel] = kernels as [StandInKernel];
      const sent = device.statistics(0).txFrames;
      kernel.send(new Uint8Array(5));
      await expect.poll(() => device.statistics(0).txErrors, { timeout: 5_000 }).toBe(1);
      kernel.send(new Uint8Array(60));
      await expect.poll(() => device.statistics(0).txFrames, { timeout: 5_000 }).toBeGreaterThanOrEqual(sent + 2);
      expect(device.statistics(0).txErrors).toBe(1);
    });

    test("ERR_OPTION_RANGE: an RX ring too small for the frames that the host may hand over", async () => {
      const device = await open();
      const pair = createQueuePair(0, false, () => undefined, 1 << 16);
      expect(() => device.openPort(0, pair)).toThrow(expect.objectContaining({ code: "ERR_OPTION_RANGE" }));
    });

    test("a deleted interface leaves a kernel asleep, not spinning", async () => {
      await openWithKernels(1);
      const [kernel] = kernels as [StandInKernel];
      namespace.ip("link", "delete", "pop0");
      await new Promise((resolve) => setTimeout(resolve, 200));
      const before = kernel.turns;
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(kernel.turns).toBe(before);
    });
  });

  describe("steering", () => {
    const udpPorts4 = 14 + 20;
    const udpPorts6 = 14 + 40;

    test.each([1, 2, 4])("every flow lands on the queue that the table says: %i queues", async (queues) => {
      const device = await openWithKernels(queues);
      await sendDatagrams(20_000);
      const queueOf = await arrived(udpPorts4);
      for (const [port, queue] of queueOf) {
        expect(queue).toBe(queues === 1 ? 0 : device.flowGroupQueue(port & 4095));
        expect(queue).toBe(device.queueFor?.(ANY, port, ANY, UDP_PORT));
      }
      expect(new Set(queueOf.values()).size).toBe(queues);
    });

    test("one map update moves a flow group, and no other", async () => {
      const device = await openWithKernels(4);
      const moved = 20_000 + 5;
      await sendDatagrams(20_000);
      const before = await arrived(udpPorts4);
      const target = ((before.get(moved) as number) + 1) % 4;
      device.moveFlowGroup(moved & 4095, target);
      for (const kernel of kernels) kernel.frames.length = 0;
      await sendDatagrams(20_000);
      const after = await arrived(udpPorts4);
      expect(after.get(moved)).toBe(target);
      before.delete(moved);
      after.delete(moved);
      expect(after).toEqual(before);
    });

    test("IPv6 flows land by the same table", async () => {
      const device = await openWithKernels(4);
      namespace.ip("address", "add", "fd00:7::1/64", "dev", "pop0", "nodad");
      namespace.ip("neighbor", "replace", "fd00:7::2", "lladdr", "02:00:00:00:00:02", "dev", "pop0");
      await sendDatagrams(20_000, "fd00:7::2");
      for (const [port, queue] of await arrived(udpPorts6))
        expect(queue).toBe(device.queueFor?.(ANY, port, ANY, UDP_PORT));
    });

    test("an ICMP error comes to the queue of the flow that it is about", async () => {
      const device = await openWithKernels(4);
      const group = 1234;
      device.moveFlowGroup(group, 3);
      const kernel = kernels[0] as StandInKernel;
      kernel.send(udpFrame(device.mac, hostMac(), 53, group));
      const isUnreachable = (frame: Uint8Array): boolean => frame[13] === 0 && frame[23] === 1 && frame[34] === 3;
      const counts = (): number[] => kernels.map(({ frames }) => frames.filter(isUnreachable).length);
      await expect.poll(counts, { timeout: 5_000 }).toEqual([0, 0, 0, 1]);
    });

    test("ARP replies and announcements come to every kernel once, requests to one", async () => {
      const device = await openWithKernels(4);
      const host = hostMac();
      const isArp = (operation: number) => (frame: Uint8Array) =>
        frame[12] === 8 && frame[13] === 6 && frame[21] === operation && frame[31] === 1;
      const counts = (operation: number): number[] =>
        kernels.map(({ frames }) => frames.filter(isArp(operation)).length);
      const ping = await namespace.run("ping", ["-c", "1", "-W", "5", OURS]);
      expect(ping.stdout).toMatch(/ 0% packet loss/);
      expect(counts(1)).toEqual([1, 0, 0, 0]);
      (kernels[2] as StandInKernel).send(arpRequest(device.mac));
      await expect.poll(() => counts(2), { timeout: 5_000 }).toEqual([1, 1, 1, 1]);
      expect((kernels[3] as StandInKernel).frames.find(isArp(2))?.subarray(22, 28)).toEqual(host);
    });

    test("refuses a queue or a group that is not there", async () => {
      const device = await open({ queues: 2 });
      expect(() => device.moveFlowGroup(0, 2)).toThrow(expect.objectContaining({ code: "EINVAL" }));
      expect(() => device.moveFlowGroup(4096, 0)).toThrow(expect.objectContaining({ code: "EINVAL" }));
    });
  });

  function hostMac(): Uint8Array {
    const [text] = /(?<=ether )\S+/.exec(namespace.ip("link", "show", "pop0")) as RegExpExecArray;
    return Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
  }
});

/** "Who has HOST? Tell OURS", to all (RFC 826). */
function arpRequest(from: Uint8Array): Uint8Array {
  const frame = new Uint8Array(60);
  frame.fill(0xff, 0, 6);
  frame.set(from, 6);
  frame.set([8, 6, 0, 1, 8, 0, 6, 4, 0, 1], 12);
  frame.set(from, 22);
  frame.set(OURS.split(".").map(Number), 28);
  frame.set(HOST.split(".").map(Number), 38);
  return frame;
}

/** A UDP datagram from OURS to a port of HOST on which nobody listens; without UDP checksum (RFC 768). */
function udpFrame(from: Uint8Array, to: Uint8Array, sourcePort: number, destinationPort: number): Uint8Array {
  const frame = new Uint8Array(14 + 20 + 8);
  const view = new DataView(frame.buffer);
  frame.set(to, 0);
  frame.set(from, 6);
  view.setUint16(12, 0x0800);
  frame.set(
    [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, ...OURS.split(".").map(Number), ...HOST.split(".").map(Number)],
    14,
  );
  let sum = 0;
  for (let offset = 14; offset < 34; offset += 2) sum += view.getUint16(offset);
  view.setUint16(24, ~((sum & 0xffff) + (sum >>> 16)));
  view.setUint16(34, sourcePort);
  view.setUint16(36, destinationPort);
  view.setUint16(38, 8);
  return frame;
}
