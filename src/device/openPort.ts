import { NetPopcornError } from "../errors.ts";
import type { CapturePortDescriptor } from "./capture.ts";
import type { CardPortDescriptor } from "./card/port.ts";
import type { DevicePort, PortDescriptor, QueuePair } from "./device.ts";
import type { TapPortDescriptor } from "./tap/port.ts";

/**
 * Opens, on this thread, the port that `Device.describePort` described on another. Modules are loaded when first
 * needed, so that a kernel behind a card never loads what a TAP needs.
 * @throws NetPopcornError ERR_PORT_KIND, and what the device's own module throws.
 */
export async function openPort(descriptor: PortDescriptor, pair: QueuePair): Promise<DevicePort> {
  switch (descriptor.kind) {
    case "card": {
      const { openCardPort } = await import("./card/port.ts");
      return openCardPort(descriptor as CardPortDescriptor, pair);
    }
    case "tap": {
      const { openTapPort } = await import("./tap/port.ts");
      return openTapPort(descriptor as TapPortDescriptor, pair);
    }
    case "capture": {
      const { openCapturePort } = await import("./capture.ts");
      return openCapturePort(descriptor as CapturePortDescriptor, pair, openPort);
    }
    default:
      throw new NetPopcornError("ERR_PORT_KIND", `no device module opens ports of kind "${String(descriptor)}"`);
  }
}
