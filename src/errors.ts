/**
 * Errors of the public API. `code` is stable and machine-readable: the errno name where one fits, otherwise `ERR_*`.
 * The message says what went wrong and what to do about it.
 */
import * as STATUS from "./layout/status.ts";

/** What every call of this library throws or rejects with; docs/errors.md lists the codes. */
export class NetPopcornError extends Error {
  /** Errno name (EADDRINUSE, …) or ERR_*. */
  readonly code: string;
  /** Negative errno for errors that came from a kernel, otherwise undefined. */
  readonly errno: number | undefined;

  constructor(code: string, message: string, options?: { errno?: number; cause?: unknown }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = "NetPopcornError";
    this.code = code;
    this.errno = options?.errno;
  }
}

const names = new Map<number, string>(Object.entries(STATUS).map(([name, value]) => [value, name] as const));

const meanings: Readonly<Record<string, string>> = {
  EBADF: "the handle is closed or was never open",
  EAGAIN: "nothing there now; wait for the event",
  ENOMEM: "the kernel's memory is too small for this configuration; raise memoryBytes or lower connectionsMax",
  EBUSY: "somebody else has it; wait until it is released",
  ENODEV: "the stack has no interface of that address; give one of its addresses",
  EINVAL: "an argument is out of range",
  EPIPE: "the sending side is already shut down",
  EMSGSIZE: "the datagram is larger than a packet may be",
  EADDRINUSE: "address and port are already in use; close the other socket or choose another port",
  EADDRNOTAVAIL: "no such local address, or no local port is free; use one of the stack's addresses",
  ENETUNREACH: "no route to that network; add a gateway or an address in that network",
  ECONNABORTED: "the connection was aborted locally",
  ECONNRESET: "the peer reset the connection",
  ENOBUFS: "a pool is at its configured limit; raise connectionsMax or streamPoolBytes, or close connections",
  EISCONN: "already connected",
  ENOTCONN: "not connected",
  ETIMEDOUT: "the peer did not answer in time",
  ECONNREFUSED: "nobody listens at that address and port",
  EHOSTUNREACH: "the host does not answer",
};

/** Errno name of a negative kernel status. */
export function statusName(status: number): string {
  return names.get(status) ?? `ERRNO_${-status}`;
}

/** The error for a negative kernel status; `what` names the operation ("listen 0.0.0.0:80"). */
export function statusError(status: number, what: string): NetPopcornError {
  const code = statusName(status);
  return new NetPopcornError(code, `${what}: ${code}: ${meanings[code] ?? "refused by the kernel"}`, { errno: status });
}
