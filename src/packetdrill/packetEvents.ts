/** Packets of a script: sending them to the kernel, and comparing what the kernel sends. */
import { findDifference } from "./compare.ts";
import type { Sent } from "./decode.ts";
import { encodePacket } from "./encode.ts";
import { ScriptError } from "./errors.ts";
import type { Flow, FlowTable } from "./flows.ts";
import { Machine } from "./machine.ts";
import { packetText } from "./notation.ts";
import * as P from "./packet.ts";
import { findWrongByte, streamBytes } from "./payload.ts";
import type { Settings } from "./settings.ts";

/** The peer's first port; each flow without ports of its own gets the next. */
const FIRST_REMOTE_PORT = 49_153;
/** How long a packet is waited for after its time: to say when it came. */
const LATE_US = 2_000_000;
/** A packet that may come at any time comes within this. */
const ANY_TIME_US = 86_400_000_000;

export type PacketContext = {
  readonly machine: Machine;
  readonly settings: Settings;
  readonly flows: FlowTable;
  /** Virtual time of the kernel at the script's time 0. */
  readonly originUs: number;
  /** Lets the script's time pass. @returns true when it was `isEnough`. */
  readonly wait: (untilUs: number, isEnough: () => boolean) => boolean;
  readonly warn: (message: string) => void;
  /** Some application has written exactly this many bytes to its connection. */
  readonly isEndOfWritten: (bytes: number) => boolean;
};

/** When a packet is expected, in the script's time. */
export type Window = { readonly startUs: number; readonly endUs: number; readonly toleranceUs: number };

export class PacketEvents {
  readonly #context: PacketContext;
  #nextRemotePort = FIRST_REMOTE_PORT;

  constructor(context: PacketContext) {
    this.#context = context;
  }

  /** Sends a packet of the script to the kernel. */
  send(packet: P.Packet, line: number): void {
    const { machine, settings } = this.#context;
    const flow = this.#flowOfInbound(packet);
    const mapped = flow.mapInbound(packet, settings.allowsScaledEcr, line);
    const { transport } = mapped;
    const offset = transport.kind === "tcp" ? streamOffset(transport, flow.remoteIsn) : 0;
    const payload = "payloadBytes" in transport ? streamBytes(offset, transport.payloadBytes) : new Uint8Array(0);
    const quotedSeq = transport.kind === "icmp" && transport.echoed?.kind === "tcp" ? transport.echoed.seq : 0;
    const quoted = { source: flow.local, destination: flow.remote, seq: flow.toKernel(quotedSeq) };
    machine.inject(
      ...cutUp(mapped, payload, settings.inboundMssBytes).map(([part, bytes]) =>
        encodePacket(part, flow.remote, flow.local, bytes, quoted),
      ),
    );
  }

  #flowOfInbound({ ports, transport }: P.Packet): Flow {
    const { flows, settings } = this.#context;
    const remote = { address: settings.remoteAddress, port: ports?.source ?? 0 };
    const local = { address: settings.localAddress, port: ports?.destination ?? settings.bindPort };
    if (ports) return flows.open(local, remote);
    const isNew = !flows.current || (transport.kind === "tcp" && flows.isListening);
    if (flows.current && !isNew) return flows.current;
    return flows.open(local, { ...remote, port: this.#nextRemotePort++ });
  }

  /**
   * Waits for the packet and compares it.
   * @param window undefined: any time will do.
   * @throws ScriptError.
   */
  expect(packet: P.Packet, window: Window | undefined, line: number): void {
    const flow = this.#flowOfOutbound(packet, line);
    const sent = this.#gather(packet, flow, window, line);
    const first = sent[0] as Sent;
    flow.learn(packet, first.packet);
    const actual = this.#inScriptNumbers(aggregate(sent), first, flow, packet);
    const difference =
      this.#difference(packet, actual, window, flow) ?? wrongPayload(sent, flow, packet) ?? this.#timing(sent, window);
    if (difference === undefined) return;
    const message = [
      difference,
      `  expected: ${packetText(packet, "out")}`,
      `  actual:   ${packetText(shownLike(actual, packet), "out")} at ${seconds(this.#usOf(first))}`,
    ].join("\n");
    if (!this.#context.settings.nonFatal.has("packet")) throw new ScriptError(line, message);
    this.#context.warn(message);
  }

  /** @throws ScriptError for a packet of the script's connections that nothing has asked for. */
  expectNoMore(line: number): void {
    const { machine, flows } = this.#context;
    for (const sent of machine.sent) {
      const flow = flows.of(sent);
      if (!flow) continue;
      const text = packetText({ ...flow.mapOutbound(sent.packet), ip: {} }, "out");
      throw new ScriptError(
        line,
        `a packet that the script does not expect\n  actual:   ${text} at ${seconds(this.#usOf(sent))}`,
      );
    }
  }

  #flowOfOutbound({ ports }: P.Packet, line: number): Flow {
    const { flows, settings } = this.#context;
    if (ports) {
      const local = { address: settings.localAddress, port: ports.source };
      return flows.open(local, { address: settings.remoteAddress, port: ports.destination });
    }
    if (!flows.current) throw new ScriptError(line, "no socket has been opened that could send this packet");
    return flows.current;
  }

  #usOf(sent: Sent): number {
    return Machine.usOf(sent) - this.#context.originUs;
  }

  /** The packet; or, of a payload larger than a segment, the segments that carry it. */
  #gather(packet: P.Packet, flow: Flow, window: Window | undefined, line: number): Sent[] {
    const wantedBytes = packet.transport.kind === "tcp" ? packet.transport.payloadBytes : 0;
    const isStrict = this.#context.settings.hasStrictSegments;
    const sent: Sent[] = [];
    let bytes = 0;
    do {
      const next = this.#next(packet, flow, window, line, sent);
      const previous = sent.at(-1);
      const broken = previous && findBreak(previous, next, bytes + next.payload.length < wantedBytes);
      if (broken !== undefined) {
        throw new ScriptError(line, `${broken}\n${this.#gathered(packet, flow, [...sent, next])}`);
      }
      sent.push(next);
      bytes += next.payload.length;
    } while (!isStrict && bytes < wantedBytes);
    return sent;
  }

  #next(packet: P.Packet, flow: Flow, window: Window | undefined, line: number, before: readonly Sent[]): Sent {
    const { machine, wait } = this.#context;
    const nowUs = machine.nowUs - this.#context.originUs;
    const untilUs = window ? Math.max(nowUs, window.endUs + window.toleranceUs + LATE_US) : nowUs + ANY_TIME_US;
    for (;;) {
      const isThere = wait(untilUs, () => machine.sent.length > 0);
      const sent = isThere ? machine.sent.shift() : undefined;
      if (!sent) {
        throw new ScriptError(line, `the kernel has not sent the packet\n${this.#gathered(packet, flow, before)}`);
      }
      const owner = this.#ownerOf(sent, packet);
      if (owner === flow) return sent;
      // Of a connection that the script does not speak of, or not any more: the original looks at one at a time.
      if (!owner || !this.#context.settings.expectsAll) continue;
      const text = packetText(owner.mapOutbound(sent.packet), "out");
      throw new ScriptError(
        line,
        `a packet of another connection\n  expected: ${packetText(packet, "out")}\n  actual:   ${text}`,
      );
    }
  }

  #ownerOf(sent: Sent, expected: P.Packet): Flow | undefined {
    const { flows } = this.#context;
    if (sent.packet.transport.kind !== "icmp") return flows.of(sent);
    return expected.transport.kind === "icmp" ? flows.current : undefined;
  }

  #gathered(packet: P.Packet, flow: Flow, sent: readonly Sent[]): string {
    const rows = sent.map((one) => {
      const actual = this.#inScriptNumbers(one.packet, one, flow, packet);
      return `  actual:   ${packetText(shownLike(actual, packet), "out")} at ${seconds(this.#usOf(one))}`;
    });
    return [`  expected: ${packetText(packet, "out")}`, ...(rows.length > 0 ? rows : ["  actual:   none"])].join("\n");
  }

  #inScriptNumbers(live: P.Packet, { sourcePort, destinationPort }: Sent, flow: Flow, expected: P.Packet): P.Packet {
    const ports = expected.ports && { ports: { source: sourcePort, destination: destinationPort } };
    return { ...flow.mapOutbound(live, expected), ...ports };
  }

  #difference(expected: P.Packet, actual: P.Packet, window: Window | undefined, flow: Flow): string | undefined {
    const { tsTickUs, isForeign, toleranceUs, tolerancePercent } = this.#context.settings;
    // Timestamps are compared by the whole script's time, not by that of the last event.
    const elapsedUs = window?.startUs ?? 0;
    const tsToleranceUs = Math.max(toleranceUs, (tolerancePercent / 100) * elapsedUs);
    return findDifference(expected, actual, {
      tsTolerance: tsTickUs === 0 ? undefined : tsToleranceUs / tsTickUs,
      isForeign,
      isLastData: this.#isLastData(actual, flow),
    });
  }

  #isLastData({ transport }: P.Packet, flow: Flow): boolean {
    if (transport.kind !== "tcp") return false;
    const offset = streamOffset(transport, transport.flags & P.SYN ? flow.scriptIsn : 0);
    return this.#context.isEndOfWritten(offset + transport.payloadBytes);
  }

  #timing(sent: readonly Sent[], window: Window | undefined): string | undefined {
    if (!window) return undefined;
    const { startUs, endUs, toleranceUs } = window;
    for (const one of sent) {
      const us = this.#usOf(one);
      if (us >= startUs - toleranceUs && us <= endUs + toleranceUs) continue;
      const range = startUs === endUs ? seconds(startUs) : `${seconds(startUs)} to ${seconds(endUs)}`;
      return `sent at ${seconds(us)}, expected at ${range} (tolerance ${seconds(toleranceUs)})`;
    }
    return undefined;
  }
}

/** What a peer's device would make of a packet larger than its MSS; 0: leave it. FIN and PSH are the last one's. */
function cutUp(packet: P.Packet, payload: Uint8Array, mssBytes: number): (readonly [P.Packet, Uint8Array])[] {
  const { transport } = packet;
  if (transport.kind !== "tcp" || mssBytes === 0 || payload.length <= mssBytes) return [[packet, payload]];
  const parts: (readonly [P.Packet, Uint8Array])[] = [];
  for (let at = 0; at < payload.length; at += mssBytes) {
    const bytes = payload.subarray(at, at + mssBytes);
    const isLast = at + mssBytes >= payload.length;
    const flags = isLast ? transport.flags : transport.flags & ~(P.PSH | P.FIN);
    const part = { ...transport, seq: (transport.seq + at) >>> 0, flags, payloadBytes: bytes.length };
    parts.push([{ ...packet, transport: part }, bytes]);
  }
  return parts;
}

/** Where a segment's first byte stands in its sender's stream. */
function streamOffset({ seq, flags }: P.TcpPart, isn: number): number {
  return (seq - isn - 1 + (flags & P.SYN ? 1 : 0)) >>> 0;
}

/** Segments that together are the packet which the script expects: one after the other, alike in all else. */
function findBreak(before: Sent, next: Sent, isMiddle: boolean): string | undefined {
  const [a, b] = [before.packet.transport, next.packet.transport];
  if (a.kind !== "tcp" || b.kind !== "tcp") return "a packet of another protocol follows";
  const changing = P.PSH | P.FIN | P.CWR;
  if ((a.seq + a.payloadBytes) >>> 0 !== b.seq) return "the segments do not follow one another";
  if ((a.flags & ~changing) !== (b.flags & ~changing)) return "the segments differ in their flags";
  if (a.ack !== b.ack || a.win !== b.win) return "the segments differ in acknowledgment or window";
  if (b.payloadBytes === 0 || (isMiddle && b.payloadBytes !== a.payloadBytes)) return "the segments differ in length";
  return undefined;
}

/** Several segments as the one that a device would have cut up. */
function aggregate(sent: readonly Sent[]): P.Packet {
  const first = (sent[0] as Sent).packet;
  if (first.transport.kind !== "tcp" || sent.length === 1) return first;
  let flags = 0;
  let payloadBytes = 0;
  for (const { packet } of sent) {
    if (packet.transport.kind !== "tcp") continue;
    flags |= packet.transport.flags;
    payloadBytes += packet.transport.payloadBytes;
  }
  return { ...first, transport: { ...first.transport, flags, payloadBytes } };
}

/** Every byte is the one that the application has written at its place. */
function wrongPayload(sent: readonly Sent[], flow: Flow, expected: P.Packet): string | undefined {
  for (const { packet, payload } of sent) {
    const { transport } = flow.mapOutbound(packet, expected);
    const isSyn = transport.kind === "tcp" && (transport.flags & P.SYN) !== 0;
    const offset = transport.kind === "tcp" ? streamOffset(transport, isSyn ? flow.scriptIsn : 0) : 0;
    const wrong = findWrongByte(offset, payload);
    if (wrong >= 0) return `byte ${offset + wrong} of the stream is not what the application has written there`;
  }
  return undefined;
}

/** Without the fields of the IP header that the script does not mention. */
function shownLike(actual: P.Packet, expected: P.Packet): P.Packet {
  const names = Object.keys(expected.ip);
  const ip = Object.fromEntries(Object.entries(actual.ip).filter(([name]) => names.includes(name)));
  return { ...actual, ip };
}

function seconds(us: number): string {
  return `${(us / 1e6).toFixed(6)} s`;
}
