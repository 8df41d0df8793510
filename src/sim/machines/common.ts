/**
 * Constants that several machines share: costs of code, which in cycles differ little between the Xeons of those
 * years, and the Intel 82599, which all of the papers used.
 */
import { CONSTANT_UNITS, type Confidence, type Constant, type ConstantName } from "./machine.ts";

/** Name, value, confidence, source: the unit follows from the name. */
export type Entry = readonly [name: ConstantName, value: number, confidence: Confidence, source: string];

/** Later entries replace earlier ones. */
export function constantsOf(...lists: readonly (readonly Entry[])[]): Readonly<Record<ConstantName, Constant>> {
  const constants: Partial<Record<ConstantName, Constant>> = {};
  for (const [name, value, confidence, source] of lists.flat()) {
    constants[name] = { value, unit: CONSTANT_UNITS[name], source, confidence };
  }
  return constants as Record<ConstantName, Constant>;
}

const BUDGET =
  "split by us of the 29k cycles per 64 B connection on one core (mTCP's figure, Linux 3.10, 2.9 GHz) over the calls";

/** The Linux stack and scheduler of 2.6.24 to 3.13, when everything is in the core's own cache. */
export const LINUX_COSTS: readonly Entry[] = [
  ["lockUncontendedCycles", 40, "prior", "an atomic operation on an own line and its release"],
  ["ticketLinesPerWaiter", 0.65, "fitted", "fall of the 2.6.32 curve of Fastsocket's nginx figure beyond 12 cores"],
  ["vfsLockHoldCycles", 1300, "fitted", "height of the same curve; about 6 acquisitions per socket are counted apart"],
  ["vfsLockLines", 4, "prior", "list heads, counters and neighbours of the entry under dcache_lock and inode_lock"],
  ["timeWaitLockHoldCycles", 500, "prior", "inet_twsk_schedule: two list operations on the wheel of TIME-WAIT"],
  ["pathLockHoldCycles", 300, "prior", "a reference taken on a dentry, a mount looked up, a file put on a list"],
  ["bindLockHoldCycles", 150, "prior", "__inet_inherit_port, inet_put_port: one list operation in the port's bucket"],
  ["contextSwitchCycles", 3000, "prior", "1-2 us direct cost on the Xeons of the time"],
  ["wakeUpCycles", 700, "prior", "try_to_wake_up to the own run queue"],
  ["wakeRemoteCycles", 1900, "prior", "the same to another core's, whose run queue lock and lines must be fetched"],
  ["idleExitUs", 1.2, "derived", "2.40 us to wake an idle core (Arrakis, table 1) less a context switch"],
  [
    "epollCallbackCycles",
    150,
    "prior",
    "ep_poll_callback: its lock and three lines from L2, beside one from elsewhere",
  ],
  ["epollWaitCycles", 600, "prior", "a pass of epoll_wait with nothing or little to report"],
  ["syscallCycles", 240, "measured", "0.10 us in and out together on a 3.2-era Xeon (Arrakis, table 1)"],
  ["interruptCycles", 1500, "prior", "entry, acknowledge, NAPI schedule, exit"],
  ["rxPacketCycles", 900, "derived", BUDGET],
  ["txPacketCycles", 900, "derived", BUDGET],
  ["synCycles", 2200, "derived", BUDGET],
  ["childCycles", 3200, "derived", BUDGET],
  ["segmentCycles", 900, "derived", BUDGET],
  ["acceptCycles", 1500, "derived", BUDGET],
  ["recvCycles", 700, "derived", BUDGET],
  ["sendCycles", 1400, "derived", BUDGET],
  ["closeCycles", 1900, "derived", BUDGET],
  ["connectCycles", 3500, "derived", BUDGET],
  ["fdCycles", 1400, "derived", BUDGET],
  ["fileOpenCycles", 3000, "prior", "open, fstat and close of a cached file, path look-up of two components"],
  ["listenerScanLines", 5, "prior", "compute_score reads socket, address and port lines of every listener"],
  ["copyBytesPerCycle", 4, "prior", "copy to or from user memory, in cache"],
];

export const USER_STACK_COSTS: readonly Entry[] = [
  ["userRxPacketCycles", 550, "derived", "mTCP: 9.0k cycles per 64 B connection on one core (its figure), split by us"],
  ["userConnCycles", 2800, "derived", "the same: creating and destroying a flow"],
  ["userEventCycles", 350, "derived", "the same: one entry of a queue between stack and application, both ends"],
  ["userSwitchCycles", 6000, "prior", "two thread switches per batch; mTCP calls them far dearer than system calls"],
  ["userPollUs", 100, "measured", "mTCP's source: time-out of ps_select"],
];

const IXGBE = "ixgbe driver of the 82599 (its sources)";
export const CARD_82599: readonly Entry[] = [
  ["rssQueues", 16, "measured", `${IXGBE}: IXGBE_MAX_RSS_INDICES`],
  ["nicRings", 64, "measured", `${IXGBE}: IXGBE_MAX_FDIR_INDICES + 1`],
  ["nicRingSlots", 512, "measured", `${IXGBE}: default ring length`],
  ["steerSamplePackets", 20, "measured", `${IXGBE}: ixgbe_atr, on by default; SYNs always`],
  ["steerFilters", 8191, "measured", `${IXGBE}: IXGBE_FDIR_PBALLOC_64K`],
  ["interruptUs", 50, "measured", `${IXGBE}: dynamic moderation, 20,000 interrupts per second at medium load`],
  ["napiBudget", 64, "measured", `${IXGBE}: NAPI weight`],
  ["linkGbps", 10, "measured", "10GBASE"],
  [
    "nicPacketsPerSec",
    14.88e6,
    "derived",
    "both directions: mTCP's 1.488 M/s (two papers) of 10 packets, IX's 1.7 M/s of 8; line rate of one direction",
  ],
  ["steerWriteCycles", 1200, "prior", "one 64-bit MMIO write and the hash of a signature filter (Snap Bean's sources)"],
  ["wireUs", 8, "prior", "cable, switch and the client's card, one way"],
];

/** Of a kernel per core with messages through shared rings. */
export const MESSAGE_COSTS: readonly Entry[] = [
  ["messageCycles", 2500, "prior", "a slot written, fetched by the other core, and an interrupt shared by a few"],
];
