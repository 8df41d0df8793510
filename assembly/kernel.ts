/**
 * kernel.wasm: one complete, share-nothing TCP/IP stack. This file is its export list and its turn; src/wasm/exports.ts
 * documents every call.
 */
import {
  configLoad,
  tuningReload,
  connectionsMax,
  eventSlots,
  kernelsMax,
  listenersMax,
  memoryBytes,
  messageRingBytes,
  mtuBytes,
  rcvBufferBytesMax,
  rxLanes,
  rxRingBytes,
  sndBufferBytesMax,
  streamPoolBytes,
  txRingBytes,
  udpSocketsMax,
} from "./config.ts";
import { txBoot, txFrameBytesMax, txPublish, txRewind } from "./device/tx.ts";
import { groupsBoot } from "./flow/groups.ts";
import { hashBoot } from "./flow/hash.ts";
import { migrationBoot, migrationLateDrop, migrationLatePeek, migrationSetGroup } from "./flow/migration.ts";
import { flowTableBoot } from "./flow/table.ts";
import { loopBoot } from "./device/loop.ts";
import { addressFor } from "./ip/nextHop.ts";
import { addressAdd, addressBoot, addressDeprecate } from "./ip/address.ts";
import { rxBoot, rxBurst, rxPending } from "./ip/input.ts";
import { arpProbe, arpProbeAnswered } from "./ip/arpInput.ts";
import { controlConsume, controlOpen, controlPeek } from "./ip/control.ts";
import { echoConsume, echoPeek, echoSend, echoWait } from "./ip/echo.ts";
import { ipv4Boot } from "./ip/ipv4.ts";
import { ipv6Boot, packetSend } from "./ip/ipv6.ts";
import { multicastBoot, multicastList, multicastRevision } from "./ip/multicast.ts";
import { gatewayAdd, gatewayRemove, gatewaysBoot } from "./ip/gateways.ts";
import { redirectsBoot } from "./ip/redirects.ts";
import { routeRemove, routesBoot, routeSet } from "./ip/routes.ts";
import { neighborBoot, neighborHasDeadline, neighborNextDeadlineTick, neighborTimers } from "./ip/neighbor.ts";
import {
  reassemblyBoot,
  reassemblyHasDeadline,
  reassemblyNextDeadlineTick,
  reassemblyTimers,
} from "./ip/reassembly.ts";
import { arenaAlloc, arenaBoot } from "./mem/arena.ts";
import { STREAM_ORDER_MAX, streamPoolBoot } from "./mem/streamPool.ts";
import { storeOrdered } from "./mem/ordered.ts";
import { messageBoot } from "./message.ts";
import { CONFIG_LAYOUT_VERSION } from "../src/layout/config.ts";
import { EVENTS_PUBLISHED, POLLS } from "../src/layout/counters.ts";
import {
  EVENT_SIZE_BYTES,
  HANDLE_INDEX_MASK,
  HANDLE_KIND_LISTENER,
  HANDLE_KIND_SHIFT,
  HANDLE_KIND_TCP,
} from "../src/layout/event.ts";
import { RX_LANES_MAX } from "../src/layout/kernelMemory.ts";
import * as M from "../src/layout/kernelMemory.ts";
import { MESSAGE_KERNELS_MAX } from "../src/layout/message.ts";
import { EINVAL, ENOMEM, EPROTO } from "../src/layout/status.ts";
import { readyBoot, readyCount, readyShift } from "./socket/ready.ts";
import {
  tcpAbort,
  tcpAbortAll,
  tcpClose,
  tcpGetInfo,
  tcpRecv,
  tcpRecvConsume,
  tcpRecvPeek,
  tcpSend,
  tcpSendCommit,
  tcpSendReserve,
  tcpShutdownSend,
} from "./socket/tcpSocket.ts";
import { tcpListenSetOption, tcpOptionsBoot, tcpSetOption } from "./socket/tcpOptions.ts";
import { accountBoot } from "./tcp/account.ts";
import { accurateBoot } from "./tcp/accurateEcn.ts";
import { historyBoot } from "./tcp/history.ts";
import { settingsBoot } from "./tcp/settings.ts";
import { count, countBy } from "./stats.ts";
import { releaseEnded, tcpTakeEvent } from "./tcp/close.ts";
import { addressRemove, tcpListenClose } from "./tcp/abort.ts";
import { fastOpenBoot, fastOpenForget } from "./tcp/fastOpenClient.ts";
import { cookiesBoot } from "./tcp/cookies.ts";
import { linkSet } from "./tcp/link.ts";
import { listenerBoot, listenerTakeEvent, tcpAccept, tcpListen } from "./tcp/listener.ts";
import { tcpInfo } from "./tcp/info.ts";
import {
  migrationDiscard,
  migrationDropHeld,
  migrationExport,
  migrationFreeze,
  migrationImport,
  migrationImportEnd,
  migrationList,
  migrationReplay,
  migrationReplayHeld,
  migrationReplayLate,
  migrationThaw,
} from "./tcp/migration.ts";
import { flowDetour, stealDetour, stealExpect, stealFreeze } from "./tcp/stealing.ts";
import { tcpConnect } from "./tcp/open.ts";
import { tcpOutput } from "./tcp/output.ts";
import { outputCount, outputMark, outputQueueBoot, outputShift } from "./tcp/outputQueue.ts";
import { tcbBoot } from "./tcp/tcb.ts";
import { timersRun } from "./tcp/timeouts.ts";
import { wheelBoot, wheelNextTick, wheelTake } from "./tcp/wheel.ts";
import { nowNs, nowTick, setNow, TICK_SHIFT, tickReached } from "./time.ts";
import {
  udpBind,
  udpBoot,
  udpClose,
  udpJoin,
  udpLeave,
  udpLocalPort,
  udpRecvConsume,
  udpRecvPeek,
  udpSendTo,
  udpSetOption,
  udpTakeEvent,
} from "./udp/udp.ts";

export {
  addressAdd,
  addressFor,
  addressDeprecate,
  addressRemove,
  arpProbe,
  arpProbeAnswered,
  controlConsume,
  controlOpen,
  controlPeek,
  echoConsume,
  echoPeek,
  echoSend,
  echoWait,
  fastOpenForget,
  gatewayAdd,
  gatewayRemove,
  linkSet,
  packetSend,
  routeRemove,
  routeSet,
  migrationDiscard,
  migrationDropHeld,
  migrationExport,
  migrationFreeze,
  migrationImport,
  migrationImportEnd,
  migrationLateDrop,
  migrationLatePeek,
  migrationList,
  migrationReplay,
  migrationReplayHeld,
  migrationReplayLate,
  migrationSetGroup,
  migrationThaw,
  flowDetour,
  stealDetour,
  stealExpect,
  stealFreeze,
  multicastList,
  multicastRevision,
  tcpAbort,
  tcpAbortAll,
  tcpAccept,
  tcpClose,
  tcpConnect,
  tcpGetInfo,
  tcpInfo,
  tcpListen,
  tcpListenClose,
  tcpListenSetOption,
  tcpRecv,
  tcpRecvConsume,
  tcpRecvPeek,
  tcpSend,
  tcpSendCommit,
  tcpSendReserve,
  tcpSetOption,
  tcpShutdownSend,
  tuningReload,
  txRewind,
  udpBind,
  udpClose,
  udpJoin,
  udpLeave,
  udpLocalPort,
  udpRecvConsume,
  udpRecvPeek,
  udpSendTo,
  udpSetOption,
};

/** Timers that one poll may run: the rest is due at once in the next. */
const TIMERS_PER_POLL_MAX: u32 = 4096;

let events: usize = 0;
let timersLeft: bool = false;

function isPowerOfTwo(value: u32): bool {
  return value != 0 && (value & (value - 1)) == 0;
}

/** Relations that the rest relies on; ranges are checked with better words in src/kernel/config.ts. */
function configIsSane(): bool {
  return (
    rxLanes >= 1 &&
    rxLanes <= <u32>RX_LANES_MAX &&
    isPowerOfTwo(rxRingBytes) &&
    isPowerOfTwo(txRingBytes) &&
    txRingBytes >= 2 * txFrameBytesMax() &&
    kernelsMax <= <u32>MESSAGE_KERNELS_MAX &&
    isPowerOfTwo(messageRingBytes) &&
    mtuBytes >= 576 &&
    connectionsMax >= 1 &&
    connectionsMax <= <u32>HANDLE_INDEX_MASK &&
    eventSlots >= 1 &&
    rcvBufferBytesMax >= 2048 &&
    rcvBufferBytesMax <= (<u32>1) << STREAM_ORDER_MAX &&
    sndBufferBytesMax >= 2048 &&
    sndBufferBytesMax <= (<u32>1) << STREAM_ORDER_MAX
  );
}

export function boot(): i32 {
  if (load<u32>(M.CONFIG_BASE, CONFIG_LAYOUT_VERSION) != M.LAYOUT_VERSION) return EPROTO;
  configLoad();
  if (!configIsSane()) return EINVAL;
  arenaBoot(memoryBytes);
  hashBoot();
  if (!addressBoot()) return EINVAL;
  routesBoot();
  gatewaysBoot();
  redirectsBoot();
  events = arenaAlloc(<usize>eventSlots * EVENT_SIZE_BYTES, 64);
  const booted =
    events != 0 &&
    rxBoot() &&
    txBoot() &&
    messageBoot() &&
    readyBoot(connectionsMax + listenersMax + udpSocketsMax) &&
    outputQueueBoot() &&
    tcbBoot() &&
    flowTableBoot() &&
    groupsBoot() &&
    migrationBoot() &&
    wheelBoot(0) &&
    listenerBoot() &&
    tcpOptionsBoot() &&
    settingsBoot() &&
    accountBoot() &&
    historyBoot() &&
    accurateBoot() &&
    cookiesBoot() &&
    fastOpenBoot() &&
    neighborBoot() &&
    loopBoot() &&
    multicastBoot() &&
    ipv4Boot() &&
    ipv6Boot() &&
    reassemblyBoot() &&
    udpBoot() &&
    streamPoolBoot(streamPoolBytes);
  if (!booted) return ENOMEM;
  store<u32>(M.MAP_BASE, <u32>events, M.MAP_EVENTS);
  store<u32>(M.MAP_BASE, M.LAYOUT_VERSION, M.MAP_LAYOUT_VERSION);
  storeOrdered(M.MAP_BASE + M.MAP_BOOTED, 1);
  return 0;
}

export function poll(now: f64, budgetFrames: i32): i32 {
  setNow(<u64>now);
  count(POLLS);
  const heartbeat: usize = M.HEALTH_BASE + M.HEALTH_HEARTBEAT;
  storeOrdered(heartbeat, load<u32>(heartbeat) + 1);
  releaseEnded();
  rxBurst(max(budgetFrames, 0));
  runTimers();
  return publishEvents();
}

function runTimers(): void {
  timersLeft = true;
  for (let i: u32 = 0; i < TIMERS_PER_POLL_MAX; i++) {
    const tcb = wheelTake(nowTick);
    if (changetype<usize>(tcb) == 0) {
      timersLeft = false;
      break;
    }
    timersRun(tcb);
  }
  if (neighborHasDeadline() && tickReached(neighborNextDeadlineTick(), nowTick)) neighborTimers();
  if (reassemblyHasDeadline() && tickReached(reassemblyNextDeadlineTick(), nowTick)) reassemblyTimers();
}

function publishEvents(): i32 {
  let published: u32 = 0;
  while (published < eventSlots && readyCount() > 0) {
    const handle = readyShift();
    const kind = handle >> HANDLE_KIND_SHIFT;
    const record = events + published * EVENT_SIZE_BYTES;
    const told =
      kind == HANDLE_KIND_TCP
        ? tcpTakeEvent(handle, record)
        : kind == HANDLE_KIND_LISTENER
          ? listenerTakeEvent(handle, record)
          : udpTakeEvent(handle, record);
    if (told) published++;
  }
  if (published > 0) countBy(EVENTS_PUBLISHED, published);
  return <i32>published;
}

export function flush(): i32 {
  let served: i32 = 0;
  for (let left = outputCount(); left > 0; left--) {
    const tcb = outputShift();
    if (!tcpOutput(tcb)) {
      // The TX ring is full: this one goes to the back of the queue, the rest waits its turn.
      outputMark(tcb);
      break;
    }
    served++;
  }
  txPublish();
  return served;
}

// A poll or a command, and what it has to send, in one call: for who takes the frames before anything else happens, on
// the kernel's own thread (src/sim/engine). A call from JavaScript costs more than most of what a poll looks at.

export function turn(now: f64, budgetFrames: i32): i32 {
  const published = poll(now, budgetFrames);
  flush();
  return published;
}

export function tcpSendNow(handle: i32, source: usize, bytes: u32): i32 {
  const sent = tcpSend(handle, source, bytes);
  flush();
  return sent;
}

export function tcpCloseNow(handle: i32): i32 {
  const status = tcpClose(handle);
  flush();
  return status;
}

export function nextDeadlineNs(): f64 {
  if (timersLeft) return <f64>nowNs;
  let ticks = wheelNextTick(nowTick);
  if (neighborHasDeadline()) ticks = earlier(ticks, neighborNextDeadlineTick());
  if (reassemblyHasDeadline()) ticks = earlier(ticks, reassemblyNextDeadlineTick());
  return ticks < 0 ? Infinity : <f64>(((nowNs >> TICK_SHIFT) + <u64>ticks) << TICK_SHIFT);
}

/** @param ticks distance from now, -1: none. @param tick another deadline, absolute. */
function earlier(ticks: i64, tick: u32): i64 {
  const distance = tickReached(tick, nowTick) ? 0 : <i64>(tick - nowTick);
  return ticks < 0 || distance < ticks ? distance : ticks;
}

export function hasWork(): i32 {
  return readyCount() > 0 || outputCount() > 0 || timersLeft || rxPending() ? 1 : 0;
}

export function allocAppBytes(bytes: u32): u32 {
  return <u32>arenaAlloc(bytes, 64);
}
