/** The own addresses of a running kernel, as they are now: read from its memory (src/layout/config.ts). */
import * as C from "../layout/config.ts";
import { CONFIG_BASE } from "../layout/kernelMemory.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import { ADDRESS_BYTES, type AddressFamily, addressFamily } from "./address.ts";

const TABLE = CONFIG_BASE + C.CONFIG_ADDRESSES;

function countOf(memory: KernelMemory): number {
  return memory.loadU32(CONFIG_BASE + C.CONFIG_ADDRESS_COUNT);
}

function isInUse(memory: KernelMemory, index: number): boolean {
  return ((memory.bytes[TABLE + index * C.ADDRESS_SIZE_BYTES + C.ADDRESS_FLAGS] ?? 0) & C.ADDRESS_REMOVED) === 0;
}

/** The 16 bytes of address number `index`, a view; undefined when there is none. */
export function ownAddress(memory: KernelMemory, index: number): Uint8Array | undefined {
  if (index < 0 || index >= countOf(memory) || !isInUse(memory, index)) return undefined;
  const at = TABLE + index * C.ADDRESS_SIZE_BYTES;
  return memory.bytes.subarray(at, at + ADDRESS_BYTES);
}

/** Index of an own address (16 bytes), -1: not ours. */
export function ownAddressIndex(memory: KernelMemory, address: Uint8Array): number {
  for (let index = 0; index < countOf(memory); index++) {
    if (ownAddress(memory, index)?.every((byte, i) => byte === address[i])) return index;
  }
  return -1;
}

/** True when an own address is of this family. */
export function speaks(memory: KernelMemory, family: AddressFamily): boolean {
  for (let index = 0; index < countOf(memory); index++) {
    const address = ownAddress(memory, index);
    if (address && addressFamily(address) === family) return true;
  }
  return false;
}
