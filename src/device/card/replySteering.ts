/** A model card's tables as connect() reads them, on any thread: they lie in the segment's memory. */
import {
  CARD_FILTER_COUNT,
  CARD_FLAG_FLOW_GROUPS,
  CARD_FLAGS,
  CARD_FLOW_GROUP_MASK,
  CARD_FLOW_GROUPS,
  CARD_LOCAL_PORT_FIRST,
  CARD_LOCAL_PORT_LAST,
  CARD_QUEUES,
  CARD_RETA,
  CARD_RETA_MASK,
  CARD_RSS_TABLES,
  CARD_SIZE_BYTES,
  CARDS_BASE,
  FLOW_GROUP_NONE,
} from "../../layout/card.ts";
import { TOEPLITZ_INPUT_BYTES_MAX, type ToeplitzTables } from "../../rss/toeplitz.ts";
import type { ReplySteering } from "../replySteering.ts";

export class CardReplySteering implements ReplySteering {
  readonly rss: NonNullable<ReplySteering["rss"]>;
  readonly groupQueue?: (group: number) => number;
  readonly flowGroups: number;
  readonly filterable = true;
  readonly #words: Uint32Array;
  readonly #at: number;
  readonly #queueFor: ReplySteering["queueFor"];

  constructor(memory: WebAssembly.Memory, card: number, queueFor: ReplySteering["queueFor"]) {
    this.#words = new Uint32Array(memory.buffer);
    this.#at = (CARDS_BASE + card * CARD_SIZE_BYTES) >> 2;
    this.#queueFor = queueFor;
    const halves = new Uint16Array(memory.buffer);
    const reta = 2 * this.#at + (CARD_RETA >> 1);
    // The card's own tables: rss/toeplitz.ts and assembly/rss/toeplitz.ts lay them out alike.
    const tables: ToeplitzTables = this.#words.subarray(
      this.#at + (CARD_RSS_TABLES >> 2),
      this.#at + (CARD_RSS_TABLES >> 2) + TOEPLITZ_INPUT_BYTES_MAX * 256,
    );
    const entries = this.#word(CARD_RETA_MASK) + 1;
    this.rss = { tables, entries, entryQueue: (entry) => halves[reta + entry] as number };
    this.flowGroups = this.#word(CARD_FLOW_GROUP_MASK) + 1;
    if (this.#word(CARD_FLAGS) & CARD_FLAG_FLOW_GROUPS) {
      const groups = 2 * this.#at + (CARD_FLOW_GROUPS >> 1);
      this.groupQueue = (group) => {
        const queue = halves[groups + group] as number;
        return queue === FLOW_GROUP_NONE ? -1 : queue;
      };
    }
  }

  get queues(): number {
    return this.#word(CARD_QUEUES);
  }

  get localPortFirst(): number {
    return this.#word(CARD_LOCAL_PORT_FIRST);
  }

  get localPortLast(): number {
    return this.#word(CARD_LOCAL_PORT_LAST);
  }

  get filterCount(): number {
    return this.#word(CARD_FILTER_COUNT);
  }

  queueFor(remote: Uint8Array, remotePort: number, local: Uint8Array, localPort: number, isUdp?: boolean): number {
    return this.#queueFor(remote, remotePort, local, localPort, isUdp);
  }

  #word(offset: number): number {
    return this.#words[this.#at + (offset >> 2)] as number;
  }
}
