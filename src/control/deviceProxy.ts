/**
 * A kernel's side of the messages about the device: it gets its queue pair from the owner, and from then on drives it
 * alone. It takes flow groups that it is offered as long as it does.
 *
 * ```
 *  none ──acquire()──▶ asked ──GRANT──▶ granted ──confirm()──▶ driving ──release()──▶ released
 *                        │  ▲
 *                        └──┘ another owner: asked again
 * ```
 */
import {
  MESSAGE_TYPE_FILTERS_RECALL,
  MESSAGE_TYPE_FILTERS_RECALLED,
  MESSAGE_TYPE_GROUPS_ANSWER,
  MESSAGE_TYPE_GROUPS_MOVED,
  MESSAGE_TYPE_GROUPS_OFFER,
  MESSAGE_TYPE_OWNER_SERVES,
  MESSAGE_TYPE_QUEUE_ASK,
  MESSAGE_TYPE_QUEUE_CONFIRM,
  MESSAGE_TYPE_QUEUE_HOLDS,
  MESSAGE_TYPE_QUEUE_RELEASE,
} from "../layout/message.ts";
import { EAGAIN, OK } from "../layout/status.ts";
import { statusError } from "../errors.ts";
import { decodeGroups, decodeQueueMessage, type DeviceTerms, encodeQueueMessage } from "./deviceMessages.ts";
import { type Endpoint, type Message, CONTROL_VERSION as VERSION } from "./endpoint.ts";
import type { OwnerLine } from "./portProxy.ts";

export type QueueState = "none" | "asked" | "granted" | "driving" | "released";

type Asked = { readonly resolve: (terms: DeviceTerms) => void; readonly reject: (error: Error) => void };

export class DeviceProxy {
  /** The owner wants back the exact filters that are not in use. */
  onRecall: () => void = () => {};
  readonly #endpoint: Endpoint;
  readonly #line: OwnerLine;
  #state: QueueState = "none";
  #asked: Asked | undefined;
  #question = 0;
  #terms: DeviceTerms | undefined;
  #leaving = false;
  /** Flow groups that have come and gone by offers. */
  groupsTaken = 0;
  groupsGiven = 0;
  /** Owners that have told that they serve. */
  takeovers = 0;

  constructor(endpoint: Endpoint, line: OwnerLine) {
    this.#endpoint = endpoint;
    this.#line = line;
    endpoint.on(MESSAGE_TYPE_GROUPS_OFFER, VERSION, (message) => this.#offered(message));
    endpoint.on(MESSAGE_TYPE_GROUPS_MOVED, VERSION, (message) => this.#moved(message));
    endpoint.on(MESSAGE_TYPE_FILTERS_RECALL, VERSION, ({ from, correlation }) => {
      this.onRecall();
      endpoint.tell(from, MESSAGE_TYPE_FILTERS_RECALLED, VERSION, correlation);
    });
    endpoint.on(MESSAGE_TYPE_OWNER_SERVES, VERSION, () => {
      this.takeovers++;
    });
  }

  get state(): QueueState {
    return this.#state;
  }

  /** What the owner has negotiated with the device; undefined before the grant. */
  get terms(): DeviceTerms | undefined {
    return this.#terms;
  }

  /** Queue pair of this kernel. */
  get queue(): number {
    return this.#endpoint.kernelId;
  }

  /**
   * Asks the owner for this kernel's queue pair, once in its life.
   * @throws NetPopcornError EBUSY: another has it; EINVAL: the device has no such queue.
   */
  acquire(): Promise<DeviceTerms> {
    this.#state = "asked";
    return new Promise((resolve, reject) => {
      this.#asked = { resolve, reject };
      this.#ask();
    });
  }

  /** The port is open. */
  confirm(): void {
    if (this.#state !== "granted") return;
    this.#state = "driving";
    this.#line.tell(MESSAGE_TYPE_QUEUE_CONFIRM, encodeQueueMessage(this.queue));
  }

  /** From now on offers are refused. */
  leave(): void {
    this.#leaving = true;
  }

  /** The port is closed, for good. */
  release(): void {
    if (this.#state !== "driving" && this.#state !== "granted") return;
    this.#state = "released";
    this.#line.tell(MESSAGE_TYPE_QUEUE_RELEASE, encodeQueueMessage(this.queue));
  }

  /** Tells a new owner of the queue pair that this kernel has, and asks it for one that it has not got. */
  reclaim(): void {
    const has = this.#state === "granted" || this.#state === "driving";
    this.#line.tell(MESSAGE_TYPE_QUEUE_HOLDS, encodeQueueMessage(this.queue, has ? 1 : 0));
    if (this.#state === "asked") this.#ask();
  }

  #ask(): void {
    this.#line.forget(this.#question);
    const onAnswer = (payload: Uint8Array) => this.#answered(payload);
    this.#question = this.#line.ask(MESSAGE_TYPE_QUEUE_ASK, encodeQueueMessage(this.queue), onAnswer);
  }

  #answered(payload: Uint8Array): void {
    const answer = decodeQueueMessage(payload);
    const asked = this.#asked;
    if (!answer || !asked || this.#state !== "asked") return;
    this.#asked = undefined;
    if (answer.status < 0 || !answer.terms) {
      this.#state = "none";
      asked.reject(statusError(answer.status, `queue pair ${this.queue} of the device`));
      return;
    }
    this.#state = "granted";
    this.#terms = answer.terms;
    asked.resolve(answer.terms);
  }

  #offered({ from, correlation }: Message): void {
    const status = this.#state === "driving" && !this.#leaving ? OK : EAGAIN;
    this.#endpoint.tell(from, MESSAGE_TYPE_GROUPS_ANSWER, VERSION, correlation, encodeQueueMessage(this.queue, status));
  }

  #moved({ payload }: Message): void {
    const news = decodeGroups(payload);
    if (!news) return;
    if (news.queue === this.queue) this.groupsTaken += news.groups.length;
    else this.groupsGiven += news.groups.length;
  }
}
