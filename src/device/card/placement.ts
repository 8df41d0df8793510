/** A card's tables as one list of entries: the queue for what is no IP packet, the RETA, then the flow groups. */
import type { Placement } from "../device.ts";
import type { CardRegisters } from "./registers.ts";

const RETA_FIRST = 1;

export class CardPlacement implements Placement {
  readonly entries: number;
  readonly #registers: CardRegisters;
  readonly #groupFirst: number;

  constructor(registers: CardRegisters) {
    this.#registers = registers;
    this.#groupFirst = RETA_FIRST + registers.retaEntries;
    this.entries = this.#groupFirst + registers.flowGroups;
  }

  queueOf(entry: number): number | undefined {
    if (entry < RETA_FIRST) return this.#registers.otherQueue;
    if (entry < this.#groupFirst) return this.#registers.retaEntry(entry - RETA_FIRST);
    return this.#registers.flowGroup(entry - this.#groupFirst);
  }

  place(entry: number, queue: number): void {
    if (entry < RETA_FIRST) this.#registers.setOtherQueue(queue);
    else if (entry < this.#groupFirst) this.#registers.setRetaEntry(entry - RETA_FIRST, queue);
    else this.#registers.setFlowGroup(entry - this.#groupFirst, queue);
  }

  entryOf(source: Uint8Array, sourcePort: number, destination: Uint8Array, destinationPort: number): number {
    const ofPorts = this.entryOfPorts(sourcePort, destinationPort);
    if (ofPorts !== undefined) return ofPorts;
    return RETA_FIRST + this.#registers.retaEntryOf(source, sourcePort, destination, destinationPort);
  }

  entryOfPorts(sourcePort: number, destinationPort: number): number | undefined {
    const registers = this.#registers;
    if (registers.flowGroups === 0) return undefined;
    const group = registers.flowGroupOf(sourcePort, destinationPort);
    return registers.flowGroup(group) === undefined ? undefined : this.#groupFirst + group;
  }

  entryOfGroup(group: number): number {
    return this.#groupFirst + group;
  }

  dropFilters(queue: number): void {
    this.#registers.clearFiltersOf(queue);
  }
}
