/** Packets of a script: `> [ect0] P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 100 ecr 200>`. */
import type { Cursor } from "./cursor.ts";
import { ScriptError, Unsupported } from "./errors.ts";
import {
  ECN_CODEPOINTS,
  ECN_OPTIONS,
  type EcnCounter,
  type EcnName,
  type IcmpPart,
  type IpInfo,
  type Packet,
} from "./packet.ts";
import { TCP_FLAG_NAMES, type TcpFlagName, type TcpOption, type TcpPart } from "./packet.ts";

/** The longest that a TCP header can carry. */
const OPTION_BYTES_MAX = 40;

/** Reads what follows `<` or `>`. */
export function parsePacket(cursor: Cursor, isInbound: boolean): Packet {
  refuseEncapsulation(cursor);
  const ip = parseIpInfo(cursor, isInbound);
  if (cursor.is("encap")) throw new Unsupported("encapsulation", cursor.line);
  if (cursor.take("icmp")) return { ip, transport: parseIcmp(cursor) };
  if (cursor.take("udp")) {
    const ports = parsePorts(cursor);
    cursor.expect("(");
    const payloadBytes = cursor.integer("UDP payload size", 0, 65535);
    cursor.expect(")");
    return { ip, ...(ports && { ports }), transport: { kind: "udp", payloadBytes } };
  }
  if (cursor.take("sctp") || cursor.take("udplite")) throw new Unsupported("protocols other than TCP, UDP and ICMP");
  const ports = parsePorts(cursor);
  return { ip, ...(ports && { ports }), transport: parseTcp(cursor, isInbound) };
}

function refuseEncapsulation(cursor: Cursor): void {
  for (const name of ["ipv4", "ipv6", "gre", "GREv0", "mpls"]) {
    if (cursor.is(name)) throw new Unsupported(`encapsulation in ${name}`, cursor.line);
  }
}

function parseIpInfo(cursor: Cursor, isInbound: boolean): IpInfo {
  const close = cursor.is("[") ? "]" : cursor.is("(") ? ")" : undefined;
  if (close === undefined) return {};
  cursor.next();
  const info: { -readonly [Name in keyof IpInfo]: IpInfo[Name] } = {};
  do {
    const { text, line } = cursor.next();
    if (text in ECN_CODEPOINTS) info.ecn = text as EcnName;
    else if (text === "ect01") {
      if (isInbound) throw new ScriptError(line, "[ect01] can only be expected, not sent");
      info.ecn = "ect01";
    } else if (text === "tos" || text === "class") info.tos = cursor.integer(text, 0, 255);
    else if (text === "ttl" || text === "hlim") info.ttl = cursor.integer(text, 0, 255);
    else if (text === "flowlabel") info.flowLabel = cursor.integer("flowlabel", 0, 0xfffff);
    else throw new ScriptError(line, `${JSON.stringify(text)} is no ECN codepoint, tos, ttl or flowlabel`);
  } while (cursor.take(","));
  cursor.expect(close);
  return info;
}

function parsePorts(cursor: Cursor): { source: number; destination: number } | undefined {
  const isPorts = cursor.isKind("integer") && cursor.peek(1).text === ">" && cursor.peek(2).kind === "integer";
  if (!isPorts) return undefined;
  const source = cursor.integer("source port", 0, 65535);
  cursor.expect(">");
  return { source, destination: cursor.integer("destination port", 0, 65535) };
}

function parseTcp(cursor: Cursor, isInbound: boolean): TcpPart {
  const line = cursor.line;
  const { flags, ace } = parseFlags(cursor);
  const { seq, payloadBytes } = parseRange(cursor);
  const isAbsoluteSeq = cursor.take("!");
  const ack = cursor.take("ack") ? cursor.integer("ack") : 0;
  const isAbsoluteAck = cursor.take("!");
  const win = cursor.take("win") ? parseWindow(cursor) : undefined;
  const urgentPointer = cursor.take("urg") ? cursor.integer("urg", 0, 65535) : 0;
  const options = parseOptions(cursor);
  if (options === undefined && isInbound) throw new ScriptError(line, "<...> can only be expected, not sent");
  if (cursor.is("/") && cursor.peek(1).text === "udp") throw new Unsupported("TCP over UDP", line);
  return {
    kind: "tcp",
    flags,
    ...(ace !== undefined && { ace }),
    seq,
    payloadBytes,
    ack,
    isAbsoluteSeq,
    isAbsoluteAck,
    ...(win !== undefined && { win }),
    urgentPointer,
    ...(options && { options }),
  };
}

/** `win *` is FreeBSD's way to say that any will do. */
function parseWindow(cursor: Cursor): number | undefined {
  return cursor.take("*") ? undefined : cursor.integer("win", 0, 65535);
}

/** `S`, `S.`, `SEW`, `.`, `-`, and `P.5`: a counter instead of the ECN bits. */
function parseFlags(cursor: Cursor): { flags: number; ace: number | undefined } {
  let flags = 0;
  let ace: number | undefined;
  if (cursor.take("-")) return { flags, ace };
  const start = cursor.peek();
  if (start.kind === "word") flags |= flagBits(cursor.next().text, start.line);
  if (cursor.isKind("float") && /^\.[0-7]$/.test(cursor.peek().text)) {
    flags |= flagBits(".", start.line);
    ace = Number(cursor.next().text.slice(1));
  } else if (cursor.take(".")) {
    flags |= flagBits(".", start.line);
  }
  if (flags === 0) cursor.fail("TCP flags");
  return { flags, ace };
}

function flagBits(text: string, line: number): number {
  let bits = 0;
  for (const name of text) {
    const bit = TCP_FLAG_NAMES.indexOf(name as TcpFlagName);
    if (bit < 0) throw new ScriptError(line, `${JSON.stringify(name)} is no TCP flag; there are F S R P . U E W A`);
    bits |= 1 << bit;
  }
  return bits;
}

/** `1:1001(1000)` */
function parseRange(cursor: Cursor): { seq: number; payloadBytes: number } {
  const line = cursor.line;
  const seq = cursor.integer("start of the sequence numbers");
  cursor.expect(":");
  const end = cursor.integer("end of the sequence numbers");
  cursor.expect("(");
  const payloadBytes = cursor.integer("payload size", 0, 65535);
  cursor.expect(")");
  if ((seq + payloadBytes) >>> 0 !== end) {
    throw new ScriptError(line, `${seq}:${end}(${payloadBytes}): the sequence numbers do not span the payload`);
  }
  return { seq, payloadBytes };
}

/** @returns undefined for `<...>`. */
function parseOptions(cursor: Cursor): readonly TcpOption[] | undefined {
  if (!cursor.is("<")) return [];
  const line = cursor.next().line;
  if (cursor.take("...")) {
    cursor.expect(">");
    return undefined;
  }
  const options: TcpOption[] = [];
  if (!cursor.is(">")) {
    do options.push(parseOption(cursor));
    while (cursor.take(","));
  }
  cursor.expect(">");
  const bytes = options.reduce((sum, option) => sum + optionBytes(option), 0);
  if (bytes > OPTION_BYTES_MAX) {
    throw new ScriptError(line, `options of ${bytes} bytes; at most ${OPTION_BYTES_MAX} fit`);
  }
  return options;
}

/** On the wire. */
export function optionBytes(option: TcpOption): number {
  switch (option.kind) {
    case "nop":
    case "eol":
      return 1;
    case "sackOK":
      return 2;
    case "mss":
      return 4;
    case "wscale":
      return 3;
    case "sack":
      return 2 + 8 * option.blocks.length;
    case "TS":
      return 10;
    case "FO":
      return 2 + option.cookie.length / 2;
    case "FOEXP":
      return 4 + option.cookie.length / 2;
    case "ECN":
      return 2 + 3 * option.counters.length;
    case "other":
      return 2 + option.contents.length / 2;
  }
}

function parseOption(cursor: Cursor): TcpOption {
  const { text, line } = cursor.next();
  switch (text) {
    case "nop":
    case "eol":
    case "sackOK":
      return { kind: text };
    case "mss":
      return { kind: "mss", value: cursor.integer("mss", 0, 65535) };
    case "wscale":
      return { kind: "wscale", value: cursor.integer("wscale", 0, 255) };
    case "sack":
      return { kind: "sack", blocks: parseSackBlocks(cursor) };
    case "TS": {
      cursor.expect("val");
      const val = cursor.integer("TS val");
      cursor.expect("ecr");
      return { kind: "TS", val, ecr: cursor.integer("TS ecr") };
    }
    case "FO":
    case "FOEXP":
      return { kind: text, cookie: parseHexDigits(cursor) };
    case "ECN":
      return { kind: "ECN", counters: parseEcnCounters(cursor, line) };
    case "md5":
      throw new Unsupported(`TCP option ${text}`, line);
    default:
      throw new ScriptError(line, `${JSON.stringify(text)} is no TCP option`);
  }
}

/** `ECN e0b 1 ceb 0 e1b 1`, or fewer of them. */
function parseEcnCounters(cursor: Cursor, line: number): [EcnCounter, number][] {
  const counters: [EcnCounter, number][] = [];
  while (cursor.is("e0b") || cursor.is("ceb") || cursor.is("e1b")) {
    counters.push([cursor.next().text as EcnCounter, cursor.integer("counter of accurate ECN", 0, 0xffffff)]);
  }
  const isOrdered = ECN_OPTIONS.some((order) => counters.every(([name], i) => order.counters[i] === name));
  if (!isOrdered) throw new ScriptError(line, "the counters of accurate ECN are e0b ceb e1b, or e1b ceb e0b");
  return counters;
}

function parseSackBlocks(cursor: Cursor): [number, number][] {
  const blocks: [number, number][] = [];
  while (cursor.isKind("integer")) {
    const left = cursor.integer("SACK block");
    cursor.expect(":");
    blocks.push([left, cursor.integer("SACK block")]);
  }
  if (blocks.length === 0) cursor.fail("a SACK block");
  return blocks;
}

/** Whole bytes; the lexer may have taken them for a number, or for a number and a word. */
function parseHexDigits(cursor: Cursor): string {
  let digits = "";
  while (cursor.isKind("integer") || cursor.isKind("word") || cursor.isKind("hex")) digits += cursor.next().text;
  if (!/^([0-9a-fA-F]{2})*$/.test(digits)) cursor.fail("an even number of hexadecimal digits");
  return digits.toLowerCase();
}

function parseIcmp(cursor: Cursor): IcmpPart {
  const type = cursor.expectKind("word", "an ICMP type").text;
  const isCode = cursor.isKind("word") && !cursor.is("mtu") && !cursor.is("id");
  const code = isCode ? cursor.next().text : undefined;
  const mtu = cursor.take("mtu") ? cursor.integer("mtu", 0, 65535) : undefined;
  const id = cursor.take("id") ? cursor.integer("id", 0, 65535) : undefined;
  return {
    kind: "icmp",
    type,
    ...(code !== undefined && { code }),
    ...(mtu !== undefined && { mtu }),
    ...(id !== undefined && { id }),
    ...parseEchoed(cursor),
  };
}

function parseEchoed(cursor: Cursor): Pick<IcmpPart, "echoed"> {
  if (!cursor.take("[")) return {};
  const kind = cursor.take("udp") ? "udp" : cursor.take("raw") ? "raw" : "tcp";
  if (kind === "tcp") {
    const echoed = { kind, ...parseRange(cursor) } as const;
    cursor.expect("]");
    return { echoed };
  }
  cursor.expect("(");
  const payloadBytes = cursor.integer("payload size", 0, 65535);
  cursor.expect(")");
  cursor.expect("]");
  return { echoed: { kind, payloadBytes } };
}
