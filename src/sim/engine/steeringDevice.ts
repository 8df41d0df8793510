/** The simulated card as the balancer sees it: its flow-group table and its exact filters, no ports. */
import type { Device, DeviceCapabilities, DevicePort, PortDescription } from "../../device/device.ts";
import type { ReplyTuple } from "../../device/replySteering.ts";
import { NetPopcornError } from "../../errors.ts";
import { FLOW_GROUPS } from "../../layout/flowGroup.ts";
import * as F from "./connectionFields.ts";
import type { Connections } from "./connections.ts";
import type { Steering } from "./wire.ts";

/** Perfect filters of the 82599 with the largest of its tables. */
const EXACT_FILTERS = 8192;

export class SteeringDevice implements Device {
  readonly capabilities: DeviceCapabilities;
  readonly mac = Uint8Array.of(2, 0, 0, 0, 1, 1);
  readonly rxLanes = 1;
  readonly #steering: Steering;
  readonly #connections: Connections;
  readonly #slotOf: (addressByte: number, port: number) => number;
  #filters = 0;

  constructor(steering: Steering, connections: Connections, slotOf: (addressByte: number, port: number) => number) {
    this.#steering = steering;
    this.#connections = connections;
    this.#slotOf = slotOf;
    this.capabilities = {
      queues: steering.queues,
      mtuBytes: 1500,
      checksumOffload: false,
      receiveCoalescing: false,
      tsoBytesMax: 0,
      steering: "card",
      retaEntries: 128,
      flowGroups: FLOW_GROUPS,
      exactFilters: EXACT_FILTERS,
    };
  }

  flowGroupQueue(group: number): number {
    return this.#steering.groupQueue[group] as number;
  }

  moveFlowGroup(group: number, queue: number): void {
    this.#steering.groupQueue[group] = queue;
  }

  setFilter(flow: ReplyTuple, queue: number): boolean {
    const slot = this.#slot(flow);
    if (slot < 0 || this.#filters === EXACT_FILTERS) return false;
    if (this.#connections.get(slot, F.FILTER) === -1) this.#filters++;
    this.#connections.set(slot, F.FILTER, queue);
    return true;
  }

  clearFilter(flow: ReplyTuple): void {
    const slot = this.#slot(flow);
    this.#filters = Math.max(0, this.#filters - 1);
    if (slot >= 0) this.#connections.set(slot, F.FILTER, -1);
  }

  #slot({ remote, remotePort }: ReplyTuple): number {
    return this.#slotOf(remote[15] as number, remotePort);
  }

  queueFrames(): number[] {
    return [];
  }

  releaseQueue(): void {}

  openPort(): DevicePort {
    throw new NetPopcornError("ERR_SIM", "the simulated card has no ports");
  }

  describePort(): PortDescription {
    throw new NetPopcornError("ERR_SIM", "the simulated card has no ports");
  }

  async close(): Promise<void> {}
}
