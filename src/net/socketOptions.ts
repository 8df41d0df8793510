/** Options of net.Socket: what Node's own class is shown of them, and how the others are read. */
import type net from "node:net";

/** What the kernel takes: 32,767 s. */
const KEEPALIVE_DELAY_SECONDS_MAX = 32767;

export type SocketOptions = net.SocketConstructorOpts & {
  readonly highWaterMark?: number;
  readonly readableHighWaterMark?: number;
  readonly writableHighWaterMark?: number;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  /** Milliseconds. */
  readonly keepAliveInitialDelay?: number;
  readonly onread?: net.OnReadOpts;
};

/** Options that Node's constructor need not see. */
const OWN_OPTIONS: ReadonlySet<string> = new Set([
  ...["allowHalfOpen", "noDelay", "keepAlive", "keepAliveInitialDelay", "onread"],
  ...["port", "host", "path", "localAddress", "localPort", "family", "hints", "lookup", "timeout"],
  ...["autoSelectFamily", "autoSelectFamilyAttemptTimeout"],
]);

/**
 * Its constructor takes 4.5 µs longer with options than without (Node 20: it copies and extends them). A signal that is
 * aborted already would destroy the socket before there is one.
 */
export function forNode(options: SocketOptions | undefined): SocketOptions | undefined {
  for (const name in options) {
    if (!OWN_OPTIONS.has(name)) return options.signal === undefined ? options : { ...options, signal: undefined };
  }
  return undefined;
}

/** @returns the delay as Node has it: whole seconds; 0 and what is no number leave the delay as it is. */
export function keepAliveDelayMs(given: number | undefined): number {
  const seconds = Math.trunc(Number(given) / 1000);
  return seconds > 0 ? Math.min(seconds, KEEPALIVE_DELAY_SECONDS_MAX) * 1000 : 0;
}

/** @returns `onread` if Node would look at it. */
export function usableOnread(onread: net.OnReadOpts | null | undefined): net.OnReadOpts | undefined {
  if (!onread || typeof onread !== "object" || typeof onread.callback !== "function") return undefined;
  return onread.buffer instanceof Uint8Array || typeof onread.buffer === "function" ? onread : undefined;
}
