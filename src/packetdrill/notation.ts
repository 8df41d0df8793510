/** Packets in the scripts' own notation, for messages. */
import type { Direction } from "./ast.ts";
import * as P from "./packet.ts";

/** `> P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 100 ecr 200>` */
export function packetText(packet: P.Packet, direction: Direction): string {
  const { transport, ip, ports } = packet;
  const parts: string[] = [direction === "in" ? "<" : ">"];
  const info = ipInfoText(ip);
  if (info !== "") parts.push(`[${info}]`);
  const portsText = ports && `${ports.source} > ${ports.destination}`;
  switch (transport.kind) {
    case "tcp":
      if (portsText) parts.push(portsText);
      parts.push(tcpText(transport));
      break;
    case "udp":
      parts.push("udp", ...(portsText ? [portsText] : []), `(${transport.payloadBytes})`);
      break;
    case "icmp":
      parts.push(icmpText(transport));
  }
  return parts.join(" ");
}

function ipInfoText(ip: P.IpInfo): string {
  const parts: string[] = [];
  if (ip.tos !== undefined) parts.push(`tos 0x${ip.tos.toString(16).padStart(2, "0")}`);
  else if (ip.ecn !== undefined) parts.push(ip.ecn);
  if (ip.ttl !== undefined) parts.push(`ttl ${ip.ttl}`);
  if (ip.flowLabel !== undefined) parts.push(`flowlabel 0x${ip.flowLabel.toString(16)}`);
  return parts.join(", ");
}

/** `S`, `S.`, `P.5`, `-` */
function flagsText(flags: number, ace: number | undefined): string {
  const shown = ace === undefined ? flags : flags & ~P.ACE_BITS & ~P.ACK;
  // The dot comes last.
  const names = P.TCP_FLAG_NAMES.filter((name, bit) => name !== "." && (shown >> bit) & 1).join("");
  const dot = flags & P.ACK ? "." : "";
  return `${names}${dot}${ace ?? ""}` || "-";
}

function tcpText(tcp: P.TcpPart): string {
  const end = (tcp.seq + tcp.payloadBytes) >>> 0;
  const range = `${tcp.seq}:${end}(${tcp.payloadBytes})${tcp.isAbsoluteSeq ? "!" : ""}`;
  const parts = [flagsText(tcp.flags, tcp.ace), range];
  if (tcp.flags & P.ACK) parts.push(`ack ${tcp.ack}${tcp.isAbsoluteAck ? "!" : ""}`);
  if (tcp.win !== undefined) parts.push(`win ${tcp.win}`);
  if (tcp.urgentPointer !== 0) parts.push(`urg ${tcp.urgentPointer}`);
  if (tcp.options === undefined) parts.push("<...>");
  else if (tcp.options.length > 0) parts.push(`<${tcp.options.map(optionText).join(",")}>`);
  return parts.join(" ");
}

export function optionText(option: P.TcpOption): string {
  switch (option.kind) {
    case "nop":
    case "eol":
    case "sackOK":
      return option.kind;
    case "mss":
    case "wscale":
      return `${option.kind} ${option.value}`;
    case "sack":
      return `sack ${option.blocks.map(([left, right]) => `${left}:${right}`).join(" ")}`;
    case "TS":
      return `TS val ${option.val} ecr ${option.ecr}`;
    case "FO":
    case "FOEXP":
      return `${option.kind} ${option.cookie}`.trimEnd();
    case "ECN":
      return ["ECN", ...option.counters.flat()].join(" ");
    case "other":
      return `option ${option.number} ${option.contents}`.trimEnd();
  }
}

function icmpText(icmp: P.IcmpPart): string {
  const parts = ["icmp", icmp.type];
  if (icmp.code !== undefined) parts.push(icmp.code);
  if (icmp.mtu !== undefined) parts.push(`mtu ${icmp.mtu}`);
  if (icmp.id !== undefined) parts.push(`id ${icmp.id}`);
  const { echoed } = icmp;
  if (echoed?.kind === "tcp") {
    parts.push(`[${echoed.seq}:${(echoed.seq + echoed.payloadBytes) >>> 0}(${echoed.payloadBytes})]`);
  } else if (echoed) {
    parts.push(`[${echoed.kind}(${echoed.payloadBytes})]`);
  }
  return parts.join(" ");
}
