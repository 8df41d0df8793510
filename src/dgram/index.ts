/**
 * `netpopcorn/dgram`: node:dgram on this stack (docs/dgram.md). The default export and the named ones belong to the
 * stack of the application that this module is loaded in; `createDgram(stack)` makes the same for any stack.
 */
import type dgram from "node:dgram";
import type { KernelStack } from "../kernel/kernelStack.ts";
import { getDefaultStack, type NetStack } from "../net/stackOf.ts";
import type { Stack } from "../types.ts";
import { StackDgramSocket } from "./socket.ts";

type MessageListener = (message: Buffer<ArrayBuffer>, sender: dgram.RemoteInfo) => void;

/** node:dgram on a stack: the same function and class. */
export type Dgram = {
  readonly createSocket: typeof dgram.createSocket;
  readonly Socket: typeof dgram.Socket;
};

function createDgramOf(stackOf: () => NetStack): Dgram {
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

const bound: Dgram = createDgramOf(getDefaultStack);

/** node:dgram bound to a stack in inline mode, or to one kernel's. */
export function createDgram(stack: Stack | KernelStack): Dgram {
  return createDgramOf(() => stack);
}

export const { createSocket, Socket } = bound;

export default bound;
