/** getsockopt and setsockopt. */
import { FAST_OPEN_CLIENT } from "../layout/config.ts";
import * as OPTION from "../layout/option.ts";
import type { Expression } from "./ast.ts";
import { expressionText } from "./ast.ts";
import { type Args, type Attempt, type CallContext, done } from "./callContext.ts";
import { Unsupported } from "./errors.ts";
import { type Descriptor, errnoOf, type TcpSocket } from "./sockets.ts";
import { ERRNOS, fieldOf, numberOf } from "./symbols.ts";

type OptionValue = number | string;

type OptionRule = {
  /** OPTION_* of the kernel; undefined: the option is kept here only. */
  readonly kernel?: number;
  /** The kernel's value for the script's; default: the same. */
  readonly scaled?: (value: number) => number;
  /** What getsockopt says when nothing was set. */
  readonly initial?: (context: CallContext, socket: Descriptor) => OptionValue;
  /** The value that getsockopt says after one was set. */
  readonly reported?: (value: number, context: CallContext) => number;
  /** Refuses a value. @returns the name of an error. */
  readonly refuses?: (value: number, context: CallContext) => string | undefined;
};

const LEVELS: Readonly<Record<string, string>> = {
  SOL_SOCKET: "SOL_SOCKET",
  SOL_TCP: "IPPROTO_TCP",
  IPPROTO_TCP: "IPPROTO_TCP",
  SOL_IP: "IPPROTO_IP",
  IPPROTO_IP: "IPPROTO_IP",
  SOL_IPV6: "IPPROTO_IPV6",
  IPPROTO_IPV6: "IPPROTO_IPV6",
  SOL_UDP: "IPPROTO_UDP",
  IPPROTO_UDP: "IPPROTO_UDP",
};

const flag = (kernel?: number): OptionRule => ({ ...(kernel !== undefined && { kernel }), initial: () => 0 });

/** As Linux does with sizes that are too small. */
const atLeastSmallest = (value: number) => Math.max(2048, value);

/** Linux doubles what is set, for its own bookkeeping, and says the doubled value; FreeBSD does not. */
const doubled = (value: number, context: CallContext) => (context.settings.isFreeBsd ? value : 2 * value);

const SECOND_MS = 1000;

/** A time that scripts give in seconds. */
const seconds = (kernel: number, tuning: "keepaliveIdleMs" | "keepaliveIntervalMs"): OptionRule => ({
  kernel,
  scaled: (value) => value * SECOND_MS,
  refuses: (value) => (value < 1 || value > 32767 ? "EINVAL" : undefined),
  initial: (context) => context.settings.kernelConfig().tuning[tuning] / SECOND_MS,
});

/** ECN's bits cannot be set. */
function tos(): OptionRule {
  return { kernel: OPTION.OPTION_TOS, refuses: byteOnly, reported: (value) => value & ~3, initial: () => 0 };
}

/** Segments always have DF, and the MTU of the path is always heeded: what WANT and DO ask for. */
function pathMtuDiscovery(): OptionRule {
  return { refuses: (value) => (value < 0 || value > 5 ? "EINVAL" : undefined), initial: () => 1 };
}

/** -1: as configured. */
function hops(): OptionRule {
  return {
    kernel: OPTION.OPTION_HOP_LIMIT,
    scaled: (value) => Math.max(0, value),
    refuses: byteOnly,
    initial: (context) => context.settings.kernelConfig().tuning.hopLimit,
  };
}

function byteOnly(value: number): string | undefined {
  return value < -1 || value > 255 ? "EINVAL" : undefined;
}

/** As a client (sysctl net.ipv4.tcp_fastopen). */
export function offersFastOpen({ settings }: CallContext): boolean {
  return (settings.kernelConfig().tuning.fastOpen & FAST_OPEN_CLIENT) !== 0;
}

const RULES: Readonly<Record<string, OptionRule>> = {
  "SOL_SOCKET SO_REUSEADDR": flag(),
  "SOL_SOCKET SO_REUSEPORT": flag(),
  "SOL_SOCKET SO_KEEPALIVE": flag(OPTION.OPTION_KEEPALIVE),
  "SOL_SOCKET SO_RCVBUF": {
    kernel: OPTION.OPTION_RCV_BUFFER_BYTES,
    scaled: atLeastSmallest,
    initial: (context) => context.settings.kernelConfig().tuning.rcvBufferBytesMax,
    reported: doubled,
  },
  "SOL_SOCKET SO_SNDBUF": {
    kernel: OPTION.OPTION_SND_BUFFER_BYTES,
    scaled: atLeastSmallest,
    initial: (context) => context.settings.kernelConfig().tuning.sndBufferBytesMax,
    reported: doubled,
  },
  "SOL_SOCKET SO_ERROR": {},
  "SOL_SOCKET SO_OOBINLINE": flag(OPTION.OPTION_URGENT_TOLD),
  "SOL_SOCKET SO_LINGER": {},
  "SOL_SOCKET SO_ACCEPTCONN": { initial: (_context, socket) => (isListener(socket) ? 1 : 0) },
  "SOL_SOCKET SO_TYPE": { initial: (_context, socket) => (socket.kind === "udp" ? 2 : 1) },
  "IPPROTO_TCP TCP_NODELAY": flag(OPTION.OPTION_NODELAY),
  "IPPROTO_TCP TCP_CORK": flag(OPTION.OPTION_CORK),
  "IPPROTO_TCP TCP_KEEPIDLE": seconds(OPTION.OPTION_KEEPALIVE_IDLE_MS, "keepaliveIdleMs"),
  "IPPROTO_TCP TCP_KEEPINTVL": seconds(OPTION.OPTION_KEEPALIVE_INTERVAL_MS, "keepaliveIntervalMs"),
  "IPPROTO_TCP TCP_KEEPCNT": {
    kernel: OPTION.OPTION_KEEPALIVE_PROBES,
    refuses: (value) => (value < 1 || value > 127 ? "EINVAL" : undefined),
    initial: (context) => context.settings.kernelConfig().tuning.keepaliveProbesMax,
  },
  "IPPROTO_TCP TCP_SYNCNT": {
    kernel: OPTION.OPTION_SYN_RETRIES,
    refuses: (value) => (value < 1 || value > 127 ? "EINVAL" : undefined),
    initial: (context) => context.settings.kernelConfig().tuning.synRetriesMax,
  },
  "IPPROTO_TCP TCP_USER_TIMEOUT": flag(OPTION.OPTION_USER_TIMEOUT_MS),
  "IPPROTO_TCP TCP_DEFER_ACCEPT": {
    kernel: OPTION.OPTION_DEFER_ACCEPT_MS,
    scaled: (value) => value * SECOND_MS,
    initial: () => 0,
  },
  "IPPROTO_TCP TCP_FASTOPEN": flag(OPTION.OPTION_FAST_OPEN),
  "IPPROTO_TCP TCP_FASTOPEN_CONNECT": {
    ...flag(OPTION.OPTION_FAST_OPEN_CONNECT),
    refuses: (_value, context) => (offersFastOpen(context) ? undefined : "EOPNOTSUPP"),
  },
  "IPPROTO_TCP TCP_MAXSEG": {
    kernel: OPTION.OPTION_MSS_BYTES,
    // Linux: TCP_MIN_MSS and MAX_TCP_WINDOW.
    refuses: (value) => (value < 88 || value > 32767 ? "EINVAL" : undefined),
    initial: (_context, socket) => maximumSegment(socket),
  },
  "IPPROTO_TCP TCP_CONGESTION": { initial: () => "cubic" },
  "IPPROTO_IP IP_TOS": tos(),
  "IPPROTO_IPV6 IPV6_TCLASS": tos(),
  "IPPROTO_IP IP_MTU_DISCOVER": pathMtuDiscovery(),
  "IPPROTO_IPV6 IPV6_MTU_DISCOVER": pathMtuDiscovery(),
  "IPPROTO_IP IP_TTL": hops(),
  "IPPROTO_IPV6 IPV6_UNICAST_HOPS": hops(),
  "IPPROTO_TCP TCP_INQ": flag(),
  "IPPROTO_TCP TCP_QUICKACK": { kernel: OPTION.OPTION_QUICKACK, initial: () => 1 },
};

/** Of a connection: what it sends in one segment. Without one: what RFC 9293 3.7.1 assumes. */
function maximumSegment(socket: Descriptor): number {
  return (socket.kind === "tcp" ? socket.info(OPTION.INFO_SND_MSS_BYTES) : undefined) || 536;
}

const CONGESTION_NAMES: Readonly<Record<string, number>> = {
  reno: OPTION.CONGESTION_RENO,
  cubic: OPTION.CONGESTION_CUBIC,
  bbr: OPTION.CONGESTION_BBR,
};

function isListener(descriptor: Descriptor): boolean {
  return descriptor.kind === "tcp" && descriptor.listener !== undefined;
}

function ruleOf(args: Args): { name: string; rule: OptionRule } {
  const level = LEVELS[args.word(1)] ?? args.word(1);
  const option = args.word(2);
  const name = `${level} ${option}`;
  const rule = RULES[name];
  if (!rule) throw new Unsupported(`the socket option ${option}`, args.line);
  return { name, rule };
}

/** `[1]`, `"cubic"`, `{onoff=1, linger=0}` */
function givenValue(args: Args, argument: Expression): OptionValue {
  const inner = argument.kind === "list" ? argument.items[0] : argument;
  if (inner === undefined || inner.kind === "ellipsis") return args.fail("a value is missing");
  return inner.kind === "string" ? inner.text : numberOf(inner);
}

function structOf(argument: Expression): Expression | undefined {
  const inner = argument.kind === "list" ? argument.items[0] : argument;
  return inner?.kind === "struct" ? inner : undefined;
}

export function setSocketOption(context: CallContext, args: Args): Attempt {
  const descriptor = context.fds.get(args.number(0));
  if (!descriptor) return done("EBADF");
  if (descriptor.kind === "epoll") return done("ENOTSOCK");
  const { name, rule } = ruleOf(args);
  if (name === "SOL_SOCKET SO_ERROR") return done("ENOPROTOOPT");
  if (name === "SOL_SOCKET SO_LINGER") return setLinger(context, args, descriptor);
  const value = givenValue(args, args.expression(3));
  const refusal = typeof value === "number" ? rule.refuses?.(value, context) : undefined;
  if (refusal !== undefined) return done(refusal);
  const [option, number] = kernelValue(name, rule, value);
  if (option !== undefined && descriptor.kind === "tcp") {
    const status = applyOption(context, descriptor, option, number);
    if (status < 0) return done(errnoOf(status));
    descriptor.options.set(option, number);
  }
  const kept = typeof value === "number" && rule.reported ? rule.reported(value, context) : value;
  descriptor.remembered.set(name, kept);
  return done(0);
}

/** OPTION_* and its value; undefined: nothing that the kernel knows. */
function kernelValue(name: string, rule: OptionRule, value: OptionValue): [number | undefined, number] {
  if (typeof value === "number") return [rule.kernel, rule.scaled?.(value) ?? value];
  const congestion = CONGESTION_NAMES[value];
  if (name !== "IPPROTO_TCP TCP_CONGESTION" || congestion === undefined) {
    throw new Unsupported(`the value ${JSON.stringify(value)} of ${name}`);
  }
  return [OPTION.OPTION_CONGESTION, congestion];
}

function setLinger(context: CallContext, args: Args, descriptor: Descriptor): Attempt {
  const given = structOf(args.expression(3));
  const [on, linger] = ["onoff", "linger"].map((field) => given && fieldOf(given, field));
  if (!on || !linger) return args.fail("SO_LINGER takes {onoff=…, linger=…}");
  if (descriptor.kind !== "tcp") return done(0);
  descriptor.lingerSeconds = numberOf(on) === 0 ? undefined : numberOf(linger);
  const resets = descriptor.lingerSeconds === 0 ? 1 : 0;
  descriptor.options.set(OPTION.OPTION_LINGER_RESET, resets);
  applyOption(context, descriptor, OPTION.OPTION_LINGER_RESET, resets);
  return done(0);
}

/** Tells the kernel, when it knows the socket already. @returns its status. */
function applyOption(context: CallContext, socket: TcpSocket, option: number, value: number): number {
  if (socket.listener !== undefined) {
    return context.machine.exports.tcpListenSetOption(socket.listener, option, value);
  }
  if (socket.handle === undefined || socket.isOver) return 0;
  return context.machine.exports.tcpSetOption(socket.handle, option, value);
}

/**
 * Tells the kernel everything that was set before it knew the socket.
 * @returns how many of the first bytes the SYN takes, or waits for (OPTION_FAST_OPEN_CONNECT).
 */
export function applyOptions(context: CallContext, socket: TcpSocket): number {
  let room = 0;
  for (const [option, value] of socket.options) room = Math.max(room, applyOption(context, socket, option, value));
  return room;
}

export function getSocketOption(context: CallContext, args: Args): Attempt {
  const descriptor = context.fds.get(args.number(0));
  if (!descriptor) return done("EBADF");
  if (descriptor.kind === "epoll") return done("ENOTSOCK");
  const { name, rule } = ruleOf(args);
  const argument = args.expression(3);
  if (name === "SOL_SOCKET SO_LINGER") throw new Unsupported("getsockopt SO_LINGER", args.line);
  const actual = name === "SOL_SOCKET SO_ERROR" ? errorNumber(descriptor) : present(context, name, rule, descriptor);
  if (argument.kind === "ellipsis" || isSizeOfForeign(context, name)) return done(0);
  const expected = givenValue(args, argument);
  if (expected !== actual) {
    args.fail(`${args.word(2)} is ${described(name, actual)}, expected ${expressionText(argument)}`);
  }
  return done(0);
}

/** How stacks account for buffer memory is their own business. */
function isSizeOfForeign(context: CallContext, name: string): boolean {
  return context.settings.isForeign && (name === "SOL_SOCKET SO_RCVBUF" || name === "SOL_SOCKET SO_SNDBUF");
}

function errorNumber(descriptor: Exclude<Descriptor, { kind: "epoll" }>): number {
  const error = descriptor.takeError();
  return error === undefined ? 0 : (ERRNOS[error] ?? -1);
}

function described(name: string, value: OptionValue): string {
  if (name !== "SOL_SOCKET SO_ERROR") return String(value);
  return Object.entries(ERRNOS).find(([, number]) => number === value)?.[0] ?? String(value);
}

function present(context: CallContext, name: string, rule: OptionRule, descriptor: Descriptor): OptionValue {
  if (descriptor.kind === "epoll") return 0;
  return descriptor.remembered.get(name) ?? rule.initial?.(context, descriptor) ?? 0;
}
