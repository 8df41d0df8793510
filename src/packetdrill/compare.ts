/** Is this the packet that the script expects? Both are in the script's numbers. */
import { optionText } from "./notation.ts";
import * as P from "./packet.ts";

export type CompareOptions = {
  /** How far a timestamp value may be off, in its own units; undefined: not looked at. */
  readonly tsTolerance: number | undefined;
  /**
   * The script was written for another stack: order of TCP options, size of windows and PSH in the middle of a stream
   * are its own business.
   */
  readonly isForeign: boolean;
  /** The packet brings the last byte that the application has written. */
  readonly isLastData: boolean;
};

/** @returns undefined when the packets agree; otherwise the first difference. */
export function findDifference(expected: P.Packet, actual: P.Packet, options: CompareOptions): string | undefined {
  return (
    ipDifference(expected.ip, actual.ip) ??
    portsDifference(expected, actual) ??
    transportDifference(expected.transport, actual.transport, options)
  );
}

function field(name: string, expected: number | string, actual: number | string | undefined): string | undefined {
  return expected === actual ? undefined : `${name} is ${actual ?? "missing"}, expected ${expected}`;
}

function ipDifference(expected: P.IpInfo, actual: P.IpInfo): string | undefined {
  if (expected.tos !== undefined && expected.tos !== actual.tos) return field("tos", expected.tos, actual.tos);
  if (expected.ecn === "ect01") {
    if (actual.ecn !== "ect0" && actual.ecn !== "ect1") return field("ECN codepoint", "ect0 or ect1", actual.ecn);
  } else if (expected.ecn !== undefined && expected.ecn !== actual.ecn) {
    return field("ECN codepoint", expected.ecn, actual.ecn);
  }
  if (expected.ttl !== undefined && expected.ttl !== actual.ttl) return field("ttl", expected.ttl, actual.ttl);
  if (expected.flowLabel !== undefined) return field("flow label", expected.flowLabel, actual.flowLabel);
  return undefined;
}

function portsDifference({ ports }: P.Packet, actual: P.Packet): string | undefined {
  if (!ports) return undefined;
  return (
    field("source port", ports.source, actual.ports?.source) ??
    field("destination port", ports.destination, actual.ports?.destination)
  );
}

function transportDifference(
  expected: P.Packet["transport"],
  actual: P.Packet["transport"],
  options: CompareOptions,
): string | undefined {
  if (expected.kind === "tcp" && actual.kind === "tcp") return tcpDifference(expected, actual, options);
  if (expected.kind === "udp" && actual.kind === "udp") {
    return field("payload length", expected.payloadBytes, actual.payloadBytes);
  }
  if (expected.kind === "icmp" && actual.kind === "icmp") return icmpDifference(expected, actual);
  return field("protocol", expected.kind, actual.kind);
}

function icmpDifference(expected: P.IcmpPart, actual: P.IcmpPart): string | undefined {
  return (
    field("ICMP type", expected.type, actual.type) ??
    (expected.code === undefined ? undefined : field("ICMP code", expected.code, actual.code)) ??
    (expected.mtu === undefined ? undefined : field("mtu", expected.mtu, actual.mtu)) ??
    (expected.id === undefined ? undefined : field("id", expected.id, actual.id))
  );
}

function tcpDifference(expected: P.TcpPart, actual: P.TcpPart, options: CompareOptions): string | undefined {
  const compared = (expected.ace === undefined ? ~0 : ~P.ACE_BITS) & (mayDifferInPush(actual, options) ? ~P.PSH : ~0);
  for (const [bit, name] of P.TCP_FLAG_NAMES.entries()) {
    const mask = (1 << bit) & compared;
    if ((expected.flags & mask) === (actual.flags & mask)) continue;
    const flag = name === "." ? "ACK" : name;
    return expected.flags & mask ? `the ${flag} flag is missing` : `the ${flag} flag is set, and should not be`;
  }
  if (expected.ace !== undefined) {
    const { flags } = actual;
    const ace = (flags & P.AE ? 4 : 0) | (flags & P.CWR ? 2 : 0) | (flags & P.ECE ? 1 : 0);
    if (ace !== expected.ace) return field("ACE counter", expected.ace, ace);
  }
  return (
    field("sequence number", expected.seq, actual.seq) ??
    field("payload length", expected.payloadBytes, actual.payloadBytes) ??
    field("acknowledgment number", expected.ack, actual.ack) ??
    windowDifference(expected.win, actual.win, options) ??
    field("urgent pointer", expected.urgentPointer, actual.urgentPointer) ??
    optionsDifference(expected.options, actual.options ?? [], options)
  );
}

/**
 * PSH marks no record: where else than with the last queued byte, which must have it (RFC 9293 MUST-61), a stack sets
 * it is its own choice. Linux's follows from the sizes of its buffers in memory.
 */
function mayDifferInPush({ payloadBytes, flags }: P.TcpPart, { isForeign, isLastData }: CompareOptions): boolean {
  return isForeign && payloadBytes > 0 && (!isLastData || (flags & P.PSH) !== 0);
}

/** How large a window is follows from the sizes of buffers: of a script for another stack only whether it is shut. */
function windowDifference(
  expected: number | undefined,
  actual: number | undefined,
  { isForeign }: CompareOptions,
): string | undefined {
  if (expected === undefined) return undefined;
  if (isForeign && expected !== 0 && actual !== 0) return undefined;
  return field("window", expected, actual);
}

function optionsDifference(
  expected: readonly P.TcpOption[] | undefined,
  actual: readonly P.TcpOption[],
  compared: CompareOptions,
): string | undefined {
  const { tsTolerance, isForeign } = compared;
  if (expected === undefined) return undefined;
  if (isForeign && !isPlainOrder(expected, actual)) {
    return optionsDifference(inPlainOrder(expected), inPlainOrder(actual), compared);
  }
  for (let i = 0; i < Math.max(expected.length, actual.length); i++) {
    const [want, have] = [expected[i], actual[i]];
    const name = `TCP option ${i + 1}`;
    if (want === undefined || have === undefined) {
      return field(name, want ? optionText(want) : "none", have && optionText(have));
    }
    if (want.kind === "TS" && have.kind === "TS") {
      const off = Math.abs((have.val - want.val) | 0);
      if (tsTolerance !== undefined && off > tsTolerance) return field("TS val", want.val, have.val);
      if (want.ecr !== have.ecr) return field("TS ecr", want.ecr, have.ecr);
    } else if (optionText(want) !== optionText(have)) {
      return field(name, optionText(want), optionText(have));
    }
  }
  return undefined;
}

/** Without padding, by kind. */
function inPlainOrder(options: readonly P.TcpOption[]): P.TcpOption[] {
  const kinds: readonly P.TcpOption["kind"][] = [
    "mss",
    "wscale",
    "sackOK",
    "sack",
    "TS",
    "FO",
    "FOEXP",
    "ECN",
    "other",
  ];
  return options
    .filter(({ kind }) => kinds.includes(kind))
    .sort((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind));
}

function isPlainOrder(...lists: readonly (readonly P.TcpOption[])[]): boolean {
  return lists.every((list) => inPlainOrder(list).every((option, i) => option === list[i]) && !list.some(isPadding));
}

function isPadding({ kind }: P.TcpOption): boolean {
  return kind === "nop" || kind === "eol";
}
