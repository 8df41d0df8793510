/** System calls that move bytes. Contents are made up and verified by payload.ts. */
import { INFO_STATE, OPTION_CORK, OPTION_FAST_OPEN_CONNECT, OPTION_URGENT, STATE_SYN_SENT } from "../layout/option.ts";
import type { Expression } from "./ast.ts";
import { type Args, type Attempt, attempt, type CallContext, done, mayBlock } from "./callContext.ts";
import { Unsupported } from "./errors.ts";
import { defaultRemote, openConnection } from "./opening.ts";
import type { Descriptor, Result, TcpSocket } from "./sockets.ts";
import { offersFastOpen } from "./socketOptions.ts";
import { fieldOf, MSG_NOSIGNAL, MSG_PEEK, MSG_WAITALL, numberOf } from "./symbols.ts";
import { MSG_DONTWAIT, MSG_FASTOPEN, MSG_MORE, MSG_OOB } from "./symbols.ts";

const SEND_FLAGS = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE | MSG_OOB;
const RECEIVE_FLAGS = MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT | MSG_NOSIGNAL;

export const read = (context: CallContext, args: Args) => startReceive(context, args, args.number(2), 0);
export const receive = (context: CallContext, args: Args) => startReceive(context, args, args.number(2), args.flags(3));
export const receiveFrom = receive;
export const readv = (context: CallContext, args: Args) => startReceive(context, args, iovBytes(args, 1), 0);

export function receiveMessage(context: CallContext, args: Args): Attempt {
  const message = args.expression(1);
  const control = fieldOf(message, "msg_control");
  const receiving = startReceive(context, args, messageBytes(args, message), args.flags(2));
  if (control?.kind !== "list" || control.items.length === 0) return receiving;
  const [item] = control.items;
  if (control.items.length > 1 || !item || wordOf(item, "cmsg_type") !== "TCP_CM_INQ") {
    throw new Unsupported("control messages", args.line);
  }
  const expected = numberOf(fieldOf(item, "cmsg_data") ?? { kind: "number", value: 0, text: "0" });
  return {
    ...receiving,
    poll() {
      const result = receiving.poll();
      const left = result === undefined ? expected : bytesLeft(context, args);
      if (left !== expected) args.fail(`TCP_CM_INQ says ${left}, expected ${expected}`);
      return result;
    },
  };
}

function wordOf(structure: Expression, name: string): string | undefined {
  const field = fieldOf(structure, name);
  return field?.kind === "word" ? field.name : undefined;
}

/** As Linux's tcp_inq: bytes that can still be read; 1 when there are none and never will be. */
function bytesLeft(context: CallContext, args: Args): number {
  const descriptor = context.fds.get(args.number(0));
  if (descriptor?.kind !== "tcp") return 0;
  return descriptor.readable === 0 && descriptor.isPeerClosed ? 1 : descriptor.readable;
}

export const write = (context: CallContext, args: Args) => startSend(context, args, args.number(2), 0);
export const writev = (context: CallContext, args: Args) => startSend(context, args, iovBytes(args, 1), 0);
export const send = (context: CallContext, args: Args) => startSend(context, args, args.number(2), args.flags(3));
export const sendTo = send;

export function sendMessage(context: CallContext, args: Args): Attempt {
  return startSend(context, args, messageBytes(args, args.expression(1)), args.flags(2));
}

/** `[{..., 1000}, {..., 500}]` */
function listBytes(args: Args, list: Expression | undefined): number {
  if (list?.kind !== "list") throw new Unsupported("a message without a list of buffers", args.line);
  return list.items.reduce((sum, item) => {
    const size = item.kind === "struct" ? item.items[1] : undefined;
    if (!size) throw new Unsupported("a buffer without a size", args.line);
    return sum + numberOf(size);
  }, 0);
}

function iovBytes(args: Args, index: number): number {
  return listBytes(args, args.expression(index));
}

function messageBytes(args: Args, message: Expression): number {
  return listBytes(args, fieldOf(message, "msg_iov"));
}

function streamOrDatagram(context: CallContext, args: Args): Exclude<Descriptor, { kind: "epoll" }> | string {
  const descriptor = context.fds.get(args.number(0));
  if (!descriptor) return "EBADF";
  return descriptor.kind === "epoll" ? "EINVAL" : descriptor;
}

function startReceive(context: CallContext, args: Args, bytes: number, flags: number): Attempt {
  refuseFlags(args, flags & ~RECEIVE_FLAGS);
  const descriptor = streamOrDatagram(context, args);
  if (typeof descriptor === "string") return done(descriptor);
  if (bytes > 0 && isNull(args)) return done("EFAULT");
  const isPeek = (flags & MSG_PEEK) !== 0;
  if (!(flags & MSG_WAITALL) || isPeek || !mayBlock(descriptor, flags)) {
    return attempt(descriptor, () => descriptor.receive(bytes, isPeek), flags);
  }
  let taken = 0;
  return attempt(descriptor, () => {
    const result = descriptor.receive(bytes - taken, false);
    if (result === undefined) return undefined;
    if (typeof result === "string") return taken > 0 ? taken : result;
    taken += result;
    return taken === bytes || result === 0 ? taken : undefined;
  });
}

function startSend(context: CallContext, args: Args, bytes: number, flags: number): Attempt {
  refuseFlags(args, flags & ~(SEND_FLAGS | MSG_FASTOPEN));
  const descriptor = streamOrDatagram(context, args);
  if (typeof descriptor === "string") return done(descriptor);
  if (bytes > 0 && isNull(args)) return done("EFAULT");
  if (descriptor.kind === "tcp" && asksFastOpen(context, args, descriptor, flags)) {
    if (!offersFastOpen(context)) return done("EOPNOTSUPP");
    if (args.count > 4 && isUnspecified(args.expression(4))) return done("EOPNOTSUPP");
    if (descriptor.handle === undefined) return startFastOpen(context, args, descriptor, bytes, flags);
    if (descriptor.isConnecting) return done("EALREADY");
  }
  if (descriptor.kind === "tcp" && descriptor.isSynWaiting) return sendWithSyn(context, descriptor, bytes, flags);
  if (descriptor.kind === "udp") {
    const result = descriptor.send(bytes, args.call.name === "sendto" ? args.endpoint(4) : undefined);
    if (descriptor.handle !== undefined) context.byHandle.set(descriptor.handle, descriptor);
    return done(result);
  }
  const isMore = (flags & MSG_MORE) !== 0;
  holdBack(context, descriptor, isMore);
  if ((flags & MSG_OOB) !== 0) return attempt(descriptor, () => writeUrgent(context, descriptor, bytes), flags);
  if (!mayBlock(descriptor, flags)) return attempt(descriptor, () => descriptor.write(bytes), flags);
  let taken = 0;
  return attempt(descriptor, (): Result | undefined => {
    for (;;) {
      const result = descriptor.write(bytes - taken);
      if (result === undefined) return undefined;
      if (typeof result === "string") return taken > 0 ? taken : result;
      taken += result;
      if (taken === bytes) return taken;
    }
  });
}

/** The mark stands behind what has been taken. */
function writeUrgent({ machine }: CallContext, socket: TcpSocket, bytes: number): Result | undefined {
  const result = socket.write(bytes);
  if (typeof result === "number" && socket.handle !== undefined) {
    machine.exports.tcpSetOption(socket.handle, OPTION_URGENT, 1);
  }
  return result;
}

/** Linux: MSG_FASTOPEN. FreeBSD: sendto with an address on a socket with TCP_FASTOPEN. */
function asksFastOpen(context: CallContext, args: Args, socket: TcpSocket, flags: number): boolean {
  if (flags & MSG_FASTOPEN) return true;
  const isSet = socket.remembered.get("IPPROTO_TCP TCP_FASTOPEN") === 1;
  return context.settings.isFreeBsd && isSet && args.call.name === "sendto" && args.count > 4;
}

/** MSG_MORE is TCP_CORK for one call: the next one without it lets go of everything. */
function holdBack(context: CallContext, socket: TcpSocket, isMore: boolean): void {
  const isCorked = socket.options.get(OPTION_CORK) === 1;
  if (isCorked || (!isMore && !socket.holdsBack) || socket.handle === undefined) return;
  socket.holdsBack = isMore;
  context.machine.exports.tcpSetOption(socket.handle, OPTION_CORK, isMore ? 1 : 0);
}

/** The family AF_UNSPEC, which connect() takes for the end of an association. */
function isUnspecified(address: Expression): boolean {
  return address.kind === "word" && address.name === "AF_UNSPEC";
}

/** connect() and send in one: the bytes go with the SYN where a cookie is known (RFC 7413, appendix A.1). */
function startFastOpen(context: CallContext, args: Args, socket: TcpSocket, bytes: number, flags: number): Attempt {
  socket.options.set(OPTION_FAST_OPEN_CONNECT, 2);
  const endpoint = args.call.name === "sendto" ? args.endpoint(4) : undefined;
  const opening = openConnection(context, socket, endpoint ?? defaultRemote(context));
  if (opening !== undefined && opening !== "fast") return done(opening);
  return sendWithSyn(context, socket, bytes, flags);
}

/** The first bytes of a connection whose SYN has not left, and takes `socket.synRoom` of them. */
function sendWithSyn(context: CallContext, socket: TcpSocket, bytes: number, flags: number): Attempt {
  const { handle, synRoom } = socket;
  socket.isSynWaiting = false;
  if (handle !== undefined && bytes === 0) context.machine.exports.tcpSetOption(handle, OPTION_FAST_OPEN_CONNECT, 2);
  // FreeBSD's call takes what there is room for and does not wait for the handshake.
  if (context.settings.isFreeBsd) return done(socket.write(bytes, true) ?? 0);
  if (!mayBlock(socket, flags)) {
    // As in Linux: what goes with the SYN and no more.
    const result = synRoom === 0 || bytes === 0 ? "EINPROGRESS" : (socket.write(Math.min(bytes, synRoom)) ?? 0);
    socket.isConnecting = true;
    socket.isConnected = false;
    return done(result);
  }
  let taken = 0;
  return attempt(socket, (): Result | undefined => {
    const result = taken < bytes ? socket.write(bytes - taken) : (socket.takeError() ?? 0);
    // The call is over with the handshake: what was taken for a SYN that is refused has gone nowhere.
    if (typeof result === "string") return result;
    taken += result ?? 0;
    return taken === bytes && socket.info(INFO_STATE) !== STATE_SYN_SENT ? taken : undefined;
  });
}

/** The one wrong pointer that a script can write. */
function isNull(args: Args): boolean {
  const buffer = args.call.args[1];
  return buffer?.kind === "word" && buffer.name === "NULL";
}

function refuseFlags(args: Args, unknown: number): void {
  if (unknown !== 0) throw new Unsupported(`${args.call.name} with flags 0x${(unknown >>> 0).toString(16)}`, args.line);
}
