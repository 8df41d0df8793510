/**
 * The owner's side of the messages about ports. Every kernel has one; it is idle while another kernel is the owner.
 *
 * ```
 *  idle ──view names us──▶ gathering ──RECLAIMED of every kernel in the view──▶ serving
 *    ▲                                                                            │
 *    └──────────────────────────── view names another ────────────────────────────┘
 * ```
 * What the registry holds is known to those who hold it, so an owner that dies takes nothing with it: a new one asks
 * nobody, every kernel tells it by itself. While it gathers, claims wait; releases and what kernels tell do not.
 */
import {
  MESSAGE_TYPE_CLAIM,
  MESSAGE_TYPE_CLAIMED,
  MESSAGE_TYPE_DRAWN,
  MESSAGE_TYPE_FAILED,
  MESSAGE_TYPE_HOLDS,
  MESSAGE_TYPE_LISTENER,
  MESSAGE_TYPE_LISTENERS_ASK,
  MESSAGE_TYPE_LISTENERS_END,
  MESSAGE_TYPE_RECLAIMED,
  MESSAGE_TYPE_RELEASE,
  MESSAGE_TYPE_RESET,
  MESSAGE_TYPE_REVOKED,
} from "../layout/message.ts";
import { EADDRINUSE } from "../layout/status.ts";
import { type Endpoint, type Message, CONTROL_VERSION as VERSION } from "./endpoint.ts";
import { decodePortMessage, encodeClaimed, encodePortMessage, type PortMessage } from "./portMessages.ts";
import { PortRegistry } from "./ports.ts";
import type { View } from "./view.ts";

/** A message about ports, taken out of its ring. */
type Told = {
  readonly from: number;
  readonly life: number;
  readonly type: number;
  readonly correlation: number;
  readonly message: PortMessage | undefined;
};

const TYPES = [
  MESSAGE_TYPE_CLAIM,
  MESSAGE_TYPE_RELEASE,
  MESSAGE_TYPE_RESET,
  MESSAGE_TYPE_HOLDS,
  MESSAGE_TYPE_DRAWN,
  MESSAGE_TYPE_RECLAIMED,
  MESSAGE_TYPE_FAILED,
  MESSAGE_TYPE_LISTENERS_ASK,
] as const;
/**
 * So long a claim waits for other kernels to close the wildcard in its way: an application that changes from one to the
 * other runs in all of them, some of them a turn, or a full processor, behind. Then it is EADDRINUSE.
 */
const RIVALS_WAIT_NS = 500e6;

/** Without a port in its payload. */
const BARE: readonly number[] = [MESSAGE_TYPE_RECLAIMED, MESSAGE_TYPE_LISTENERS_ASK];

export class PortOwner {
  readonly #endpoint: Endpoint;
  readonly #drawPort: () => number;
  #registry: PortRegistry;
  #serving = false;
  #owns = false;
  #ownerSince = 0;
  /** Kernels that have not told all they have. */
  #missing = new Set<number>();
  /** Claims that wait until all have. */
  #waiting: Told[] = [];
  /** Claims with other kernels' wildcards in their way. */
  #blocked: { readonly told: Told; untilNs: number }[] = [];
  /** Told to us before we have heard that we are the owner. */
  #early: Told[] = [];
  #lives = new Map<number, number>();

  /** @param drawPort an ephemeral port, uniformly. */
  constructor(endpoint: Endpoint, drawPort: () => number) {
    this.#endpoint = endpoint;
    this.#drawPort = drawPort;
    this.#registry = new PortRegistry(drawPort);
    for (const type of TYPES) endpoint.on(type, VERSION, (message) => this.#hear(message));
  }

  /** Ports that somebody has, as far as this kernel knows as the owner; undefined: it is not, or still gathers. */
  get portCount(): number | undefined {
    return this.#serving ? this.#registry.size : undefined;
  }

  setView({ owner, ownerSince, members, term }: View): void {
    const lives = new Map(members.map(({ kernelId, life }) => [kernelId, life] as const));
    const owned = this.#owns && this.#ownerSince === ownerSince;
    if (this.#owns && !owned) {
      this.#waiting = [];
      this.#blocked = [];
    }
    this.#ownerSince = ownerSince;
    this.#owns = owner === this.#endpoint.kernelId;
    if (this.#owns && !owned) {
      this.#registry = new PortRegistry(this.#drawPort);
      // In the first view nobody can have anything.
      this.#missing = new Set(term > 1 ? lives.keys() : []);
      for (const told of this.#early.splice(0)) if (lives.get(told.from) === told.life) this.#take(told);
    } else if (this.#owns) {
      for (const [kernelId, life] of this.#lives) {
        if (lives.get(kernelId) === life) continue;
        this.#registry.releaseAll(kernelId);
        this.#missing.delete(kernelId);
        this.#waiting = this.#waiting.filter(({ from }) => from !== kernelId);
        this.#blocked = this.#blocked.filter(({ told }) => told.from !== kernelId);
      }
    } else {
      this.#serving = false;
    }
    this.#lives = lives;
    this.#serveWhenComplete();
  }

  /** @param nowNs of the kernel's turn. */
  turn(nowNs: number): void {
    if (this.#blocked.length === 0) return;
    for (const blocked of this.#blocked) if (blocked.untilNs === 0) blocked.untilNs = nowNs + RIVALS_WAIT_NS;
    const isDue = ({ untilNs }: { untilNs: number }) => untilNs <= nowNs;
    for (const { told } of this.#blocked.filter(isDue)) this.#answer(told, EADDRINUSE, 0);
    this.#blocked = this.#blocked.filter((blocked) => !isDue(blocked));
  }

  /** When a turn is due, in ns; Infinity: never. */
  get nextTurnNs(): number {
    return this.#blocked.reduce((soonest, { untilNs }) => Math.min(soonest, untilNs), Number.POSITIVE_INFINITY);
  }

  #hear({ from, life, type, correlation, payload }: Message): void {
    const told = { from, life, type, correlation, message: decodePortMessage(payload) };
    if (!told.message && !BARE.includes(type)) return;
    if (this.#owns) this.#take(told);
    else this.#early.push(told);
  }

  #take(told: Told): void {
    const { from, type, correlation, message } = told;
    if (type === MESSAGE_TYPE_RECLAIMED) {
      // One that was meant for an earlier term of ours says nothing.
      if (correlation === this.#ownerSince) this.#missing.delete(from);
    } else if (type === MESSAGE_TYPE_CLAIM || type === MESSAGE_TYPE_LISTENERS_ASK) this.#waiting.push(told);
    else if (message) this.#note(from, type, message);
    this.#serveWhenComplete();
  }

  #note(from: number, type: number, message: PortMessage): void {
    const registry = this.#registry;
    if (type === MESSAGE_TYPE_RELEASE) registry.release(message.holder, message);
    else if (type === MESSAGE_TYPE_RESET) registry.releaseAll(message.holder);
    else if (type === MESSAGE_TYPE_HOLDS) registry.restore(message.holder, message);
    else if (type === MESSAGE_TYPE_DRAWN) registry.noteDrawn(message.holder, message, message.turn);
    else if (type === MESSAGE_TYPE_FAILED) this.#revoke(from, message);
  }

  /** A listener is everywhere or nowhere: what one kernel could not open, the others close. */
  #revoke(from: number, message: PortMessage): void {
    this.#registry.fail(message.holder, message, message.status);
    for (const kernelId of [...this.#endpoint.peers, this.#endpoint.kernelId]) {
      if (kernelId !== from)
        this.#endpoint.tell(kernelId, MESSAGE_TYPE_REVOKED, VERSION, 0, encodePortMessage(message));
    }
  }

  #serveWhenComplete(): void {
    this.#serving = this.#owns && this.#missing.size === 0;
    if (!this.#serving) return;
    for (const { told, untilNs } of this.#blocked.splice(0)) this.#serve(told, untilNs);
    for (const told of this.#waiting.splice(0)) this.#serve(told, 0);
  }

  /** @param untilNs when a claim that is blocked is refused; 0: told in the next turn. */
  #serve(told: Told, untilNs: number): void {
    const { from, type, correlation, message } = told;
    if (type === MESSAGE_TYPE_LISTENERS_ASK) this.#tellListeners(from, correlation);
    if (!message) return;
    const { result, turn, mayPass } = this.#registry.claim(message.holder, message);
    if (mayPass) this.#blocked.push({ told, untilNs });
    else this.#answer(told, result, turn);
  }

  #answer({ from, correlation }: Told, result: number, turn: number): void {
    this.#endpoint.tell(from, MESSAGE_TYPE_CLAIMED, VERSION, correlation, encodeClaimed(result, turn));
  }

  #tellListeners(to: number, correlation: number): void {
    for (const request of this.#registry.heldByOthers(to)) {
      this.#endpoint.tell(to, MESSAGE_TYPE_LISTENER, VERSION, correlation, encodePortMessage(request));
    }
    this.#endpoint.tell(to, MESSAGE_TYPE_LISTENERS_END, VERSION, correlation);
  }
}
