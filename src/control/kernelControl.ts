/**
 * A kernel's part in the control of the stack: it has a view, knows who the owner is, asks it, and is it when its turn
 * comes. Everything here happens in the kernel's turns; the code is the same in threads, on one thread and in virtual
 * time.
 */
import { MESSAGE_TYPE_CLAIMED, MESSAGE_TYPE_RECLAIMED, MESSAGE_TYPE_REVOKED } from "../layout/message.ts";
import type { Endpoint } from "./endpoint.ts";
import { decodePortMessage, PORT_MESSAGE_VERSION as VERSION } from "./portMessages.ts";
import { PortOwner } from "./portOwner.ts";
import { type OwnerLine, PortProxy } from "./portProxy.ts";
import { connectView, type View } from "./view.ts";

type Question = { readonly onAnswer: (payload: Uint8Array) => void };

const CORRELATION_MAX = 0x7fffffff;

export class KernelControl implements OwnerLine {
  readonly endpoint: Endpoint;
  /** Ports of this kernel's own sockets. */
  readonly ports: PortProxy;
  readonly portOwner: PortOwner;
  readonly #proxies = new Set<PortProxy>();
  readonly #questions = new Map<number, Question>();
  #lastQuestion = 0;
  #view: View | undefined;

  /** @param drawPort an ephemeral port, uniformly; asked while this kernel is the owner. */
  constructor(endpoint: Endpoint, drawPort: () => number) {
    this.endpoint = endpoint;
    this.ports = new PortProxy(endpoint.kernelId);
    this.portOwner = new PortOwner(endpoint, drawPort);
    endpoint.on(MESSAGE_TYPE_CLAIMED, VERSION, ({ from, correlation, payload }) => {
      // An owner that is none any more may have answered late: the new one is asked again.
      if (from === this.#view?.owner) this.#answered(correlation, payload);
    });
    endpoint.on(MESSAGE_TYPE_REVOKED, VERSION, ({ payload }) => {
      const message = decodePortMessage(payload);
      if (message) for (const proxy of this.#proxies) proxy.revoke(message, message.status);
    });
    this.sponsor(this.ports, false);
  }

  get kernelId(): number {
    return this.endpoint.kernelId;
  }

  /** Kernel that owns the device and the registry of ports; -1: not told yet. */
  get owner(): number {
    return this.#view?.owner ?? -1;
  }

  /** Speaks for a holder of ports from now on. @param tell the owner what it has. */
  sponsor(proxy: PortProxy, tell: boolean): void {
    this.#proxies.add(proxy);
    proxy.attach(this, tell);
  }

  /**
   * Takes in who is there, and who is the owner. A new owner is told all that the holders here have.
   * @param wake of the kernels whose memory is not shared.
   */
  setView(view: View, wake: (kernelId: number) => void): void {
    const before = this.#view;
    if (before && view.term <= before.term) return;
    this.#view = view;
    connectView(this.endpoint, view, wake);
    this.portOwner.setView(view);
    if (before?.owner === view.owner && lifeOf(before, view.owner) === lifeOf(view, view.owner)) return;
    for (const proxy of this.#proxies) proxy.reclaim();
    this.tell(MESSAGE_TYPE_RECLAIMED, new Uint8Array(0));
  }

  tell(type: number, payload: Uint8Array): void {
    if (this.#view) this.endpoint.send(this.#view.owner, type, VERSION, 0, payload);
  }

  ask(type: number, payload: Uint8Array, onAnswer: Question["onAnswer"]): number {
    this.#lastQuestion = (this.#lastQuestion % CORRELATION_MAX) + 1;
    const question = this.#lastQuestion;
    this.#questions.set(question, { onAnswer });
    if (this.#view) this.endpoint.send(this.#view.owner, type, VERSION, question, payload);
    return question;
  }

  forget(question: number): void {
    this.#questions.delete(question);
  }

  #answered(question: number, payload: Uint8Array): void {
    const known = this.#questions.get(question);
    this.#questions.delete(question);
    known?.onAnswer(payload);
  }
}

function lifeOf({ members }: View, kernelId: number): number | undefined {
  return members.find((member) => member.kernelId === kernelId)?.life;
}
