/**
 * The tables by which a device steers, as their one writer sees them: the kernel that owns the device (control/
 * deviceOwner.ts). They can be opened on any thread of the process; all others read them.
 */
import { NetPopcornError } from "../errors.ts";
import type { CardTablesDescriptor } from "./card/tables.ts";
import type { Device } from "./device.ts";
import type { ReplyTuple } from "./replySteering.ts";
import type { TapTablesDescriptor } from "./tap/tables.ts";

export interface DeviceTables {
  /** Has an entry of Device.placement name `queue`. */
  place?(entry: number, queue: number): void;
  /** As Device.moveFlowGroup. */
  moveFlowGroup?(group: number, queue: number | undefined): void;
  /** @returns false when the exact filters are used up, or the device has none for this flow. */
  setFilter?(flow: ReplyTuple, queue: number): boolean;
  clearFilter?(flow: ReplyTuple): void;
  /** Exact filters that are set, whoever has set them. */
  filters?(): readonly PlacedFilter[];
  /** Key of the RSS hash, 40 bytes or more. This and the next are missing where there is none. */
  rssKey?(): Uint8Array;
  /** @throws NetPopcornError ERR_RSS_KEY. */
  setRssKey?(key: Uint8Array): void;
}

export type PlacedFilter = { readonly flow: ReplyTuple; readonly queue: number };

/** Structured-clonable, for any number of threads. `kind` names the module that opens the tables. */
export type TablesDescriptor = { readonly kind: "card" | "tap" };

/** The tables of a device on the thread that has opened it. */
export function tablesOf(device: Device): DeviceTables {
  const { placement } = device;
  const tables: DeviceTables = {};
  if (placement) tables.place = (entry, queue) => placement.place(entry, queue);
  if (device.moveFlowGroup) tables.moveFlowGroup = device.moveFlowGroup.bind(device);
  if (device.setFilter) tables.setFilter = device.setFilter.bind(device);
  if (device.clearFilter) tables.clearFilter = device.clearFilter.bind(device);
  if (device.filters) tables.filters = device.filters.bind(device);
  if (device.rssKey) tables.rssKey = device.rssKey.bind(device);
  if (device.setRssKey) tables.setRssKey = device.setRssKey.bind(device);
  return tables;
}

/** Loads what openTables() needs, so that whoever takes over from an owner that has died need not. */
export async function loadTables(descriptor: TablesDescriptor | undefined): Promise<void> {
  if (descriptor?.kind === "card") await import("./card/tables.ts");
  if (descriptor?.kind === "tap") await import("./tap/tables.ts");
}

/**
 * Opens, on this thread, the tables that `Device.describeTables` described on another.
 * @throws NetPopcornError ERR_PORT_KIND, and what the device's own module throws.
 */
export async function openTables(descriptor: TablesDescriptor | undefined): Promise<DeviceTables> {
  // A device that steers by itself has none.
  if (!descriptor) return {};
  switch (descriptor.kind) {
    case "card": {
      const { openCardTables } = await import("./card/tables.ts");
      return openCardTables(descriptor as CardTablesDescriptor);
    }
    case "tap": {
      const { openTapTables } = await import("./tap/tables.ts");
      return openTapTables(descriptor as TapTablesDescriptor);
    }
    default:
      throw new NetPopcornError("ERR_PORT_KIND", `no device module opens tables of kind "${String(descriptor)}"`);
  }
}
