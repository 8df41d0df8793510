/**
 * The tables by which a device steers, as their one writer sees them: the kernel that owns the device (control/
 * deviceOwner.ts). They can be opened on any thread of the process; all others read them.
 */
import { NetPopcornError } from "../errors.ts";
import type { CardTablesDescriptor } from "./card/tables.ts";
import type { Device, DeviceTables, TablesDescriptor } from "./device.ts";
import type { TapTablesDescriptor } from "./tap/tables.ts";

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
