/**
 * What the control path decides about a stack's addresses and routes, as changes that every kernel applies, in the same
 * order, so that an address has the same index in all of them. Structured-clonable.
 */
import { SCRATCH_BASE, SCRATCH_SIZE_BYTES } from "../layout/kernelMemory.ts";
import { EADDRINUSE } from "../layout/status.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import type { KernelExports } from "../wasm/exports.ts";
import { formatCidr, type Cidr, addressFamily, formatAddress } from "./address.ts";

export type NetworkChange =
  | { readonly type: "addressAdd"; readonly address: Uint8Array; readonly prefixLength: number }
  | { readonly type: "addressRemove"; readonly address: Uint8Array }
  | { readonly type: "addressDeprecate"; readonly address: Uint8Array; readonly deprecated: boolean }
  /** `gateway` all zero: the prefix is on the link. */
  | {
      readonly type: "routeSet";
      readonly prefix: Uint8Array;
      readonly prefixLength: number;
      readonly gateway: Uint8Array;
    }
  | { readonly type: "routeRemove"; readonly prefix: Uint8Array; readonly prefixLength: number }
  /** A default gateway beside the one of the default route, for when that is dead. */
  | { readonly type: "gatewayAdd" | "gatewayRemove"; readonly address: Uint8Array }
  | ({ readonly type: "linkSet" } & LinkParameters);

/** What routers advertise about the link of IPv6 (RFC 4861 6.3.4); 0: nothing. */
export type LinkParameters = {
  readonly mtuBytes: number;
  readonly hopLimit: number;
  readonly reachableMs: number;
  readonly retransMs: number;
};

const FIRST_AT = SCRATCH_BASE + SCRATCH_SIZE_BYTES / 2;
const SECOND_AT = FIRST_AT + 16;

/** @returns 0 or more, or a negative status. An address that is there already is fine. */
export function applyChange(exports: KernelExports, memory: KernelMemory, change: NetworkChange): number {
  const { bytes } = memory;
  switch (change.type) {
    case "addressAdd": {
      bytes.set(change.address, FIRST_AT);
      const status = exports.addressAdd(FIRST_AT, change.prefixLength);
      return status === EADDRINUSE ? 0 : status;
    }
    case "addressRemove":
      bytes.set(change.address, FIRST_AT);
      return exports.addressRemove(FIRST_AT);
    case "addressDeprecate":
      bytes.set(change.address, FIRST_AT);
      return exports.addressDeprecate(FIRST_AT, change.deprecated ? 1 : 0);
    case "routeSet":
      bytes.set(change.prefix, FIRST_AT);
      bytes.set(change.gateway, SECOND_AT);
      return exports.routeSet(FIRST_AT, change.prefixLength, SECOND_AT);
    case "gatewayAdd": {
      bytes.set(change.address, FIRST_AT);
      const status = exports.gatewayAdd(FIRST_AT);
      return status === EADDRINUSE ? 0 : status;
    }
    case "gatewayRemove":
      bytes.set(change.address, FIRST_AT);
      return exports.gatewayRemove(FIRST_AT);
    case "linkSet":
      return exports.linkSet(change.mtuBytes, change.hopLimit, change.reachableMs, change.retransMs);
    case "routeRemove":
      bytes.set(change.prefix, FIRST_AT);
      return exports.routeRemove(FIRST_AT, change.prefixLength);
  }
}

function keyOf(change: NetworkChange): string {
  if (change.type === "linkSet") return "link";
  if ("prefix" in change) {
    return `route ${addressFamily(change.prefix)} ${formatAddress(change.prefix)}/${change.prefixLength}`;
  }
  if (change.type === "gatewayAdd" || change.type === "gatewayRemove")
    return `gateway ${formatAddress(change.address)}`;
  return `${change.type === "addressDeprecate" ? "deprecate" : "address"} ${formatAddress(change.address)}`;
}

/** The changes that make a new kernel equal to the others. */
export class NetworkState {
  /** Own addresses that the configuration has. */
  readonly #configured: readonly Cidr[];
  readonly #present = new Map<string, NetworkChange>();

  constructor(configured: readonly Cidr[], routes: readonly NetworkChange[] = []) {
    this.#configured = configured;
    for (const route of routes) this.apply(route);
  }

  apply(change: NetworkChange): void {
    const key = keyOf(change);
    // A removed address keeps its place: the indices of those behind it count it.
    if (change.type === "routeRemove" || change.type === "gatewayRemove") this.#present.delete(key);
    else this.#present.set(key, change);
  }

  /** In the order in which a kernel has to apply them. */
  get changes(): readonly NetworkChange[] {
    const changes: NetworkChange[] = [];
    for (const change of this.#present.values()) {
      // Removed ones are added first, so that they have their index.
      const isOwn = this.#configured.some(({ address }) => "address" in change && same(address, change.address));
      if (change.type === "addressRemove" && !isOwn) {
        changes.push({ type: "addressAdd", address: change.address, prefixLength: 0 });
      }
      changes.push(change);
    }
    return changes;
  }

  /** Own addresses in use, as text: "10.7.0.2/24". */
  get addresses(): string[] {
    const removed = (address: Uint8Array) =>
      this.#present.get(keyOf({ type: "addressRemove", address }))?.type === "addressRemove";
    const own = this.#configured.filter(({ address }) => !removed(address)).map(formatCidr);
    for (const change of this.#present.values()) {
      if (change.type !== "addressAdd") continue;
      const { address, prefixLength } = change;
      const text = formatCidr({ address, prefixLength, family: addressFamily(address) });
      if (!own.includes(text)) own.push(text);
    }
    return own;
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, index) => byte === b[index]);
}
