/** Names that scripts may use for numbers, with Linux's values. */
import type { Expression } from "./ast.ts";
import { expressionText } from "./ast.ts";
import { Unsupported } from "./errors.ts";

export const O_RDWR = 2;
export const O_NONBLOCK = 0o4000;

export const MSG_PEEK = 2;
export const MSG_DONTWAIT = 0x40;
export const MSG_WAITALL = 0x100;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;
export const MSG_OOB = 1;
export const MSG_FASTOPEN = 0x20000000;

export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLERR = 8;
export const POLLHUP = 16;
export const POLLRDHUP = 0x2000;
export const EPOLLET = 2 ** 31;
export const EPOLLONESHOT = 2 ** 30;

export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;

const NUMBERS: Readonly<Record<string, number>> = {
  AF_UNSPEC: 0,
  AF_INET: 2,
  AF_INET6: 10,
  PF_INET: 2,
  PF_INET6: 10,
  SOCK_STREAM: 1,
  SOCK_DGRAM: 2,
  SOCK_RAW: 3,
  SOCK_NONBLOCK: O_NONBLOCK,
  SOCK_CLOEXEC: 0o2000000,
  IPPROTO_IP: 0,
  IPPROTO_ICMP: 1,
  IPPROTO_TCP: 6,
  IPPROTO_UDP: 17,
  IPPROTO_IPV6: 41,
  IPPROTO_ICMPV6: 58,
  O_RDONLY: 0,
  O_WRONLY: 1,
  O_RDWR,
  O_NONBLOCK,
  O_APPEND: 0o2000,
  F_GETFD: 1,
  F_SETFD: 2,
  F_GETFL: 3,
  F_SETFL: 4,
  FD_CLOEXEC: 1,
  SHUT_RD: 0,
  SHUT_WR: 1,
  SHUT_RDWR: 2,
  MSG_OOB,
  MSG_PEEK,
  MSG_DONTROUTE: 4,
  MSG_CTRUNC: 8,
  MSG_TRUNC: 0x20,
  MSG_DONTWAIT,
  MSG_EOR: 0x80,
  MSG_WAITALL,
  MSG_CONFIRM: 0x800,
  MSG_ERRQUEUE: 0x2000,
  MSG_NOSIGNAL,
  MSG_MORE,
  MSG_ZEROCOPY: 0x4000000,
  MSG_FASTOPEN,
  POLLIN,
  POLLPRI: 2,
  POLLOUT,
  POLLERR,
  POLLHUP,
  POLLNVAL: 32,
  POLLRDNORM: 0x40,
  POLLWRNORM: 0x100,
  POLLRDHUP,
  EPOLLIN: POLLIN,
  EPOLLPRI: 2,
  EPOLLOUT: POLLOUT,
  EPOLLERR: POLLERR,
  EPOLLHUP: POLLHUP,
  EPOLLRDHUP: POLLRDHUP,
  EPOLLET,
  EPOLLONESHOT,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  ...Object.fromEntries([0, 1, 2, 3, 4, 5, 6, 7].map((level) => [`IPTOS_DSCP_CS${level}`, level << 5])),
  IPTOS_LOWDELAY: 0x10,
  IPTOS_THROUGHPUT: 8,
  IPTOS_RELIABILITY: 4,
  IPTOS_MINCOST: 2,
  IPTOS_ECN_ECT0: 2,
  IPTOS_ECN_ECT1: 1,
  IPTOS_ECN_CE: 3,
  IP_PMTUDISC_DONT: 0,
  IP_PMTUDISC_WANT: 1,
  IP_PMTUDISC_DO: 2,
  IP_PMTUDISC_PROBE: 3,
};

/** Linux's numbers of the errnos that scripts mention. */
export const ERRNOS: Readonly<Record<string, number>> = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EEXIST: 17,
  EINVAL: 22,
  EMFILE: 24,
  EPIPE: 32,
  EPROTO: 71,
  ENOTSOCK: 88,
  EDESTADDRREQ: 89,
  EMSGSIZE: 90,
  EPROTOTYPE: 91,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTDOWN: 112,
  EHOSTUNREACH: 113,
  EALREADY: 114,
  EINPROGRESS: 115,
};

/** Other names of the same. */
const ERRNO_ALIASES: Readonly<Record<string, string>> = { EWOULDBLOCK: "EAGAIN", ENOTSUP: "EOPNOTSUPP" };

export function canonicalErrno(name: string): string {
  return ERRNO_ALIASES[name] ?? name;
}

/** @throws Unsupported for a name that is not known. */
export function numberOf(expression: Expression): number {
  switch (expression.kind) {
    case "number":
      return expression.value;
    case "or":
      // Bit 31 is EPOLLET: not a sign.
      return (numberOf(expression.left) | numberOf(expression.right)) >>> 0;
    case "word": {
      const value = NUMBERS[expression.name] ?? ERRNOS[canonicalErrno(expression.name)];
      if (value === undefined) throw new Unsupported(`the symbol ${expression.name}`);
      return value;
    }
    case "apply":
      if (expression.name === "htons" && expression.args[0]) return numberOf(expression.args[0]);
      break;
    default:
  }
  throw new Unsupported(`${expressionText(expression)} as a number`);
}

/** The field `name=…` of a structure; undefined when it has none. */
export function fieldOf(structure: Expression, name: string): Expression | undefined {
  if (structure.kind !== "struct") return undefined;
  const item = structure.items.find((part) => part.kind === "assign" && part.name === name);
  return item?.kind === "assign" ? item.value : undefined;
}
