/**
 * A packet as scripts write it: one model for what a script expects, what it injects, and what the kernel has sent
 * (decode.ts). A field that is undefined is not checked, or gets a default when the packet is injected.
 */

export type TcpFlagName = "F" | "S" | "R" | "P" | "." | "U" | "E" | "W" | "A";

/** In the order of the bits, FIN first; "A" is the AE bit of RFC 9768 (accurate ECN). */
export const TCP_FLAG_NAMES: readonly TcpFlagName[] = ["F", "S", "R", "P", ".", "U", "E", "W", "A"];
export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const URG = 32;
export const ECE = 64;
export const CWR = 128;
export const AE = 256;
/** The bits that count CE marks when accurate ECN is in use. */
export const ACE_BITS = ECE | CWR | AE;

/** Codepoints of the IP header's ECN field (RFC 3168 5). */
export const ECN_CODEPOINTS = { noecn: 0, ect1: 1, ect0: 2, ce: 3 } as const;
export type EcnName = keyof typeof ECN_CODEPOINTS;

export type IpInfo = {
  /** "ect01": either of the two. */
  readonly ecn?: EcnName | "ect01";
  /** The whole byte, ECN bits too. */
  readonly tos?: number;
  readonly ttl?: number;
  readonly flowLabel?: number;
};

export type EcnCounter = "e0b" | "ceb" | "e1b";
/** Option numbers of accurate ECN and the counters that each may hold, some left out at the end. */
export const ECN_OPTIONS: readonly { readonly number: number; readonly counters: readonly EcnCounter[] }[] = [
  { number: 172, counters: ["e0b", "ceb", "e1b"] },
  { number: 174, counters: ["e1b", "ceb", "e0b"] },
];

export type TcpOption =
  | { readonly kind: "nop" | "eol" | "sackOK" }
  | { readonly kind: "mss" | "wscale"; readonly value: number }
  /** Blocks of sequence numbers: left edge, right edge. */
  | { readonly kind: "sack"; readonly blocks: readonly (readonly [number, number])[] }
  | { readonly kind: "TS"; readonly val: number; readonly ecr: number }
  /** TCP Fast Open (RFC 7413), as option 34 or as the experimental option 254. Cookie in hexadecimal digits. */
  | { readonly kind: "FO" | "FOEXP"; readonly cookie: string }
  /** Accurate ECN (RFC 9768 3.2.3): counters in their order on the wire, which the first one decides. */
  | { readonly kind: "ECN"; readonly counters: readonly (readonly [name: EcnCounter, value: number])[] }
  /** Any other: contents in hexadecimal digits. */
  | { readonly kind: "other"; readonly number: number; readonly contents: string };

export type TcpPart = {
  readonly kind: "tcp";
  /** Bits; see ace. */
  readonly flags: number;
  /** Three-bit counter written behind the flags (`P.5`): then the ACE bits of `flags` do not count. */
  readonly ace?: number;
  readonly seq: number;
  readonly payloadBytes: number;
  readonly ack: number;
  /** FreeBSD's dialect, `0:0(0)!` and `ack 0!`: as on the wire, not relative to the initial number. */
  readonly isAbsoluteSeq: boolean;
  readonly isAbsoluteAck: boolean;
  /** The header field, unscaled. */
  readonly win?: number;
  readonly urgentPointer: number;
  /** Undefined: `<...>`, any. */
  readonly options?: readonly TcpOption[];
};

export type UdpPart = { readonly kind: "udp"; readonly payloadBytes: number };

export type IcmpPart = {
  readonly kind: "icmp";
  /** Name of the type, as scripts write it: "unreachable". */
  readonly type: string;
  readonly code?: string;
  readonly mtu?: number;
  readonly id?: number;
  /** Of the packet that an error quotes. */
  readonly echoed?:
    | { readonly kind: "tcp"; readonly seq: number; readonly payloadBytes: number }
    | { readonly kind: "udp" | "raw"; readonly payloadBytes: number };
};

export type Packet = {
  readonly ip: IpInfo;
  readonly ports?: { readonly source: number; readonly destination: number };
  readonly transport: TcpPart | UdpPart | IcmpPart;
};
