/**
 * What of TCP depends on the address family. A connection's family is that of its local address; remote addresses are
 * 16 bytes, IPv4-mapped, as in the TCB.
 */
import { flowHashV4, flowHashV6, pairHashV6, timestampOffset, timestampOffsetV6 } from "../flow/hash.ts";
import { flowFindV4, flowFindV6 } from "../flow/table.ts";
import { nextHopV4, nextHopV6 } from "../ip/nextHop.ts";
import { addressAt, addressIsV6, addressV4 } from "../ip/address.ts";
import {
  neighborAddress,
  neighborConfirm,
  neighborFind,
  neighborFindV6,
  neighborIsFresh,
  neighborIsV6,
  neighborSeen,
  neighborSeenV6,
} from "../ip/neighbor.ts";
import { pathMtuOf, pathMtuOfV4 } from "../ip/pathMtu.ts";
import { DROP_NO_ROUTE } from "../../src/layout/counters.ts";
import { count } from "../stats.ts";
import * as S from "./segment.ts";
import { Tcb } from "./tcb.ts";
import { IPV4_HEADER_BYTES, IPV6_HEADER_BYTES } from "../wire/headers.ts";

/** Where the 16 bytes of a connection's remote address lie. */
export function remoteAt(tcb: Tcb): usize {
  return changetype<usize>(tcb) + offsetof<Tcb>("remoteHigh");
}

export function isV6(tcb: Tcb): bool {
  return addressIsV6(tcb.localIndex);
}

/** Bytes of the IP header from address number `localIndex`. */
export function ipBytesOf(localIndex: u32): u32 {
  return addressIsV6(localIndex) ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES;
}

/** Two addresses as one word, to be hashed. @param remote where its 16 bytes lie. */
export function addressPair(remote: usize, localIndex: u32): u64 {
  if (addressIsV6(localIndex)) return pairHashV6(remote, addressAt(localIndex));
  return ((<u64>load<u32>(remote, 12)) << 32) | addressV4(localIndex);
}

/** @param ports both, as they stand in a received segment. */
export function flowHash(remote: usize, localIndex: u32, ports: u32): u32 {
  if (addressIsV6(localIndex)) return flowHashV6(remote, addressAt(localIndex), ports);
  return flowHashV4(load<u32>(remote, 12), addressV4(localIndex), ports);
}

/** The flow's TCB or null. */
export function flowFind(hash: u32, remote: usize, localIndex: u32, ports: u32): Tcb {
  if (addressIsV6(localIndex)) return flowFindV6(hash, remote, localIndex, ports);
  return flowFindV4(hash, load<u32>(remote, 12), localIndex, ports);
}

/** The TCB of the segment's flow or null. */
export function flowOfSegment(): Tcb {
  if (S.segRemoteV6 != 0) return flowFindV6(S.segHash, S.segRemoteV6, S.segLocalIndex, S.segPorts);
  return flowFindV4(S.segHash, S.segRemote, S.segLocalIndex, S.segPorts);
}

/** Offset of our timestamps towards this peer. */
export function timestampOffsetTo(remote: usize, localIndex: u32): u32 {
  if (addressIsV6(localIndex)) return timestampOffsetV6(remote, addressAt(localIndex));
  return timestampOffset(load<u32>(remote, 12), addressV4(localIndex));
}

/** Likewise towards the segment's sender. */
export function timestampOffsetOfSegment(): u32 {
  if (S.segRemoteV6 != 0) return timestampOffsetV6(S.segRemoteV6, addressAt(S.segLocalIndex));
  return timestampOffset(S.segRemote, S.segLocal);
}

/** The path's MTU as far as it is known. */
export function mtuTo(remote: usize, localIndex: u32): u32 {
  return addressIsV6(localIndex) ? pathMtuOf(remote) : pathMtuOfV4(load<u32>(remote, 12));
}

/**
 * @param isAnswer as for neighborFind.
 * @returns neighbour entry for the next hop, NEIGHBOR_OWN, -1: no route or no entry.
 */
export function neighborTo(localIndex: u32, remote: usize, isAnswer: bool): i32 {
  if (addressIsV6(localIndex)) {
    const nextHop = nextHopV6(remote);
    if (nextHop != 0) return neighborFindV6(nextHop, isAnswer);
  } else {
    const nextHop = nextHopV4(localIndex, load<u32>(remote, 12));
    if (nextHop != 0) return neighborFind(nextHop, isAnswer);
  }
  count(DROP_NO_ROUTE);
  return -1;
}

/** Likewise for an IPv6 connection; cached in the TCB. */
export function neighborOfV6(tcb: Tcb): i32 {
  const nextHop = nextHopV6(remoteAt(tcb));
  if (nextHop == 0) {
    count(DROP_NO_ROUTE);
    return -1;
  }
  const cached = <i32>tcb.neighbor - 1;
  if (cached >= 0 && neighborIsV6(cached, nextHop)) return cached;
  const found = neighborFindV6(nextHop, false);
  tcb.neighbor = <u16>max(found + 1, 0);
  return found;
}

/**
 * New data acknowledged: the way there works (RFC 1122 2.3.2.1, RFC 4861 7.3.1). Once per round trip is enough.
 */
export function confirmNeighbor(tcb: Tcb): void {
  const neighbor = <i32>tcb.neighbor - 1;
  if (neighbor < 0 || neighborIsFresh(neighbor)) return;
  if (isV6(tcb)) {
    const nextHop = nextHopV6(remoteAt(tcb));
    if (nextHop != 0 && neighborIsV6(neighbor, nextHop)) neighborConfirm(neighbor);
  } else if (neighborAddress(neighbor) == nextHopV4(tcb.localIndex, tcb.remoteV4)) {
    neighborConfirm(neighbor);
  }
}

/** Segments are answered the way they came: the card may bring ARP replies to another kernel (ip/neighbor.ts). */
export function learnWayBack(): void {
  if (S.segSourceMac == 0) return;
  if (S.segRemoteV6 != 0) neighborSeenV6(nextHopV6(S.segRemoteV6), S.segSourceMac);
  else neighborSeen(nextHopV4(S.segLocalIndex, S.segRemote), S.segSourceMac);
}

/** Both addresses as one word, to be hashed. */
export function segmentPair(): u64 {
  return addressPair(S.segmentRemoteAt(), S.segLocalIndex);
}
