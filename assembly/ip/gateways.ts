/**
 * Default gateways beside the first of each family, and which gateways are dead (RFC 1122 3.3.1.5, RFC 4861 6.3.6). A
 * gateway that its neighbours' own probes find silent is passed over for the next that is not, and asked again once a
 * minute until it answers (neighbor.ts asks). With one gateway of each family nothing of this is looked at.
 */
import { nowTick, tickReached, ticksOfMs } from "../time.ts";
import { CONFIG_GATEWAY } from "../../src/layout/config.ts";
import { CONFIG_BASE } from "../../src/layout/kernelMemory.ts";
import { EADDRINUSE, EINVAL, ENOBUFS, OK } from "../../src/layout/status.ts";
import { isV4Mapped } from "../wire/addressKind.ts";
import { redirectsForget } from "./redirects.ts";
import { routeHasGateway } from "./routes.ts";

const OTHERS_MAX: u32 = 8;
/** The first of each family, too. */
const DEAD_MAX: u32 = 10;
const RETRY_MS: u32 = 60000;

/** 16 bytes each, in order of preference. */
const others: usize = memory.data(128, 16);
/** Dead gateways: +0 16 bytes, +16 u32 tick at which it is asked again, +20 u32 1: it is to be asked now. */
const dead: usize = memory.data(320, 16);
const DEAD_SIZE_BYTES: u32 = 32;
let deadCount: u32 = 0;
/** Gateways beside the first ones. */
export let otherGateways: u32 = 0;
/** Dead gateways that are to be asked now. */
export let gatewaysDue: u32 = 0;

export function gatewaysBoot(): void {
  otherGateways = 0;
  deadCount = 0;
  gatewaysDue = 0;
}

function same(a: usize, b: usize): bool {
  return load<u64>(a) == load<u64>(b) && load<u64>(a, 8) == load<u64>(b, 8);
}

function find(address: usize): i32 {
  for (let i: u32 = 0; i < otherGateways; i++) if (same(others + (i << 4), address)) return <i32>i;
  return -1;
}

/** See KernelExports.gatewayAdd. */
export function gatewayAdd(address: usize): i32 {
  if (find(address) >= 0) return EADDRINUSE;
  if (otherGateways == OTHERS_MAX) return ENOBUFS;
  v128.store(others + (otherGateways << 4), v128.load(address));
  otherGateways++;
  return OK;
}

/** See KernelExports.gatewayRemove. */
export function gatewayRemove(address: usize): i32 {
  const index = find(address);
  if (index < 0) return EINVAL;
  otherGateways--;
  for (let i = <u32>index; i < otherGateways; i++) v128.store(others + (i << 4), v128.load(others + ((i + 1) << 4)));
  return OK;
}

function deadAt(index: u32): usize {
  return dead + index * DEAD_SIZE_BYTES;
}

function findDead(address: usize): i32 {
  for (let i: u32 = 0; i < deadCount; i++) if (same(deadAt(i), address)) return <i32>i;
  return -1;
}

/** Other neighbours come and go; they must not fill the list of dead gateways. */
export function isGateway(address: usize): bool {
  if (find(address) >= 0 || routeHasGateway(address)) return true;
  return isV4Mapped(address) && load<u32>(address, 12) == load<u32>(CONFIG_BASE + CONFIG_GATEWAY, 12);
}

/** A neighbour does not answer. @param address 16 bytes. */
export function gatewayLost(address: usize): void {
  redirectsForget(address, true);
  if (otherGateways == 0 || deadCount == DEAD_MAX || findDead(address) >= 0 || !isGateway(address)) return;
  v128.store(deadAt(deadCount), v128.load(address));
  store<u32>(deadAt(deadCount), nowTick + ticksOfMs(RETRY_MS), 16);
  store<u32>(deadAt(deadCount), 0, 20);
  deadCount++;
}

/** A neighbour has answered us. @param address 16 bytes. */
export function gatewayHeard(address: usize): void {
  if (deadCount == 0) return;
  const index = findDead(address);
  if (index < 0) return;
  gatewaysDue -= load<u32>(deadAt(index), 20);
  deadCount--;
  memory.copy(deadAt(index), deadAt(deadCount), DEAD_SIZE_BYTES);
}

/** @returns where the 16 bytes of one that is to be asked lie, once for each time. Preconditions: gatewaysDue != 0. */
export function gatewayTakeDue(): usize {
  let index: u32 = 0;
  while (!load<u32>(deadAt(index), 20)) index++;
  store<u32>(deadAt(index), 0, 20);
  gatewaysDue--;
  return deadAt(index);
}

/** Is it passed over? Now and then it is asked whether it still does not answer. */
function isDead(address: usize): bool {
  const index = deadCount == 0 ? -1 : findDead(address);
  if (index < 0) return false;
  if (tickReached(load<u32>(deadAt(index), 16), nowTick)) {
    store<u32>(deadAt(index), nowTick + ticksOfMs(RETRY_MS), 16);
    if (!load<u32>(deadAt(index), 20)) gatewaysDue++;
    store<u32>(deadAt(index), 1, 20);
  }
  return true;
}

/**
 * The gateway to use instead of `first`, 16 bytes, all zero where there is none of that family.
 * @returns where its 16 bytes lie; `first` when all are dead.
 */
export function gatewayAlive(first: usize, isV4: bool): usize {
  const isNone = (load<u64>(first) | load<u64>(first, 8)) == 0 || (isV4 && load<u32>(first, 12) == 0);
  if (!isNone && !isDead(first)) return first;
  for (let i: u32 = 0; i < otherGateways; i++) {
    const other = others + (i << 4);
    if (isV4Mapped(other) == isV4 && !isDead(other)) return other;
  }
  return first;
}
