/**
 * A kernel's part in the control of the stack: it has a view, knows who the owner is, asks it, and is it when its turn
 * comes. Everything here happens in the kernel's turns; the code is the same in threads, on one thread and in virtual
 * time.
 */
import {
  MESSAGE_TYPE_CLAIMED,
  MESSAGE_TYPE_FILTERS_GRANT,
  MESSAGE_TYPE_LISTENER,
  MESSAGE_TYPE_LISTENERS_ASK,
  MESSAGE_TYPE_LISTENERS_END,
  MESSAGE_TYPE_QUEUE_GRANT,
  MESSAGE_TYPE_RECLAIMED,
  MESSAGE_TYPE_REVOKED,
  MESSAGE_TYPE_TABLES_WRITE,
  MESSAGE_TYPE_TABLES_WRITTEN,
} from "../layout/message.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import { DeviceOwner } from "./deviceOwner.ts";
import { DeviceProxy } from "./deviceProxy.ts";
import { CONTROL_VERSION as VERSION, type Endpoint } from "./endpoint.ts";
import { decodePortMessage } from "./portMessages.ts";
import { PortOwner } from "./portOwner.ts";
import type { PortRequest } from "./ports.ts";
import { type OwnerLine, PortProxy } from "./portProxy.ts";
import { nextQuestion, QUESTION_MAX, questionCorrelation } from "./questions.ts";
import { connectView, type View } from "./view.ts";

type Question = {
  readonly id: number;
  readonly type: number;
  readonly payload: Uint8Array;
  readonly onAnswer: (payload: Uint8Array) => void;
};

type Missing = { found: PortRequest[]; question: number; readonly resolve: (found: PortRequest[]) => void };

/** Answers of the owner. They all have the version of the questions. */
const ANSWERS = [
  MESSAGE_TYPE_CLAIMED,
  MESSAGE_TYPE_QUEUE_GRANT,
  MESSAGE_TYPE_TABLES_WRITTEN,
  MESSAGE_TYPE_FILTERS_GRANT,
  MESSAGE_TYPE_LISTENERS_END,
] as const;

export type KernelControlOptions = {
  readonly endpoint: Endpoint;
  /** The kernel's own. */
  readonly memory: KernelMemory;
  /** An ephemeral port, uniformly; asked while this kernel is the owner. */
  readonly drawPort: () => number;
  /** The device's tables have refused something. */
  readonly onError: (error: unknown) => void;
};

export class KernelControl implements OwnerLine {
  readonly endpoint: Endpoint;
  /** Ports of this kernel's own sockets. */
  readonly ports: PortProxy;
  readonly portOwner: PortOwner;
  /** Its queue pair of the device, and what it may do there. */
  readonly device: DeviceProxy;
  readonly deviceOwner: DeviceOwner;
  #missing: Missing | undefined;
  readonly #reclaims: (() => void)[] = [];
  readonly #proxies = new Set<PortProxy>();
  /** By id. */
  readonly #questions = new Map<number, Question>();
  /** By correlation, those that have one. Who forgets one leaves it here: the answer may be on its way. */
  readonly #asked = new Map<number, Question>();
  /** All numbers are in use; in order. */
  readonly #waiting = new Set<Question>();
  #lastId = 0;
  #lastNumber = 0;
  #view: View | undefined;

  constructor({ endpoint, memory, drawPort, onError }: KernelControlOptions) {
    this.endpoint = endpoint;
    this.ports = new PortProxy(endpoint.kernelId);
    this.portOwner = new PortOwner(endpoint, drawPort);
    this.device = new DeviceProxy(endpoint, this);
    this.deviceOwner = new DeviceOwner(endpoint, memory, onError);
    for (const type of ANSWERS) {
      endpoint.on(type, VERSION, ({ from, correlation, payload }) => {
        // An owner that is none any more may have answered late: the new one is asked again.
        if (from === this.#view?.owner) this.#answered(correlation, payload);
      });
    }
    endpoint.on(MESSAGE_TYPE_LISTENER, VERSION, ({ correlation, payload }) => {
      const message = decodePortMessage(payload);
      const question = this.#asked.get(correlation);
      if (message && question && question.id === this.#missing?.question) this.#missing.found.push(message);
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

  /** The term since which it is; 0: not told yet. */
  get ownerSince(): number {
    return this.#view?.ownerSince ?? 0;
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
    this.deviceOwner.setView(view);
    if (before?.ownerSince === view.ownerSince) return;
    // Whoever has asked the last owner asks the next one itself.
    this.#questions.clear();
    this.#asked.clear();
    this.#waiting.clear();
    for (const proxy of this.#proxies) proxy.reclaim();
    this.tell(MESSAGE_TYPE_RECLAIMED, new Uint8Array(0));
    for (const reclaim of this.#reclaims) reclaim();
    if (this.#missing) this.#askMissing(this.#missing);
    this.device.reclaim();
  }

  /** Ports on which other kernels listen, or are bound to, and this one is not. */
  missingPorts(): Promise<PortRequest[]> {
    return new Promise((resolve) => {
      this.#missing = { found: [], question: 0, resolve };
      this.#askMissing(this.#missing);
    });
  }

  #askMissing(missing: Missing): void {
    this.forget(missing.question);
    missing.found = [];
    missing.question = this.ask(MESSAGE_TYPE_LISTENERS_ASK, new Uint8Array(0), () => {
      this.#missing = undefined;
      missing.resolve(missing.found);
    });
  }

  /** Called when there is another owner, before it is told that this was all. */
  onReclaim(reclaim: () => void): void {
    this.#reclaims.push(reclaim);
  }

  /**
   * Has the owner write to the device's tables, for the stack, whose kernels are on this thread.
   * @param onWritten not called when the owner dies, or this kernel: then another has to be asked.
   */
  writeTables(payload: Uint8Array, onWritten: (answer: Uint8Array) => void): void {
    this.ask(MESSAGE_TYPE_TABLES_WRITE, payload, onWritten);
  }

  /** The correlation tells the owner's term for which it is: what it has known before, it is told anew. */
  tell(type: number, payload: Uint8Array): void {
    if (this.#view) this.endpoint.tell(this.#view.owner, type, VERSION, this.#view.ownerSince, payload);
  }

  ask(type: number, payload: Uint8Array, onAnswer: Question["onAnswer"]): number {
    const question: Question = { id: ++this.#lastId, type, payload, onAnswer };
    this.#questions.set(question.id, question);
    this.#send(question);
    return question.id;
  }

  forget(id: number): void {
    const question = this.#questions.get(id);
    if (!question) return;
    this.#questions.delete(id);
    this.#waiting.delete(question);
  }

  #send(question: Question): void {
    const correlation = this.#freeCorrelation();
    if (correlation === undefined) {
      this.#waiting.add(question);
      return;
    }
    this.#asked.set(correlation, question);
    const { type, payload } = question;
    if (this.#view) this.endpoint.tell(this.#view.owner, type, VERSION, correlation, payload);
  }

  /** Numbers come again after 65,535; one that has not been answered keeps its own. */
  #freeCorrelation(): number | undefined {
    if (this.#asked.size >= QUESTION_MAX) return undefined;
    for (;;) {
      this.#lastNumber = nextQuestion(this.#lastNumber);
      const correlation = questionCorrelation(this.#lastNumber, this.ownerSince);
      if (!this.#asked.has(correlation)) return correlation;
    }
  }

  #answered(correlation: number, payload: Uint8Array): void {
    const question = this.#asked.get(correlation);
    if (!question) return;
    this.#asked.delete(correlation);
    for (const next of this.#waiting) {
      this.#waiting.delete(next);
      this.#send(next);
      break;
    }
    if (this.#questions.delete(question.id)) question.onAnswer(payload);
  }
}
