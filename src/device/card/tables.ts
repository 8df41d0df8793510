/** A model card's tables as the device's owner writes them, on any thread: they lie in the segment's memory. */
import { instantiateModule } from "../../wasm/load.ts";
import type { ReplyTuple } from "../replySteering.ts";
import type { DeviceTables, PlacedFilter, TablesDescriptor } from "../tables.ts";
import { CardPlacement } from "./placement.ts";
import { type CardExports, CardRegisters, PROTOCOL_TCP, type Tuple } from "./registers.ts";

/** Whether packets can be grouped by our own ports, and whether those were given with the card's options. */
export type CardLocalPorts = "free" | "given" | undefined;

export type CardTablesDescriptor = TablesDescriptor & {
  readonly kind: "card";
  readonly module: WebAssembly.Module;
  /** The segment's, shared. */
  readonly memory: WebAssembly.Memory;
  readonly card: number;
  readonly localPorts: CardLocalPorts;
};

export function openCardTables({ module, memory, card, localPorts }: CardTablesDescriptor): CardTables {
  const exports = instantiateModule(module, memory) as CardExports;
  return new CardTables(new CardRegisters(memory, exports, card), localPorts);
}

export class CardTables implements DeviceTables {
  readonly placement: CardPlacement;
  readonly #registers: CardRegisters;
  readonly #localPorts: CardLocalPorts;

  constructor(registers: CardRegisters, localPorts: CardLocalPorts) {
    this.#registers = registers;
    this.#localPorts = localPorts;
    this.placement = new CardPlacement(registers);
  }

  place(entry: number, queue: number): void {
    this.placement.place(entry, queue);
  }

  moveFlowGroup(group: number, queue: number | undefined): void {
    this.#registers.setFlowGroup(group, queue);
  }

  groupByLocalPorts(first: number, last: number): boolean {
    if (!this.#localPorts) return false;
    if (this.#localPorts === "free") this.#registers.setLocalPorts(first, last);
    return true;
  }

  setFilter(flow: ReplyTuple, queue: number): boolean {
    return this.#registers.setFilter(asArriving(flow), queue);
  }

  clearFilter(flow: ReplyTuple): void {
    this.#registers.clearFilter(asArriving(flow));
  }

  rssKey(): Uint8Array {
    return this.#registers.rssKey;
  }

  setRssKey(key: Uint8Array): void {
    this.#registers.setRssKey(key);
  }

  filters(): PlacedFilter[] {
    return this.#registers.filters().map(({ tuple, queue }) => ({
      flow: {
        remote: tuple.source,
        remotePort: tuple.sourcePort,
        local: tuple.destination,
        localPort: tuple.destinationPort,
      },
      queue,
    }));
  }
}

function asArriving({ remote, remotePort, local, localPort }: ReplyTuple): Tuple {
  return {
    protocol: PROTOCOL_TCP,
    source: remote,
    sourcePort: remotePort,
    destination: local,
    destinationPort: localPort,
  };
}
