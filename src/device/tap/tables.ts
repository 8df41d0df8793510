/** The steering tables of a TAP device as the device's owner writes them, on any thread of the process. */
import type { ReplyTuple } from "../replySteering.ts";
import type { DeviceTables, PlacedFilter, TablesDescriptor } from "../device.ts";
import { type SteeringMaps, SteeringTable, type SteeringView } from "./ebpf.ts";
import { hostError } from "./interface.ts";
import { loadSyscalls } from "./syscalls.ts";

export type TapTablesDescriptor = TablesDescriptor & {
  readonly kind: "tap";
  readonly name: string;
  readonly maps: SteeringMaps;
  readonly view: SteeringView;
};

export function openTapTables({ name, maps, view }: TapTablesDescriptor): TapTables {
  return new TapTables(name, new SteeringTable(loadSyscalls(), maps, view));
}

/** The maps stay the device's: there is nothing to close. */
class TapTables implements DeviceTables {
  readonly #name: string;
  readonly #table: SteeringTable;

  constructor(name: string, table: SteeringTable) {
    this.#name = name;
    this.#table = table;
  }

  place(entry: number, queue: number): void {
    this.moveFlowGroup(entry, queue);
  }

  /** Without a hash to leave it to, a group has a queue. */
  moveFlowGroup(group: number, queue: number | undefined): void {
    if (queue === undefined) return;
    const status = this.#table.set(group, queue);
    if (status < 0) throw hostError(`move flow group ${group} of ${this.#name}`, status);
  }

  setFilter(flow: ReplyTuple, queue: number): boolean {
    return this.#table.setFilter(flow, queue);
  }

  clearFilter(flow: ReplyTuple): void {
    this.#table.clearFilter(flow);
  }

  filters(): PlacedFilter[] {
    return this.#table.filters();
  }
}
