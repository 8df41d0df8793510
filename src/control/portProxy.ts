/**
 * A holder's side of the messages about ports: it asks the owner, and keeps what it has got, so that it can tell the
 * next owner. Holders are kernels and, where all kernels are on one thread, the stack itself, for which one of the
 * kernels speaks.
 */
import {
  MESSAGE_TYPE_CLAIM,
  MESSAGE_TYPE_DRAWN,
  MESSAGE_TYPE_FAILED,
  MESSAGE_TYPE_HOLDS,
  MESSAGE_TYPE_RELEASE,
  MESSAGE_TYPE_RESET,
} from "../layout/message.ts";
import { EADDRINUSE } from "../layout/status.ts";
import { formatAddress, parseAddress } from "../ip/address.ts";
import { decodeClaimed, encodePortMessage } from "./portMessages.ts";
import { type ClaimAnswer, type PortClaims, portKey, type PortRequest, rivalsOf } from "./ports.ts";

/** How a proxy reaches the owner: a kernel's control (kernelControl.ts). */
export interface OwnerLine {
  /** Sends to the present owner. */
  tell(type: number, payload: Uint8Array): void;
  /** Sends to the present owner; its answer comes to `onAnswer`. @returns a number to forget it by. */
  ask(type: number, payload: Uint8Array, onAnswer: (payload: Uint8Array) => void): number;
  forget(question: number): void;
}

type Pending = {
  readonly request: PortRequest;
  readonly resolve: (answer: ClaimAnswer) => void;
  /** At the present line; 0: not asked. */
  question: number;
};

type Held = {
  readonly request: PortRequest;
  /** undefined: the kernel itself has decided (handle level), and nobody else revokes it. */
  readonly answer: ClaimAnswer | undefined;
};

type Draw = { readonly request: PortRequest; readonly turn: number };

export class PortProxy implements PortClaims {
  onRevoked: PortClaims["onRevoked"];
  readonly #holder: number;
  #line: OwnerLine | undefined;
  readonly #held = new Map<string, Held>();
  readonly #draws: Draw[] = [];
  readonly #pending = new Set<Pending>();

  constructor(holder: number) {
    this.#holder = holder;
  }

  /**
   * Who speaks for this holder from now on; undefined: no kernel is left, so nobody else has anything.
   * @param tell the owner does not know yet, or no longer, what we have.
   */
  attach(line: OwnerLine | undefined, tell: boolean): void {
    if (line !== this.#line) for (const pending of this.#pending) this.#line?.forget(pending.question);
    this.#line = line;
    if (line && tell) this.reclaim();
    if (!line) for (const pending of this.#pending) this.#decide(pending);
  }

  /** Tells a new owner what this holder has, and asks once more for what has not been answered. */
  reclaim(): void {
    this.#tell(MESSAGE_TYPE_RESET, { protocol: "tcp", address: "", port: 0 });
    for (const { request, turn } of this.#draws) this.#tell(MESSAGE_TYPE_DRAWN, request, turn);
    for (const { request } of this.#held.values()) this.#tell(MESSAGE_TYPE_HOLDS, request);
    for (const pending of this.#pending) this.#ask(pending);
  }

  claim(request: PortRequest): Promise<Readonly<ClaimAnswer>> {
    return new Promise((resolve) => {
      const pending = { request: normalised(request), resolve, question: 0 };
      this.#pending.add(pending);
      if (this.#line) this.#ask(pending);
      else this.#decide(pending);
    });
  }

  /** Whether this holder has a port, or has asked for it. */
  wants(request: PortRequest): boolean {
    const key = portKey(normalised(request));
    return this.#held.has(key) || [...this.#pending].some((pending) => portKey(pending.request) === key);
  }

  /** Tells the owner of a port that the kernel has taken by itself (handle level). */
  hold(request: PortRequest): void {
    const own = normalised(request);
    this.#held.set(portKey(own), { request: own, answer: undefined });
    this.#tell(MESSAGE_TYPE_HOLDS, own);
  }

  release(request: PortRequest): void {
    const own = normalised(request);
    if (this.#held.delete(portKey(own))) this.#tell(MESSAGE_TYPE_RELEASE, own);
  }

  fail(request: PortRequest, status: number): void {
    const own = normalised(request);
    this.#held.delete(portKey(own));
    this.#tell(MESSAGE_TYPE_FAILED, own, 0, status);
  }

  /** Another kernel could not open what it shares with us. */
  revoke(request: PortRequest, status: number): void {
    const held = this.#held.get(portKey(request));
    if (!held) return;
    if (!held.answer) {
      this.#tell(MESSAGE_TYPE_HOLDS, held.request);
      return;
    }
    this.#held.delete(portKey(request));
    // Granted in this very turn: who has claimed it does not know yet.
    held.answer.result = status;
    this.onRevoked?.(request, status);
  }

  #ask(pending: Pending): void {
    const line = this.#line;
    if (!line) return;
    line.forget(pending.question);
    const payload = encodePortMessage({ ...pending.request, holder: this.#holder });
    pending.question = line.ask(MESSAGE_TYPE_CLAIM, payload, (answer) => this.#answered(pending, answer));
  }

  /** Without any kernel, what this holder has is all there is. Only a draw has to wait for an owner. */
  #decide(pending: Pending): void {
    const { request } = pending;
    if (request.port === 0) return;
    const isTaken = [request, ...rivalsOf(request)].some((other) => this.#held.has(portKey(other)));
    this.#settle(pending, isTaken ? EADDRINUSE : request.port, 0);
  }

  #answered(pending: Pending, answer: Uint8Array): void {
    const claimed = decodeClaimed(answer);
    if (claimed) this.#settle(pending, claimed.result, claimed.turn);
  }

  #settle(pending: Pending, result: number, turn: number): void {
    if (!this.#pending.delete(pending)) return;
    const answer = { result };
    if (result >= 0) {
      const got = { ...pending.request, port: result };
      this.#held.set(portKey(got), { request: got, answer });
      if (pending.request.port === 0) this.#draws.push({ request: got, turn });
    }
    pending.resolve(answer);
  }

  #tell(type: number, request: PortRequest, turn = 0, status = 0): void {
    this.#line?.tell(type, encodePortMessage({ ...request, holder: this.#holder, turn, status }));
  }
}

/** One text for one address. */
function normalised(request: PortRequest): PortRequest {
  return { ...request, address: formatAddress(parseAddress(request.address)) };
}
