/**
 * Character generator (RFC 864) over TCP: lines of 72 printing characters, each beginning one character further, until
 * the client closes. Deviates: no UDP, where one small forged request would be answered by a large datagram to its
 * victim.
 */
import { NetPopcornError } from "../../errors.ts";
import type { KernelStack } from "../../kernel/kernelStack.ts";
import { type ServiceArguments, type Session, type SessionLink, serveTcp } from "./tcpService.ts";

const FIRST_CHARACTER = 32;
const CHARACTERS = 95;
const LINE_CHARACTERS = 72;
const LINE_BYTES = LINE_CHARACTERS + 2;
/** After as many lines as characters the pattern begins again. */
const PERIOD_BYTES = CHARACTERS * LINE_BYTES;
/** Periods that lie in memory one after another, so that one send can be long. */
const PERIODS = 10;

/** The pattern of RFC 864, `PERIODS` times. */
export function chargenPattern(): Uint8Array {
  const pattern = new Uint8Array(PERIOD_BYTES * PERIODS);
  for (let i = 0; i < pattern.length; i++) {
    const line = Math.floor(i / LINE_BYTES);
    const column = i % LINE_BYTES;
    if (column === LINE_CHARACTERS) pattern[i] = 13;
    else if (column === LINE_CHARACTERS + 1) pattern[i] = 10;
    else pattern[i] = FIRST_CHARACTER + ((line + column) % CHARACTERS);
  }
  return pattern;
}

class ChargenSession implements Session {
  readonly #stack: KernelStack;
  readonly #link: SessionLink;
  readonly #pattern: number;
  /** Place in the period. */
  #at: number;

  constructor(stack: KernelStack, link: SessionLink, pattern: number, at = 0) {
    this.#stack = stack;
    this.#link = link;
    this.#pattern = pattern;
    this.#at = at;
  }

  advance(): void {
    const { handles } = this.#stack;
    const { handle } = this.#link;
    while (handles.peek(handle) > 0) handles.consume(handle, handles.available);
    if (this.#link.peerClosed) {
      this.#link.close();
      return;
    }
    for (;;) {
      const wanted = PERIOD_BYTES * PERIODS - this.#at;
      const sent = handles.send(handle, this.#pattern + this.#at, wanted);
      if (sent < 0) {
        this.#link.abort();
        return;
      }
      this.#at = (this.#at + sent) % PERIOD_BYTES;
      if (sent < wanted) return;
    }
  }

  drain(): void {
    this.#link.close();
  }

  save(): unknown {
    return this.#at;
  }
}

export default function chargen(stack: KernelStack, { port = 19 }: ServiceArguments = {}): void {
  const pattern = chargenPattern();
  const place = stack.handles.alloc(pattern.length);
  if (place === 0) throw new NetPopcornError("ENOMEM", "chargen: no memory for the pattern; raise memoryBytes");
  stack.handles.bytes.set(pattern, place);
  serveTcp({ stack, port, createSession: (link, at) => new ChargenSession(stack, link, place, at as number) });
}
