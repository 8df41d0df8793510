/** Discard (RFC 863) over TCP: what comes is thrown away. */
import type { KernelStack } from "../../kernel/kernelStack.ts";
import { type ServiceArguments, type Session, type SessionLink, serveTcp } from "./tcpService.ts";

class DiscardSession implements Session {
  readonly #stack: KernelStack;
  readonly #link: SessionLink;

  constructor(stack: KernelStack, link: SessionLink) {
    this.#stack = stack;
    this.#link = link;
  }

  advance(): void {
    const { handles } = this.#stack;
    const { handle } = this.#link;
    while (handles.peek(handle) > 0) handles.consume(handle, handles.available);
    if (this.#link.peerClosed) this.#link.close();
  }

  drain(): void {
    this.#link.close();
  }

  save(): unknown {
    return {};
  }
}

export default function discard(stack: KernelStack, { port = 9 }: ServiceArguments = {}): void {
  serveTcp({ stack, port, createSession: (link) => new DiscardSession(stack, link) });
}
