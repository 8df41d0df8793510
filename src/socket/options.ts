/** Socket options by their usual names and in their usual units, for connections and for what a listener accepts. */
import { checkKind } from "../checks.ts";
import { NetPopcornError } from "../errors.ts";
import * as OPTION from "../layout/option.ts";

/** Socket options by their names in Linux, checked when they are set (ERR_OPTION_RANGE). */
export type SocketOptions = {
  /** Small segments leave at once (Nagle's algorithm off). */
  readonly TCP_NODELAY?: boolean;
  /** Segments smaller than the MSS are held back until they are full, or for some 200 ms. */
  readonly TCP_CORK?: boolean;
  /** Every segment is acknowledged at once. */
  readonly TCP_QUICKACK?: boolean;
  /** Milliseconds that data may stay unacknowledged (RFC 5482); 0: as many retransmissions as configured. */
  readonly TCP_USER_TIMEOUT?: number;
  /** Probes of a silent peer (RFC 9293 3.8.4). */
  readonly SO_KEEPALIVE?: boolean;
  /** Seconds of silence before the first keep-alive probe, 1..32767; between two; how many go unanswered. */
  readonly TCP_KEEPIDLE?: number;
  readonly TCP_KEEPINTVL?: number;
  readonly TCP_KEEPCNT?: number;
  /** SYNs sent again before a connection attempt is given up. */
  readonly TCP_SYNCNT?: number;
  /** Bytes, 88..32767: largest segment to send, and to announce when it is set before the SYN. */
  readonly TCP_MAXSEG?: number;
  /** Congestion control from now on. */
  readonly TCP_CONGESTION?: "reno" | "cubic" | "bbr";
  /** Of a listener: seconds for which a connection without data is not handed out. */
  readonly TCP_DEFER_ACCEPT?: number;
  /** 0..255: TOS of IPv4 or traffic class of IPv6; the two bits of ECN are the stack's own. */
  readonly IP_TOS?: number;
  /** 1..255: TTL of IPv4 or hop limit of IPv6; 0: as configured. */
  readonly IP_TTL?: number;
  /**
   * Of a listener: how many connections may be opened by their SYN alone (fast open, RFC 7413) and not have finished
   * their handshake; 0: none. Their first bytes may come twice.
   */
  readonly TCP_FASTOPEN?: number;
  /** Bytes, 2048..: limits of the buffers, rounded up to a power of two. */
  readonly SO_RCVBUF?: number;
  readonly SO_SNDBUF?: number;
  /** Seconds; 0: closing resets. Any other value changes nothing: close() waits anyway. */
  readonly SO_LINGER?: number;
  /** Does nothing: a port in TIME_WAIT can always be listened on. */
  readonly SO_REUSEADDR?: boolean;
};

/** Name of a socket option. */
export type SocketOptionName = keyof SocketOptions;

type Rule = {
  /** OPTION_*; undefined: the kernel need not know. */
  readonly option: number | undefined;
  /** @returns the kernel's value, undefined: not a value of this option. */
  readonly convert: (value: unknown) => number | undefined;
  readonly rule: string;
};

const flag = (option: number | undefined): Rule => ({
  option,
  convert: (value) => (typeof value === "boolean" ? Number(value) : undefined),
  rule: "true or false",
});

const integer = (option: number, min: number, max: number, factor = 1): Rule => ({
  option,
  convert: (value) =>
    typeof value === "number" && Number.isInteger(value) && value >= min && value <= max ? value * factor : undefined,
  rule: `an integer ${min}..${max}`,
});

const CONGESTION: Readonly<Record<string, number>> = {
  reno: OPTION.CONGESTION_RENO,
  cubic: OPTION.CONGESTION_CUBIC,
  bbr: OPTION.CONGESTION_BBR,
};

const MS = 1000;

const RULES: { readonly [Name in SocketOptionName]-?: Rule } = {
  TCP_NODELAY: flag(OPTION.OPTION_NODELAY),
  TCP_CORK: flag(OPTION.OPTION_CORK),
  TCP_QUICKACK: flag(OPTION.OPTION_QUICKACK),
  TCP_USER_TIMEOUT: integer(OPTION.OPTION_USER_TIMEOUT_MS, 0, 86_400_000),
  SO_KEEPALIVE: flag(OPTION.OPTION_KEEPALIVE),
  TCP_KEEPIDLE: integer(OPTION.OPTION_KEEPALIVE_IDLE_MS, 1, 32767, MS),
  TCP_KEEPINTVL: integer(OPTION.OPTION_KEEPALIVE_INTERVAL_MS, 1, 32767, MS),
  TCP_KEEPCNT: integer(OPTION.OPTION_KEEPALIVE_PROBES, 1, 127),
  TCP_SYNCNT: integer(OPTION.OPTION_SYN_RETRIES, 1, 127),
  TCP_MAXSEG: integer(OPTION.OPTION_MSS_BYTES, 88, 32767),
  TCP_CONGESTION: {
    option: OPTION.OPTION_CONGESTION,
    convert: (value) => CONGESTION[String(value)],
    rule: Object.keys(CONGESTION).join(", "),
  },
  TCP_DEFER_ACCEPT: integer(OPTION.OPTION_DEFER_ACCEPT_MS, 0, 3600, MS),
  IP_TOS: integer(OPTION.OPTION_TOS, 0, 255),
  IP_TTL: integer(OPTION.OPTION_HOP_LIMIT, 0, 255),
  TCP_FASTOPEN: integer(OPTION.OPTION_FAST_OPEN, 0, 65535),
  SO_RCVBUF: integer(OPTION.OPTION_RCV_BUFFER_BYTES, 2048, 1 << 30),
  SO_SNDBUF: integer(OPTION.OPTION_SND_BUFFER_BYTES, 2048, 1 << 30),
  SO_LINGER: {
    option: OPTION.OPTION_LINGER_RESET,
    convert: (value) => (typeof value === "number" && value >= 0 ? Number(value === 0) : undefined),
    rule: "seconds, 0 or more",
  },
  SO_REUSEADDR: flag(undefined),
};

/**
 * What to tell the kernel: pairs of OPTION_* and value.
 * @throws NetPopcornError ERR_OPTION_UNKNOWN, ERR_OPTION_RANGE.
 */
export function kernelOptions(options: SocketOptions): readonly (readonly [option: number, value: number])[] {
  const pairs: [number, number][] = [];
  checkKind("socket options", "object", options);
  for (const [name, given] of Object.entries(options)) {
    if (given === undefined) continue;
    const found = Object.hasOwn(RULES, name) ? RULES[name as SocketOptionName] : undefined;
    if (!found) {
      const names = Object.keys(RULES).join(", ");
      throw new NetPopcornError("ERR_OPTION_UNKNOWN", `there is no socket option ${name}; there are ${names}`);
    }
    const value = found.convert(given);
    if (value === undefined) {
      throw new NetPopcornError(
        "ERR_OPTION_RANGE",
        `socket option ${name} is ${String(given)}; it must be ${found.rule}`,
      );
    }
    if (found.option !== undefined) pairs.push([found.option, value]);
  }
  return pairs;
}
