/** The forms in which the methods of a dgram socket take their arguments, and Node's errors for wrong ones. */
import type { BlockList } from "node:net";
import { getSystemErrorMap } from "node:util";
import { addressFamily } from "../ip/address.ts";
import { errnoError, invalidArgument, nodeError, received } from "../net/errors.ts";

export type SocketType = "udp4" | "udp6";

/** node:dgram gives the family as a number, as node:dns takes it, too. */
export type Lookup = (
  host: string,
  family: 4 | 6,
  done: (error: NodeJS.ErrnoException | null, address: string, family: number) => void,
) => void;

export type SocketOptions = {
  readonly type: SocketType;
  readonly ipv6Only?: boolean;
  readonly lookup?: Lookup;
  readonly signal?: AbortSignal;
  readonly receiveBlockList?: BlockList;
  readonly sendBlockList?: BlockList;
  readonly recvBufferSize?: number;
  readonly sendBufferSize?: number;
};

export type Callback = (...args: never[]) => void;
export type SendCallback = (error: Error | null, bytes?: number) => void;

/** @throws TypeError ERR_SOCKET_BAD_TYPE, ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE. */
export function normalizeOptions(given: unknown): SocketOptions {
  const options = (typeof given === "object" && given !== null ? given : { type: given }) as SocketOptions;
  const { type, lookup, signal } = options;
  if (type !== "udp4" && type !== "udp6") {
    throw nodeError(TypeError, "ERR_SOCKET_BAD_TYPE", "Bad socket type specified. Valid types are: udp4, udp6");
  }
  if (lookup !== undefined && typeof lookup !== "function") {
    throw invalidArgument('"lookup" argument', "of type function", lookup);
  }
  for (const name of ["recvBufferSize", "sendBufferSize"] as const) {
    const bytes = options[name];
    if (!bytes) continue;
    if (typeof bytes !== "number") throw invalidArgument(`"options.${name}" property`, "of type number", bytes);
    if (bytes >>> 0 !== bytes) {
      const range = Number.isInteger(bytes) ? ">= 0 && <= 4294967295" : "an integer";
      const text = `The value of "options.${name}" is out of range. It must be ${range}. Received ${grouped(bytes)}`;
      throw nodeError(RangeError, "ERR_OUT_OF_RANGE", text);
    }
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidArgument('"options.signal" property', "an instance of AbortSignal", signal);
  }
  return options;
}

/** As Node shows numbers in that error: large ones with their thousands apart. */
function grouped(value: number): string {
  if (!Number.isInteger(value) || Math.abs(value) <= 2 ** 32) return String(value);
  return String(value).replace(/\B(?=(\d{3})+$)/g, "_");
}

export type BindArguments = {
  readonly port: number;
  readonly address: string | undefined;
  readonly listener: Callback | undefined;
};

/** (port, address), (port), (), ({ port, address }); a callback may stand last. */
export function normalizeBind(args: readonly unknown[]): BindArguments {
  const last = args.at(-1);
  const listener = typeof last === "function" ? (last as Callback) : undefined;
  const [first, second] = args;
  const isOptions = typeof first === "object" && first !== null;
  const options = (isOptions ? first : { port: first, address: second }) as Record<"port" | "address", unknown>;
  const port = typeof options.port === "function" ? 0 : (options.port ?? 0);
  const address = typeof options.address === "function" || options.address === "" ? undefined : options.address;
  if (address !== undefined && address !== null && typeof address !== "string") {
    throw invalidArgument('"address" argument', "of type string", address);
  }
  return { port: checkPort(port, 0), address: address ?? undefined, listener };
}

export type SendArguments = {
  readonly bytes: Uint8Array;
  /** Undefined: where the socket is connected to. */
  readonly port: number | undefined;
  readonly address: string | undefined;
  readonly callback: SendCallback | undefined;
};

/**
 * (message[, offset, length][, port][, address][, callback]); to a connected socket neither port nor address.
 * @throws TypeError and RangeError of node:dgram.
 */
export function normalizeSend(args: readonly unknown[], isConnected: boolean): SendArguments {
  let [message, offset, length, port, address, callback] = args;
  let bytes: Uint8Array;
  if (isConnected ? typeof length === "number" : address || (port && typeof port !== "function")) {
    bytes = slice(message, offset, length);
    if (typeof port === "function") [port, callback] = [undefined, port];
  } else {
    bytes = bytesOfAll(message);
    [port, address, callback] = isConnected ? [port, address, offset] : [offset, length, port];
  }
  if (isConnected && (port || address)) throw alreadyConnected();
  if (typeof address === "function") [address, callback] = [undefined, address];
  else if (address !== undefined && address !== null) checkString("address", address);
  return {
    bytes,
    port: isConnected ? undefined : checkPort(port, 1),
    address: (address || undefined) as string | undefined,
    callback: typeof callback === "function" ? (callback as SendCallback) : undefined,
  };
}

/** @throws RangeError ERR_SOCKET_BAD_PORT. */
export function checkPort(value: unknown, min: 0 | 1): number {
  const isText = typeof value === "string" && value.trim() !== "";
  const port = typeof value === "number" || isText ? Number(value) : Number.NaN;
  if (!Number.isInteger(port) || port < min || port > 65535) {
    const range = min === 0 ? ">= 0" : "> 0";
    throw nodeError(RangeError, "ERR_SOCKET_BAD_PORT", `Port should be ${range} and < 65536. ${received(value)}.`);
  }
  return port;
}

/** @throws TypeError ERR_INVALID_ARG_TYPE. */
export function checkNumber(name: string, value: unknown): number {
  if (typeof value !== "number") throw invalidArgument(`"${name}" argument`, "of type number", value);
  return value;
}

/** @throws TypeError ERR_INVALID_ARG_TYPE. */
export function checkString(name: string, value: unknown): string {
  if (typeof value !== "string") throw invalidArgument(`"${name}" argument`, "of type string", value);
  return value;
}

/** @throws TypeError ERR_SOCKET_BAD_BUFFER_SIZE. */
export function checkBufferSize(bytes: unknown): number {
  if (typeof bytes === "number" && bytes >>> 0 === bytes) return bytes;
  throw nodeError(TypeError, "ERR_SOCKET_BAD_BUFFER_SIZE", "Buffer size must be a positive integer");
}

/** @param syscall "uv_recv_buffer_size", as Node has it. @param status negative errno. */
export function bufferSizeError(syscall: string, status: number): NodeJS.ErrnoException {
  const { code, errno } = errnoError(status, syscall);
  const [, text] = getSystemErrorMap().get(errno as number) ?? [];
  const message = `Could not get or set buffer size: ${syscall} returned ${code} (${text})`;
  const info = { errno, code, message: text, syscall };
  return Object.assign(nodeError(Error, "ERR_SOCKET_BUFFER_SIZE", message), {
    name: "SystemError",
    info,
    errno,
    syscall,
  });
}

/** @throws TypeError ERR_MISSING_ARGS. */
export function checkMulticastAddress(address: unknown): string {
  if (address) return String(address);
  throw nodeError(TypeError, "ERR_MISSING_ARGS", 'The "multicastAddress" argument must be specified');
}

/** Of IPv4 or IPv6? */
export function isGroup(address: Uint8Array): boolean {
  return addressFamily(address) === 4 ? ((address[12] as number) & 0xf0) === 0xe0 : address[0] === 0xff;
}

export function alreadyBound(): NodeJS.ErrnoException {
  return nodeError(Error, "ERR_SOCKET_ALREADY_BOUND", "Socket is already bound");
}

export function alreadyConnected(): NodeJS.ErrnoException {
  return nodeError(Error, "ERR_SOCKET_DGRAM_IS_CONNECTED", "Already connected");
}

export function notConnected(): NodeJS.ErrnoException {
  return nodeError(Error, "ERR_SOCKET_DGRAM_NOT_CONNECTED", "Not connected");
}

export function notRunning(): NodeJS.ErrnoException {
  return nodeError(Error, "ERR_SOCKET_DGRAM_NOT_RUNNING", "Not running");
}

export function blocked(address: string): NodeJS.ErrnoException {
  return nodeError(Error, "ERR_IP_BLOCKED", `IP(${address}) is blocked by net.BlockList`);
}

function bytesOf(value: unknown): Uint8Array | undefined {
  if (typeof value === "string") return Buffer.from(value);
  if (!ArrayBuffer.isView(value)) return undefined;
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

const BYTES_EXPECTED = "of type string or an instance of Buffer, TypedArray, or DataView";

function bytesOfAll(message: unknown): Uint8Array {
  if (!Array.isArray(message)) {
    const bytes = bytesOf(message);
    if (!bytes) throw invalidArgument('"buffer" argument', BYTES_EXPECTED, message);
    return bytes;
  }
  const parts = message.map(bytesOf);
  if (!parts.every((part) => part !== undefined)) {
    throw invalidArgument('"buffer list arguments" argument', BYTES_EXPECTED, message);
  }
  return Buffer.concat(parts);
}

function slice(message: unknown, offset: unknown, length: unknown): Uint8Array {
  const bytes = bytesOf(message);
  if (!bytes) throw invalidArgument('"buffer" argument', BYTES_EXPECTED, message);
  const from = Number(offset) >>> 0;
  const count = Number(length) >>> 0;
  if (from > bytes.length) throw outOfBounds("offset");
  if (from + count > bytes.length) throw outOfBounds("length");
  return bytes.subarray(from, from + count);
}

function outOfBounds(name: string): NodeJS.ErrnoException {
  return nodeError(RangeError, "ERR_BUFFER_OUT_OF_BOUNDS", `"${name}" is outside of buffer bounds`);
}
