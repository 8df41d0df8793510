import type { TapDevice, TapOptions } from "./tap/device.ts";

/**
 * Opens a TAP device of Linux. Its modules are loaded only now, so that the package can be used where there is no Node.
 * @throws NetPopcornError EPERM, ENODEV, EBUSY, EINVAL, ERR_KOFFI_MISSING: see src/device/tap/device.ts.
 */
export async function openTap(options: TapOptions): Promise<TapDevice> {
  const tap = await import("./tap/device.ts");
  return tap.openTap(options);
}
