/** Echo (RFC 862): what comes goes back, over TCP and UDP. */
import { statusError } from "../../errors.ts";
import type { KernelStack } from "../../kernel/kernelStack.ts";
import { EVENT_DATAGRAM } from "../../layout/event.ts";
import { RESULT_BASE } from "../../layout/kernelMemory.ts";
import { type ServiceArguments, type Session, type SessionLink, serveTcp } from "./tcpService.ts";

class EchoSession implements Session {
  readonly #stack: KernelStack;
  readonly #link: SessionLink;

  constructor(stack: KernelStack, link: SessionLink) {
    this.#stack = stack;
    this.#link = link;
  }

  advance(): void {
    const { handles } = this.#stack;
    const { handle } = this.#link;
    for (let at = handles.peek(handle); at > 0; at = handles.peek(handle)) {
      const bytes = handles.available;
      // From the receive buffer straight into the send buffer. What does not fit stays, and closes the window.
      const sent = handles.send(handle, at, bytes);
      if (sent < 0) {
        this.#link.abort();
        return;
      }
      if (sent > 0) handles.consume(handle, sent);
      if (sent < bytes) return;
    }
    if (this.#link.peerClosed) this.#link.close();
  }

  drain(): void {
    this.#link.close();
  }

  save(): unknown {
    return {};
  }
}

export default function echo(stack: KernelStack, { port = 7 }: ServiceArguments = {}): void {
  const { handles } = stack;
  const socket = handles.udpBind(port);
  if (socket < 0) throw statusError(socket, `bind ${port}`);
  const echoDatagrams = () => {
    for (let at = handles.udpPeek(socket); at > 0; at = handles.udpPeek(socket)) {
      const remotePort = handles.words[(RESULT_BASE + 4) >> 2] as number;
      // A datagram that cannot be sent now is lost, as any may be.
      handles.exports.udpSendTo(socket, at, handles.available, RESULT_BASE + 8, remotePort);
      handles.udpConsume(socket);
    }
  };
  serveTcp({
    stack,
    port,
    createSession: (link) => new EchoSession(stack, link),
    onOtherEvent: (handle, mask) => {
      if (handle === socket && mask & EVENT_DATAGRAM) echoDatagrams();
    },
  });
}
