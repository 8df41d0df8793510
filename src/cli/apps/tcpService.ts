/**
 * What the built-in services share: one TCP port at the handle level, an object per connection that is told its
 * events.
 */

import { statusError } from "../../errors.ts";
import type { KernelStack } from "../../kernel/kernelStack.ts";
import {
  EVENT_ACCEPTABLE,
  EVENT_CLOSED,
  EVENT_HANDLE,
  EVENT_MASK,
  EVENT_PEER_CLOSED,
  EVENT_SIZE_BYTES,
  HANDLE_INDEX_MASK,
} from "../../layout/event.ts";

/** Arguments of the built-in services. */
export type ServiceArguments = {
  /** 1..65535. Default: the service's well-known port. */
  readonly port?: number;
};

export interface Session {
  /** Something has changed: bytes, room to send, or the end of the stream. Do all that can be done now. */
  advance(): void;
  /** The service is closing: end as soon as it is polite. */
  drain(): void;
  /**
   * The connection moves to another kernel (docs/migration.md): what createSession there goes on with,
   * structured-clonable. undefined: not now.
   */
  save(): unknown;
}

/** One end of a connection, as a session drives it. */
export class SessionLink {
  readonly handle: number;
  /** The peer's FIN has come: after the readable bytes there are no more. */
  peerClosed = false;
  /** close() or abort() has been called. */
  closed = false;
  readonly #stack: KernelStack;

  constructor(stack: KernelStack, handle: number) {
    this.#stack = stack;
    this.handle = handle;
  }

  /** FIN after what is queued; no more events. */
  close(): void {
    this.closed = true;
    this.#stack.handles.close(this.handle);
  }

  /** RST. */
  abort(): void {
    this.closed = true;
    this.#stack.handles.abort(this.handle);
  }
}

const EVENT_WORDS = EVENT_SIZE_BYTES >> 2;

/** What goes with a connection to another kernel. */
type Moving = { readonly peerClosed: boolean; readonly closed: boolean; readonly saved: unknown };

export type TcpServiceOptions = {
  readonly stack: KernelStack;
  readonly port: number;
  /** @param saved what save() of another kernel's session has returned; undefined: a new connection. */
  readonly createSession: (link: SessionLink, saved?: unknown) => Session;
  /** Events of handles that are not connections of this service. */
  readonly onOtherEvent?: (handle: number, mask: number) => void;
};

/** @throws NetPopcornError EADDRINUSE, EINVAL. */
export function serveTcp({ stack, port, createSession, onOtherEvent }: TcpServiceOptions): void {
  const { handles } = stack;
  const listener = handles.listen(port, LISTEN_BACKLOG);
  if (listener < 0) throw statusError(listener, `listen ${port}`);
  /** By index of the handle. */
  const sessions: ({ readonly link: SessionLink; readonly session: Session } | undefined)[] = [];

  const add = (link: SessionLink, saved?: unknown) => {
    const session = createSession(link, saved);
    const index = link.handle & HANDLE_INDEX_MASK;
    while (sessions.length <= index) sessions.push(undefined);
    sessions[index] = { link, session };
    // The first bytes may have come already.
    if (!link.closed) session.advance();
  };
  const accept = () => {
    for (let handle = handles.accept(listener); handle >= 0; handle = handles.accept(listener)) {
      add(new SessionLink(stack, handle));
    }
  };

  handles.onHandOver({
    leave(handle): Moving | undefined {
      const index = handle & HANDLE_INDEX_MASK;
      const entry = sessions[index];
      const saved = entry?.link.handle === handle ? entry.session.save() : undefined;
      if (!entry || saved === undefined) return undefined;
      sessions[index] = undefined;
      return { peerClosed: entry.link.peerClosed, closed: entry.link.closed, saved };
    },
    arrive(handle, state) {
      const { peerClosed, closed, saved } = state as Moving;
      const link = new SessionLink(stack, handle);
      link.peerClosed = peerClosed;
      link.closed = closed;
      add(link, saved);
    },
  });

  handles.onEvents((words, first, count) => {
    for (let i = 0, at = first; i < count; i++, at += EVENT_WORDS) {
      const handle = words[at + (EVENT_HANDLE >> 2)] as number;
      const mask = (words[at + (EVENT_MASK >> 2)] as number) & 0xffff;
      if (handle === listener) {
        if (mask & EVENT_ACCEPTABLE) accept();
        continue;
      }
      const index = handle & HANDLE_INDEX_MASK;
      const entry = sessions[index];
      if (entry?.link.handle !== handle) {
        onOtherEvent?.(handle, mask);
        continue;
      }
      if (mask & EVENT_PEER_CLOSED) entry.link.peerClosed = true;
      if (mask & EVENT_CLOSED) {
        sessions[index] = undefined;
        // Needed when the peer has ended it; otherwise the handle is closed already and this is refused.
        handles.close(handle);
      } else entry.session.advance();
    }
  });

  stack.signal.addEventListener("abort", () => {
    handles.closeListener(listener);
    for (const entry of sessions) entry?.session.drain();
    handles.flush();
  });
}

/** Connections per kernel that may wait to be accepted: load generators open them all at once. */
const LISTEN_BACKLOG = 4096;
