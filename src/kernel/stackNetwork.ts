/** A stack's addresses as they are now, and who waits for them: for both kinds of stack. */
import { formatAddress } from "../ip/address.ts";
import { type NetworkChange, NetworkState } from "../ip/networkChange.ts";
import { NetPopcornError } from "../errors.ts";
import type { KernelConfig } from "./config.ts";
import { isConfigured, NO_CONTROL, type NetworkOptions } from "./networkPlan.ts";

/** What a stack's event "address" tells. */
export type AddressEvent = {
  readonly address: string;
  /** "conflict": another station has it, too. */
  readonly state: "added" | "removed" | "conflict";
};

export class StackNetwork {
  readonly #network: NetworkOptions;
  readonly #state: NetworkState;
  readonly #tell: (event: AddressEvent) => void;
  readonly #waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];

  constructor(config: KernelConfig | undefined, tell: (event: AddressEvent) => void) {
    this.#network = config?.network ?? NO_CONTROL;
    this.#state = new NetworkState(config?.addresses ?? [], this.#network.routes);
    this.#tell = tell;
  }

  /** What a new kernel has to apply. */
  get changes(): readonly NetworkChange[] {
    return this.#state.changes;
  }

  get addresses(): readonly string[] {
    return this.#state.addresses;
  }

  /** The owner's kernel has decided. */
  changed(change: NetworkChange): void {
    this.#state.apply(change);
    if (change.type === "addressAdd") this.#tell({ address: formatAddress(change.address), state: "added" });
    if (change.type === "addressRemove") this.#tell({ address: formatAddress(change.address), state: "removed" });
    if (this.#isConfigured()) for (const { resolve } of this.#waiting.splice(0)) resolve();
  }

  conflict(address: string): void {
    this.#tell({ address, state: "conflict" });
  }

  /** Fulfilled when DHCP and routers have given what was asked of them. */
  configured(): Promise<void> {
    if (this.#isConfigured()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
  }

  close(): void {
    const error = new NetPopcornError("ERR_STACK_CLOSED", "the stack was closed before it had its addresses");
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  #isConfigured(): boolean {
    return isConfigured(this.#network, this.#state.changes);
  }
}
