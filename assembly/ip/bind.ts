/**
 * What a socket is bound to: one of our addresses, by index, or one of three wildcards. The dual one is what `::` means
 * unless the socket is for IPv6 only, as in Linux: it takes both families.
 */
import * as C from "../../src/layout/config.ts";
import { addressCount } from "./address.ts";

export const ADDRESS_ANY: i32 = C.ADDRESS_ANY;
export const ADDRESS_ANY_V4: i32 = C.ADDRESS_ANY_V4;
export const ADDRESS_ANY_V6: i32 = C.ADDRESS_ANY_V6;

/** Is this an own address or a wildcard? */
export function addressIsBindable(addressIndex: i32): bool {
  return addressIndex >= ADDRESS_ANY_V6 && addressIndex < <i32>addressCount;
}

/**
 * May two sockets not share a port? The same binding twice, and wildcards that take the same family. A specific address
 * beside a wildcard is fine: it gets what is sent to it.
 */
export function bindsOverlap(a: i32, b: i32): bool {
  return a == b || (a < 0 && b < 0 && (a == ADDRESS_ANY || b == ADDRESS_ANY));
}
