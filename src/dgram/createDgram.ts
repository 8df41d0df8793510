/** The module node:dgram bound to one stack. */
import type dgram from "node:dgram";
import type { NetStack } from "../net/stackOf.ts";
import { StackDgramSocket } from "./socket.ts";

type MessageListener = (message: Buffer<ArrayBuffer>, sender: dgram.RemoteInfo) => void;

/** node:dgram on a stack: the same function and class. */
export type Dgram = {
  readonly createSocket: typeof dgram.createSocket;
  readonly Socket: typeof dgram.Socket;
};

/** @param stackOf asked by each socket. */
export function createDgramOf(stackOf: () => NetStack): Dgram {
  class Socket extends StackDgramSocket {
    constructor(type: dgram.SocketType | dgram.SocketOptions, listener?: MessageListener) {
      super(type, listener, stackOf);
    }
  }
  const Typed = Socket as unknown as typeof dgram.Socket & (new (...args: unknown[]) => dgram.Socket);
  function createSocket(type: dgram.SocketType | dgram.SocketOptions, listener?: MessageListener): dgram.Socket {
    return new Typed(type, listener);
  }
  return { createSocket, Socket: Typed };
}
