/** `netpopcorn pcap FILE`: replays a capture through the model card and the kernels, in virtual time. */
import { readFileSync } from "node:fs";
import { createSegment } from "../device/card/segment.ts";
import { FrameSource } from "../device/frameSource.ts";
import { type CapturedFrame, readCapture } from "../device/pcapReader.ts";
import { NetPopcornError } from "../errors.ts";
import { formatAddress, parseAddress } from "../ip/address.ts";
import { createStack } from "../stack.ts";
import type { Output } from "./output.ts";

export type PcapCommandOptions = {
  readonly kernels: number;
  readonly address?: string;
  readonly seed: number;
};

const LINKTYPE_ETHERNET = 1;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERNET_BYTES = 14;
const KERNEL_MEMORY_BYTES = 64 << 20;
/** The first frame's instant in virtual time: later than 0, so that timers have a past. */
const START_NS = 1_000_000_000;

/** The host whose side of the conversation the kernels take. */
type Host = { readonly mac: Uint8Array; readonly address: string };

export async function pcap(file: string, options: PcapCommandOptions, output: Output): Promise<void> {
  const frames = load(file);
  const host = findHost(frames, options.address);
  output.progress(`${file}: ${frames.length} frames; the kernels are ${host.address}`);
  const segment = await createSegment({ shared: false, portsMax: options.kernels + 1, seed: options.seed });
  const card = segment.createCard({ queues: options.kernels, mac: host.mac });
  const source = new FrameSource(segment.createCard({ queues: 1 }));
  const stack = await createStack({
    device: card,
    kernels: options.kernels,
    address: `${host.address}/24`,
    mac: [...host.mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":"),
    drive: "manual",
    seed: options.seed,
    tuning: { memoryBytes: KERNEL_MEMORY_BYTES, connectionsMax: 16_384 },
  });
  try {
    const queuesBefore = card.queueFrames();
    const oversized = replay(frames, source, (nowNs) => stack.turn(nowNs));
    const { total } = await stack.stats();
    const queues = card.queueFrames().map((count, queue) => count - (queuesBefore[queue] ?? 0));
    const errors: Record<string, number> = {};
    for (const [name, count] of Object.entries(total)) if (/^drop/.test(name) && count > 0) errors[name] = count;
    if (oversized > 0) errors.frameTooLargeToReplay = oversized;
    const flows = countFlows(frames);
    output.result({ frames: frames.length, flows, queues, errors }, describe(frames.length, flows, queues, errors));
  } finally {
    await stack.close({ drainMs: 0 });
    source.close();
    await segment.close();
  }
}

function describe(frames: number, flows: number, queues: readonly number[], errors: Record<string, number>): string {
  const causes = Object.entries(errors).map(([name, count]) => `  ${name} ${count}`);
  return [`${frames} frames, ${flows} flows, by queue: ${queues.join(" ")}`, ...causes].join("\n");
}

function load(file: string): CapturedFrame[] {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "EIO";
    throw new NetPopcornError(code, `${file} cannot be read; name a pcap or pcapng file`, { cause });
  }
  const frames = [...readCapture(bytes)].filter((frame) => frame.linkType === LINKTYPE_ETHERNET);
  if (frames.length === 0) {
    throw new NetPopcornError("ERR_CAPTURE_EMPTY", `${file} holds no Ethernet frame; capture on an Ethernet interface`);
  }
  return frames;
}

/** Offset of the IPv4 header, -1: the frame carries none. */
function ipv4At(frame: Uint8Array): number {
  if (frame.length < ETHERNET_BYTES + 20) return -1;
  const isIpv4 = ((frame[12] as number) << 8) + (frame[13] as number) === ETHERTYPE_IPV4;
  return isIpv4 && (frame[14] as number) >> 4 === 4 ? ETHERNET_BYTES : -1;
}

function destinationOf(frame: Uint8Array): string | undefined {
  const ip = ipv4At(frame);
  // Not to a group: the kernels are one host.
  if (ip < 0 || (frame[0] as number) & 1) return undefined;
  return frame.subarray(ip + 16, ip + 20).join(".");
}

/** The given address, or the one to which most frames go; its Ethernet address is that of the first such frame. */
function findHost(frames: readonly CapturedFrame[], given: string | undefined): Host {
  const wanted = given === undefined ? undefined : formatAddress(parseAddress(given));
  const counts = new Map<string, { count: number; mac: Uint8Array }>();
  for (const { frame } of frames) {
    const address = destinationOf(frame);
    if (address === undefined) continue;
    const entry = counts.get(address) ?? { count: 0, mac: frame.slice(0, 6) };
    entry.count++;
    counts.set(address, entry);
  }
  const busiest = [...counts].sort((a, b) => b[1].count - a[1].count)[0]?.[0];
  const address = wanted ?? busiest;
  const found = address === undefined ? undefined : counts.get(address);
  if (address === undefined || !found) {
    throw new NetPopcornError(
      "EADDRNOTAVAIL",
      wanted === undefined
        ? "the capture holds no IPv4 frame to a single host"
        : `no frame of the capture goes to ${wanted}; choose one of ${[...counts.keys()].slice(0, 5).join(", ")}`,
    );
  }
  return { mac: found.mac, address };
}

/** @returns frames that were too large for the ring. */
function replay(frames: readonly CapturedFrame[], source: FrameSource, turn: (nowNs: number) => boolean): number {
  const firstNs = frames[0]?.timeNs ?? 0n;
  let nowNs = START_NS;
  let oversized = 0;
  for (const { frame, timeNs } of frames) {
    // Captures may be out of order; virtual time is not.
    nowNs = Math.max(nowNs, START_NS + Number(timeNs - firstNs));
    if (!source.send(frame)) oversized++;
    source.transmit(nowNs);
    while (turn(nowNs)) source.drain(nowNs);
    source.drain(nowNs);
  }
  return oversized;
}

/** Conversations by protocol, addresses and ports, either direction. */
function countFlows(frames: readonly CapturedFrame[]): number {
  const flows = new Set<string>();
  for (const { frame } of frames) {
    const ip = ipv4At(frame);
    if (ip < 0) continue;
    const protocol = frame[ip + 9] as number;
    const transport = ip + ((frame[ip] as number) & 15) * 4;
    const hasPorts = (protocol === 6 || protocol === 17) && frame.length >= transport + 4;
    const end = (address: number, port: number) =>
      `${frame.subarray(address, address + 4).join(".")}:${hasPorts ? frame.subarray(port, port + 2).join(".") : ""}`;
    flows.add([protocol, ...[end(ip + 12, transport), end(ip + 16, transport + 2)].sort()].join(" "));
  }
  return flows.size;
}
