/** System calls: opening, closing and the state of sockets. Bytes: transferCalls.ts. Waiting: readinessCalls.ts. */
import { addressFamily } from "../ip/address.ts";
import { INFO_URGENT_BYTES } from "../layout/option.ts";
import type { Call } from "./ast.ts";
import { Args, type Attempt, attempt, type CallContext, done, mayBlock } from "./callContext.ts";
import type { Endpoint } from "./encode.ts";
import { defaultRemote, openConnection } from "./opening.ts";
import { Unsupported } from "./errors.ts";
import { epollCreate, epollCtl, epollWait, poll } from "./readinessCalls.ts";
import { applyOptions, getSocketOption, setSocketOption } from "./socketOptions.ts";
import { type Descriptor, errnoOf, TcpSocket, UdpSocket } from "./sockets.ts";
import { numberOf, O_NONBLOCK, O_RDWR } from "./symbols.ts";
import { read, readv, receive, receiveFrom, receiveMessage, send, sendMessage, sendTo } from "./transferCalls.ts";
import { write, writev } from "./transferCalls.ts";

export type CallHandler = (context: CallContext, args: Args) => Attempt;

const HANDLERS: Readonly<Record<string, CallHandler>> = {
  socket,
  bind,
  listen,
  accept,
  accept4: accept,
  connect,
  close,
  shutdown,
  fcntl,
  ioctl,
  getsockopt: getSocketOption,
  setsockopt: setSocketOption,
  read,
  readv,
  recv: receive,
  recvfrom: receiveFrom,
  recvmsg: receiveMessage,
  write,
  writev,
  send,
  sendto: sendTo,
  sendmsg: sendMessage,
  poll,
  epoll_create: epollCreate,
  epoll_ctl: epollCtl,
  epoll_wait: epollWait,
};

/** @throws ScriptError for wrong arguments, Unsupported for calls that there are not. */
export function startCall(context: CallContext, call: Call, line: number): Attempt {
  const handler = HANDLERS[call.name];
  if (!handler) throw new Unsupported(`the system call ${call.name}`, line);
  return handler(context, new Args(call, line));
}

/** The descriptor of the first argument, or undefined: EBADF. */
function descriptorOf(context: CallContext, args: Args): Descriptor | undefined {
  return context.fds.get(args.number(0));
}

function socket(context: CallContext, args: Args): Attempt {
  const domain = args.expression(0);
  const family = domain.kind === "ellipsis" ? undefined : numberOf(domain);
  const type = args.number(1);
  const protocol = args.number(2);
  const [AF_INET, AF_INET6, SOCK_STREAM, SOCK_DGRAM] = [2, 10, 1, 2];
  if (family !== undefined && family !== AF_INET && family !== AF_INET6) return done("EAFNOSUPPORT");
  const kind = type & 15;
  if (kind === 3 || protocol === 1 || protocol === 58) throw new Unsupported("raw and ICMP sockets", args.line);
  let descriptor: Descriptor;
  if (kind === SOCK_STREAM && (protocol === 0 || protocol === 6)) descriptor = new TcpSocket(context.machine);
  else if (kind === SOCK_DGRAM && (protocol === 0 || protocol === 17)) descriptor = new UdpSocket(context.machine);
  else return done("EPROTONOSUPPORT");
  if (type & O_NONBLOCK) descriptor.fileFlags |= O_NONBLOCK;
  context.latest = descriptor;
  return done(context.add(args.call, args.line, descriptor));
}

function bind(context: CallContext, args: Args): Attempt {
  const descriptor = descriptorOf(context, args);
  if (!descriptor || descriptor.kind === "epoll") return done(descriptor ? "ENOTSOCK" : "EBADF");
  const port = args.endpoint(1)?.port ?? context.settings.bindPort;
  if (descriptor.kind === "udp") {
    const result = descriptor.bind(port);
    if (result === 0) context.byHandle.set(descriptor.handle as number, descriptor);
    return done(result);
  }
  if (descriptor.boundPort !== 0) return done("EINVAL");
  descriptor.boundPort = port;
  return done(0);
}

function listen(context: CallContext, args: Args): Attempt {
  const descriptor = descriptorOf(context, args);
  if (!descriptor) return done("EBADF");
  if (descriptor.kind !== "tcp") return done("EOPNOTSUPP");
  if (descriptor.handle !== undefined) return done("EINVAL");
  if (descriptor.listener !== undefined) return done(0);
  // On Linux a queue of n lets n + 1 in, and 0 is a backlog too.
  const backlog = args.number(1) + 1;
  const port = descriptor.boundPort === 0 ? context.settings.bindPort : descriptor.boundPort;
  const handle = context.machine.exports.tcpListen(-1, port, backlog);
  if (handle < 0) return done(errnoOf(handle));
  descriptor.boundPort = port;
  descriptor.listener = handle;
  context.byHandle.set(handle, descriptor);
  context.flows.isListening = true;
  applyOptions(context, descriptor);
  return done(0);
}

function accept(context: CallContext, args: Args): Attempt {
  const descriptor = descriptorOf(context, args);
  if (!descriptor) return done("EBADF");
  if (descriptor.kind !== "tcp") return done("EOPNOTSUPP");
  if (descriptor.listener === undefined) return done("EINVAL");
  const listener = descriptor.listener;
  return attempt(descriptor, () => {
    const handle = context.machine.exports.tcpAccept(listener);
    descriptor.pendingAccepts = Math.max(0, descriptor.pendingAccepts - 1);
    if (handle < 0) {
      descriptor.pendingAccepts = 0;
      return errnoOf(handle) === "EAGAIN" ? undefined : errnoOf(handle);
    }
    const child = new TcpSocket(context.machine);
    child.handle = handle;
    child.isConnected = true;
    child.boundPort = descriptor.boundPort;
    for (const [option, value] of descriptor.options) child.options.set(option, value);
    for (const [name, value] of descriptor.remembered) child.remembered.set(name, value);
    child.lingerSeconds = descriptor.lingerSeconds;
    if (args.call.name === "accept4" && args.flags(3) & O_NONBLOCK) child.fileFlags |= O_NONBLOCK;
    context.byHandle.set(handle, child);
    context.latest = child;
    return context.add(args.call, args.line, child);
  });
}

function connect(context: CallContext, args: Args): Attempt {
  const descriptor = descriptorOf(context, args);
  if (!descriptor) return done("EBADF");
  if (descriptor.kind === "epoll") return done("ENOTSOCK");
  const remote = args.endpoint(1) ?? defaultRemote(context);
  if (descriptor.kind === "udp") return connectUdp(context, descriptor, remote);
  if (descriptor.listener !== undefined) return done("EISCONN");
  if (descriptor.isConnected) return done("EISCONN");
  if (descriptor.isConnecting) return done("EALREADY");
  if (descriptor.handle !== undefined) return done(descriptor.takeError() ?? "ECONNABORTED");
  const opening = openConnection(context, descriptor, remote);
  if (opening === "fast") {
    descriptor.isSynWaiting = true;
    return done(0);
  }
  if (opening !== undefined) return done(opening);
  if (!mayBlock(descriptor)) return done("EINPROGRESS");
  return {
    poll() {
      if (descriptor.isConnecting) return undefined;
      return descriptor.isConnected ? 0 : (descriptor.takeError() ?? "ECONNABORTED");
    },
  };
}

function connectUdp(context: CallContext, socket: UdpSocket, remote: Endpoint): Attempt {
  if (addressFamily(remote.address) !== addressFamily(context.settings.remoteAddress)) return done("EAFNOSUPPORT");
  if (socket.handle === undefined) {
    const bound = socket.bind(0);
    if (bound !== 0) return done(bound);
    context.byHandle.set(socket.handle ?? 0, socket);
  }
  socket.remote = remote;
  context.flows.open({ address: context.settings.localAddress, port: socket.boundPort }, remote);
  return done(0);
}

function close(context: CallContext, args: Args): Attempt {
  const fd = args.number(0);
  const descriptor = context.fds.get(fd);
  if (!descriptor) return done("EBADF");
  context.fds.delete(fd);
  for (const other of context.fds.values()) if (other.kind === "epoll") other.watches.delete(fd);
  const { exports } = context.machine;
  if (descriptor.kind === "epoll") return done(0);
  if (descriptor.kind === "udp") {
    if (descriptor.handle !== undefined) exports.udpClose(descriptor.handle);
    return done(0);
  }
  if (descriptor.listener !== undefined) {
    exports.tcpListenClose(descriptor.listener);
    context.flows.isListening = false;
    return done(0);
  }
  if (descriptor.handle === undefined) return done(0);
  exports.tcpClose(descriptor.handle);
  // With 0 seconds the kernel resets (OPTION_LINGER_RESET).
  if (!descriptor.lingerSeconds || !mayBlock(descriptor) || descriptor.isOver) return done(0);
  const deadlineUs = context.machine.nowUs + descriptor.lingerSeconds * 1e6;
  return { deadlineUs, poll: () => (descriptor.isOver || context.machine.nowUs >= deadlineUs ? 0 : undefined) };
}

function shutdown(context: CallContext, args: Args): Attempt {
  const descriptor = descriptorOf(context, args);
  if (!descriptor) return done("EBADF");
  if (descriptor.kind !== "tcp") return done("ENOTCONN");
  const how = args.number(1);
  if (how > 2) return done("EINVAL");
  if (descriptor.handle === undefined || descriptor.isOver) return done("ENOTCONN");
  if (how !== 1) descriptor.isReceiveShut = true;
  if (how === 0 || descriptor.isSendShut) return done(0);
  const status = context.machine.exports.tcpShutdownSend(descriptor.handle);
  if (status < 0) return done(errnoOf(status));
  descriptor.isSendShut = true;
  return done(0);
}

function fcntl(context: CallContext, args: Args): Attempt {
  const descriptor = descriptorOf(context, args);
  if (!descriptor) return done("EBADF");
  const command = args.word(1);
  if (command === "F_GETFL") return done(descriptor.fileFlags);
  if (command === "F_SETFL") {
    descriptor.fileFlags = O_RDWR | (args.number(2) & O_NONBLOCK);
    return done(0);
  }
  if (command === "F_GETFD" || command === "F_SETFD") return done(0);
  throw new Unsupported(`fcntl ${command}`, args.line);
}

function ioctl(context: CallContext, args: Args): Attempt {
  const descriptor = descriptorOf(context, args);
  if (!descriptor) return done("EBADF");
  const request = args.word(1);
  const known = ["SIOCINQ", "FIONREAD", "SIOCATMARK"];
  if (descriptor.kind !== "tcp" || !known.includes(request)) throw new Unsupported(`ioctl ${request}`, args.line);
  const list = args.expression(2);
  const expected = list.kind === "list" && list.items[0] ? numberOf(list.items[0]) : undefined;
  // At the mark: the next byte is the last urgent one.
  const atMark = () => (descriptor.info(INFO_URGENT_BYTES) === 1 ? 1 : 0);
  const actual = request === "SIOCATMARK" ? atMark() : descriptor.readable;
  if (expected !== undefined && expected !== actual) args.fail(`${request} says ${actual}, expected ${expected}`);
  return done(0);
}
