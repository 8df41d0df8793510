/**
 * Status codes that cross the kernel boundary: 0 or a count on success, a negative Linux errno on refusal.
 * Portable: read by asc and tsc; plain integer constants only.
 */
export const OK = 0;
export const EIO = -5;
export const EBADF = -9;
export const EAGAIN = -11;
export const ENOMEM = -12;
export const EBUSY = -16;
export const ENODEV = -19;
export const EINVAL = -22;
export const EPIPE = -32;
export const EMSGSIZE = -90;
export const EPROTO = -71;
export const EOPNOTSUPP = -95;
export const EADDRINUSE = -98;
export const EADDRNOTAVAIL = -99;
export const ENETUNREACH = -101;
export const ECONNABORTED = -103;
export const ECONNRESET = -104;
export const ENOBUFS = -105;
export const EISCONN = -106;
export const ENOTCONN = -107;
export const ETIMEDOUT = -110;
export const ECONNREFUSED = -111;
export const EHOSTUNREACH = -113;
