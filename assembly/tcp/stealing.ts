/**
 * Stealing (docs/migration.md): connections that wait to be accepted move to another kernel, while their groups stay.
 * They are frozen and travel as in a move of a group (migration.ts); instead of the group's state, a detour of each
 * flow (flow/detours.ts) says what becomes of segments that find no connection.
 */
import { listenersMax } from "../config.ts";
import { detoursChange, detourSet, detoursFree, haveDetours } from "../flow/detours.ts";
import { groupState } from "../flow/migration.ts";
import { addressFind } from "../ip/address.ts";
import * as M from "../../src/layout/migration.ts";
import { STATE_CLOSED, STATE_ESTABLISHED } from "../../src/layout/option.ts";
import { EBUSY, ECONNREFUSED, EINVAL, ENOBUFS, OK } from "../../src/layout/status.ts";
import { isV6, remoteAt } from "./addresses.ts";
import { Listener, listenerAt, listenerFind } from "./listener.ts";
import { freeze } from "./migration.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";

/** What can be stolen at present: connections of so many of our addresses, and of IPv6 or not. */
let knownAddresses: u32 = 0;
let knowsV6: bool = false;

/** See KernelExports.stealFreeze. */
export function stealFreeze(connectionsMax: u32, addresses: u32, withV6: i32, to: u32, move: u32): i32 {
  if (to >= <u32>M.GROUP_HERE - M.GROUP_LEFT) return EINVAL;
  const wanted = min(connectionsMax, detoursFree());
  knownAddresses = addresses;
  knowsV6 = withV6 != 0;
  let taken: u32 = 0;
  while (taken < wanted) {
    const tcb = oldestOfFullest();
    if (changetype<usize>(tcb) == 0) break;
    if (!detourSet(remoteAt(tcb), tcb.localIndex, tcb.ports, M.GROUP_LEFT + to, move)) break;
    freeze(tcb);
    taken++;
  }
  return <i32>taken;
}

/** The oldest connection that can go, of the listener where most wait. Null: there is none. */
function oldestOfFullest(): Tcb {
  let found = changetype<Tcb>(0);
  let most: u32 = 0;
  for (let i: u32 = 0; i < listenersMax; i++) {
    const listener = listenerAt(i);
    if (listener.port == 0 || listener.acceptCount <= most) continue;
    const oldest = oldestOf(listener);
    if (changetype<usize>(oldest) == 0) continue;
    found = oldest;
    most = listener.acceptCount;
  }
  return found;
}

function oldestOf(listener: Listener): Tcb {
  let index = listener.acceptHead;
  while (index != T.TCB_NONE) {
    const tcb = T.tcbAt(index);
    if (canGo(tcb)) return tcb;
    index = coldOf(tcb).acceptNext;
  }
  return changetype<Tcb>(0);
}

/** Not those that are over, whose handshake is not (fast open), or that no device steers: the kernel's with itself. */
function canGo(tcb: Tcb): bool {
  if (!(tcb.flags & T.F_IN_FLOW_TABLE) || tcb.state < STATE_ESTABLISHED || tcb.state >= STATE_CLOSED) return false;
  return tcb.localIndex < knownAddresses && (knowsV6 || !isV6(tcb)) && addressFind(remoteAt(tcb)) < 0;
}

/** See KernelExports.stealExpect. */
export function stealExpect(remote: usize, localIndex: u32, ports: u32, move: u32): i32 {
  // Late frames of its group go where the flow comes from: they would go round in a circle.
  if (groupState(ports) >= <u32>M.GROUP_LEFT) return EBUSY;
  // Nobody would ever accept it.
  const listener = listenerFind(<u32>bswap<u16>(<u16>(ports >> 16)), localIndex);
  if (changetype<usize>(listener) == 0) return ECONNREFUSED;
  return detourSet(remote, localIndex, ports, M.GROUP_ARRIVING, move) ? OK : ENOBUFS;
}

/** See KernelExports.flowDetour. */
export function flowDetour(remote: usize, localIndex: u32, ports: u32, state: u32, move: u32): i32 {
  if (state < <u32>M.GROUP_LEFT || state > <u32>M.GROUP_HERE) return EINVAL;
  return detourSet(remote, localIndex, ports, state, move) ? OK : ENOBUFS;
}

/** See KernelExports.stealDetour. */
export function stealDetour(move: u32, state: u32): void {
  if (haveDetours()) detoursChange(move, state);
}
