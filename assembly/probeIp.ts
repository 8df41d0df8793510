/** Test entry for what surrounds TCP: ARP, IPv4, reassembly, ICMP, UDP, without the kernel's poll. Never shipped. */
import { configLoad, memoryBytes, udpSocketsMax } from "./config.ts";
import { txBoot, txCommit, txPublish, txReserve } from "./device/tx.ts";
import { loopBoot } from "./device/loop.ts";
import { hashBoot } from "./flow/hash.ts";
import { addressDeprecate, addressBoot } from "./ip/address.ts";
import { neighborAnnounce, neighborInput } from "./ip/arpInput.ts";
import { packetInput } from "./ip/input.ts";
import { packetInputV6 } from "./ip/input6.ts";
import { controlOpen } from "./ip/control.ts";
import { gatewayAdd } from "./ip/gateways.ts";
import { routesBoot } from "./ip/routes.ts";
import { linkAdvertise } from "./ip/link.ts";
import { multicastBoot } from "./ip/multicast.ts";
import { ipv6Boot } from "./ip/ipv6.ts";
import { icmpSendUnreachable } from "./ip/icmpErrors.ts";
import { icmpInput } from "./ip/icmp.ts";
import { ipv4Boot, ipv4Check, ipv4Route, ipv4Send, ipv4Transmit, ipv4WriteHeader } from "./ip/ipv4.ts";
import {
  neighborAddress,
  neighborBoot,
  neighborChainLength,
  neighborConfirm,
  neighborFind,
  neighborHasDeadline,
  neighborIsFailed,
  neighborNextDeadlineTick,
  neighborSeen,
  neighborSeenV6,
  neighborTimes,
  neighborSend,
  neighborTimers,
} from "./ip/neighbor.ts";
import {
  reassemblyBoot,
  reassemblyHasDeadline,
  reassemblyInput,
  reassemblyNextDeadlineTick,
  reassemblyTimers,
} from "./ip/reassembly.ts";
import { arenaAlloc, arenaBoot } from "./mem/arena.ts";
import { readyBoot, readyCount, readyShift } from "./socket/ready.ts";
import { setNow } from "./time.ts";
import {
  udpBind,
  udpBoot,
  udpClose,
  udpInput,
  udpLocalPort,
  udpRecvConsume,
  udpRecvPeek,
  udpSendTo,
  udpSetOption,
  udpTakeEvent,
} from "./udp/udp.ts";
import { loadBe16 } from "./wire/bytes.ts";

/** @returns false when the arena is too small for the configuration. */
export function boot(): bool {
  configLoad();
  arenaBoot(memoryBytes);
  hashBoot();
  routesBoot();
  return (
    addressBoot() &&
    readyBoot(udpSocketsMax) &&
    txBoot() &&
    neighborBoot() &&
    loopBoot() &&
    multicastBoot() &&
    ipv4Boot() &&
    ipv6Boot() &&
    reassemblyBoot() &&
    udpBoot()
  );
}

export function setNowNs(nowNs: f64): void {
  setNow(<u64>nowNs);
}

/** One received frame, as the kernel's input dispatches it (without TCP). */
export function inputFrame(frame: usize, frameBytes: u32): void {
  if (frameBytes < 14) return;
  const type = loadBe16(frame + 12);
  if (type == 0x0806) neighborInput(frame, frameBytes);
  if (type == 0x86dd) packetInputV6(frame + 14, frameBytes - 14, false, (load<u8>(frame) & 1) != 0, false);
  if (type == 0x0800) packetInput(frame + 14, frameBytes - 14, false, (load<u8>(frame) & 1) != 0, false);
}

/** Sends `packet` to entry `index` the way TCP does: reserve, build, neighborSend. */
export function sendPacket(index: i32, packet: usize, packetBytes: u32): bool {
  const frame = txReserve(14 + packetBytes);
  if (frame == 0) return false;
  memory.copy(frame + 14, packet, packetBytes);
  neighborSend(index, frame, 14 + packetBytes);
  return true;
}

export {
  addressDeprecate,
  arenaAlloc,
  controlOpen,
  gatewayAdd,
  icmpInput,
  icmpSendUnreachable,
  linkAdvertise,
  ipv4Check,
  ipv4Route,
  ipv4Send,
  ipv4Transmit,
  ipv4WriteHeader,
  neighborAddress,
  neighborAnnounce,
  neighborChainLength,
  neighborConfirm,
  neighborFind,
  neighborHasDeadline,
  neighborInput,
  neighborIsFailed,
  neighborNextDeadlineTick,
  neighborSeen,
  neighborSeenV6,
  neighborTimes,
  neighborTimers,
  readyCount,
  readyShift,
  reassemblyHasDeadline,
  reassemblyInput,
  reassemblyNextDeadlineTick,
  reassemblyTimers,
  txCommit,
  txPublish,
  txReserve,
  udpBind,
  udpClose,
  udpInput,
  udpLocalPort,
  udpRecvConsume,
  udpRecvPeek,
  udpSendTo,
  udpSetOption,
  udpTakeEvent,
};
