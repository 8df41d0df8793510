/** A model card's tables as the device's owner writes them, on any thread: they lie in the segment's memory. */
import { instantiateModule } from "../../wasm/load.ts";
import type { ReplyTuple } from "../replySteering.ts";
import type { DeviceTables, PlacedFilter, TablesDescriptor } from "../device.ts";
import { CardPlacement } from "./placement.ts";
import { type CardExports, CardRegisters, PROTOCOL_TCP, type Tuple } from "./registers.ts";

export type CardTablesDescriptor = TablesDescriptor & {
  readonly kind: "card";
  readonly module: WebAssembly.Module;
  /** The segment's, shared. */
  readonly memory: WebAssembly.Memory;
  readonly card: number;
  /** Cards that had its place before. */
  readonly generation: number;
};

export function openCardTables({ module, memory, card, generation }: CardTablesDescriptor): CardTables {
  const exports = instantiateModule(module, memory) as CardExports;
  return new CardTables(new CardRegisters(memory, exports, card, generation));
}

export class CardTables implements DeviceTables {
  readonly placement: CardPlacement;
  readonly #registers: CardRegisters;

  constructor(registers: CardRegisters) {
    this.#registers = registers;
    this.placement = new CardPlacement(registers);
  }

  place(entry: number, queue: number): void {
    this.placement.place(entry, queue);
  }

  moveFlowGroup(group: number, queue: number | undefined): void {
    this.#registers.setFlowGroup(group, queue);
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
