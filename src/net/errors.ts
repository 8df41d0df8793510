/** Errors in the shape that node:net gives them: code, errno, syscall, address, port, and the message. */
import { getDefaultAutoSelectFamilyAttemptTimeout, isIP } from "node:net";
import { getSystemErrorMap } from "node:util";
import { NetPopcornError, statusName } from "../errors.ts";

/** By errno name: libuv's number and text on this platform. */
const systemErrors = new Map([...getSystemErrorMap()].map(([errno, [name, text]]) => [name, { errno, text }]));

type SystemError = NodeJS.ErrnoException & { address?: string; port?: number };

function errnoOf(status: number): number {
  return systemErrors.get(statusName(status))?.errno ?? status;
}

function systemError(message: string, status: number, syscall: string): SystemError {
  const error: SystemError = new Error(message);
  error.errno = errnoOf(status);
  error.code = statusName(status);
  error.syscall = syscall;
  return error;
}

/** "read ECONNRESET". */
export function errnoError(status: number, syscall: string): SystemError {
  return systemError(`${syscall} ${statusName(status)}`, status, syscall);
}

/** "connect ECONNREFUSED 10.0.0.1:80", "bind EADDRINUSE 0.0.0.0:1234". */
export function addressError(status: number, syscall: string, address: string, port: number): SystemError {
  const where = port > 0 ? `${address}:${port}` : address;
  const error = systemError(`${syscall} ${statusName(status)} ${where}`, status, syscall);
  error.address = address;
  if (port > 0) error.port = port;
  return error;
}

/** "listen EADDRINUSE: address already in use 0.0.0.0:80". */
export function listenError(status: number, address: string, port: number): SystemError {
  const code = statusName(status);
  const where = port > 0 ? `${address}:${port}` : address;
  const text = systemErrors.get(code)?.text ?? "refused by the kernel";
  const error: SystemError = new Error(`listen ${code}: ${text} ${where}`);
  error.code = code;
  error.errno = errnoOf(status);
  error.syscall = "listen";
  error.address = address;
  if (port > 0) error.port = port;
  return error;
}

/** What a call of the stack has thrown, in Node's shape if it is an errno. */
export function asNodeError(cause: unknown, shape: (status: number) => Error): Error {
  if (cause instanceof NetPopcornError && cause.errno !== undefined) return shape(cause.errno);
  return cause instanceof Error ? cause : new Error(String(cause));
}

/** An error of Node's own kind: its name shows the code in the stack, as theirs do. */
export function nodeError(Base: ErrorConstructor, code: string, message: string): NodeJS.ErrnoException {
  const error: NodeJS.ErrnoException = new Base(message);
  error.code = code;
  return error;
}

export function received(value: unknown): string {
  if (value === null || value === undefined) return `Received ${value}`;
  if (typeof value === "function") return `Received function ${value.name}`;
  if (typeof value === "object") return `Received an instance of ${value.constructor?.name ?? "Object"}`;
  const shown = typeof value === "string" ? `'${value}'` : typeof value === "bigint" ? `${value}n` : String(value);
  return `Received type ${typeof value} (${shown})`;
}

export function invalidArgument(what: string, expected: string, value: unknown): NodeJS.ErrnoException {
  return nodeError(TypeError, "ERR_INVALID_ARG_TYPE", `The ${what} must be ${expected}. ${received(value)}`);
}

/**
 * @param value 0 to 65535, also as a string.
 * @throws RangeError ERR_SOCKET_BAD_PORT, TypeError ERR_INVALID_ARG_TYPE.
 */
export function checkPort(value: unknown): number {
  if (typeof value !== "number" && typeof value !== "string") {
    throw invalidArgument('"options.port" property', "one of type number or string", value);
  }
  const port = Number(value);
  const isPort = Number.isInteger(port) && port >= 0 && port <= 65535 && String(value).trim() !== "";
  if (!isPort) {
    const shown = `${received(value)}.`;
    throw nodeError(RangeError, "ERR_SOCKET_BAD_PORT", `Port should be >= 0 and < 65536. ${shown}`);
  }
  return port;
}

/** @returns milliseconds, by default Node's. @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_TYPE. */
export function checkAttemptTimeout(value: unknown): number {
  const name = "options.autoSelectFamilyAttemptTimeout";
  if (value === undefined || value === null) return getDefaultAutoSelectFamilyAttemptTimeout();
  if (typeof value !== "number") throw invalidArgument(`"${name}" property`, "of type number", value);
  if (Number.isInteger(value) && value >= 1 && value <= 0x7fffffff) return value;
  const text = `The value of "${name}" is out of range. It must be >= 1 && <= 2147483647. Received ${value}`;
  throw nodeError(RangeError, "ERR_OUT_OF_RANGE", text);
}

/** What is wrong with the answer of option lookup, if anything. */
export function checkLookup(
  address: string,
  family: number | undefined,
  host: string,
  port: number,
): NodeJS.ErrnoException | undefined {
  if (!isIP(address)) return invalidAddress(address);
  if (family === 4 || family === 6) return undefined;
  const message = `Invalid address family: ${family} ${host}:${port}`;
  return Object.assign(nodeError(RangeError, "ERR_INVALID_ADDRESS_FAMILY", message), { host, port });
}

export function invalidAddress(address: string): NodeJS.ErrnoException {
  return nodeError(TypeError, "ERR_INVALID_IP_ADDRESS", `Invalid IP address: ${address}`);
}

export function missingPort(): NodeJS.ErrnoException {
  const message = 'The "options" or "port" or "path" argument must be specified';
  return nodeError(TypeError, "ERR_MISSING_ARGS", message);
}

export function socketClosed(): NodeJS.ErrnoException {
  return nodeError(Error, "ERR_SOCKET_CLOSED", "Socket is closed");
}

export function closedBeforeConnection(): NodeJS.ErrnoException {
  const message = "Socket closed before the connection was established";
  return nodeError(Error, "ERR_SOCKET_CLOSED_BEFORE_CONNECTION", message);
}

/** A form of node:net that has no meaning on a network stack: pipes, file descriptors, handles. */
export function unsupported(what: string): NetPopcornError {
  return new NetPopcornError(
    "ERR_OPTION_UNSUPPORTED",
    `${what}: the stack has addresses and ports only; use node:net for pipes and descriptors`,
  );
}
