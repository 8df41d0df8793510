/**
 * A machine: the testbed of a paper. One set of constants for every design on it, each with unit, source and how far
 * it can be trusted. Times are in cycles of the machine's clock.
 */
import { NetPopcornError } from "../../errors.ts";

/** `measured`: printed by its source for this machine. `derived`: computed from such. `prior`: of a like machine, or
 * remembered. `fitted`: adjusted until published curves came out; on which, the source says. */
const CONFIDENCES = ["measured", "derived", "prior", "fitted"] as const;
export type Confidence = (typeof CONFIDENCES)[number];

export type Constant = {
  readonly value: number;
  readonly unit: string;
  readonly source: string;
  readonly confidence: Confidence;
};

/** Every constant that a machine must have, with its unit; docs/simulator.md says what each means. */
export const CONSTANT_UNITS = {
  clockGhz: "GHz",
  sockets: "1",
  coresPerSocket: "1",
  // Memory: one cache line.
  lineSameSocketCycles: "cycles",
  lineCrossSocketCycles: "cycles",
  lineLocalCycles: "cycles",
  lineMemoryCycles: "cycles",
  // Lines of a short connection that the softirq and the process both write.
  connectionLines: "lines",
  // Spin locks.
  lockUncontendedCycles: "cycles",
  ticketLinesPerWaiter: "lines",
  vfsLockHoldCycles: "cycles",
  vfsLockLines: "lines",
  timeWaitLockHoldCycles: "cycles",
  pathLockHoldCycles: "cycles",
  bindLockHoldCycles: "cycles",
  // Threads.
  contextSwitchCycles: "cycles",
  wakeUpCycles: "cycles",
  wakeRemoteCycles: "cycles",
  idleExitUs: "us",
  epollCallbackCycles: "cycles",
  epollWaitCycles: "cycles",
  syscallCycles: "cycles",
  interruptCycles: "cycles",
  // The Linux stack, everything in the core's own cache.
  rxPacketCycles: "cycles",
  txPacketCycles: "cycles",
  synCycles: "cycles",
  childCycles: "cycles",
  segmentCycles: "cycles",
  acceptCycles: "cycles",
  recvCycles: "cycles",
  sendCycles: "cycles",
  closeCycles: "cycles",
  connectCycles: "cycles",
  fdCycles: "cycles",
  fileOpenCycles: "cycles",
  listenerScanLines: "lines",
  copyBytesPerCycle: "bytes/cycle",
  // The user-level stack of mTCP (its published code).
  userRxPacketCycles: "cycles",
  userConnCycles: "cycles",
  userEventCycles: "cycles",
  userSwitchCycles: "cycles",
  userPollUs: "us",
  // Messages between kernels that share nothing.
  messageCycles: "cycles",
  // The card.
  rssQueues: "1",
  nicRings: "1",
  nicRingSlots: "1",
  // Flow Director as the driver uses it by itself: a filter for every so many-th packet sent (0: none), and its table.
  steerSamplePackets: "packets",
  steerFilters: "1",
  interruptUs: "us",
  napiBudget: "packets",
  linkGbps: "Gbit/s",
  nicPacketsPerSec: "1/s",
  steerWriteCycles: "cycles",
  // The clients and what lies between.
  wireUs: "us",
  clientFramesPerSecMax: "1/s",
} as const;
export type ConstantName = keyof typeof CONSTANT_UNITS;
export const CONSTANT_NAMES = Object.keys(CONSTANT_UNITS) as ConstantName[];

/** Constants that others are divided by, or of which there is at least one. */
const DIVISORS: ReadonlySet<ConstantName> = new Set([
  ...(["clockGhz", "sockets", "coresPerSocket", "copyBytesPerCycle", "linkGbps", "nicPacketsPerSec"] as const),
  ...(["rssQueues", "nicRings", "nicRingSlots", "steerFilters", "napiBudget"] as const),
]);

/** What is counted is whole, and the engine keeps so many of it at most. */
const COUNTS_MAX: Readonly<Partial<Record<ConstantName, number>>> = {
  sockets: 1024,
  coresPerSocket: 1024,
  rssQueues: 1024,
  nicRings: 1024,
  nicRingSlots: 65536,
  steerFilters: 1 << 20,
  napiBudget: 65536,
};
/** Beyond, sums of times lose their nanoseconds. */
const VALUE_MAX = 1e12;

export type Machine = {
  readonly name: string;
  readonly description: string;
  readonly constants: Readonly<Record<ConstantName, Constant>>;
};

/** @throws NetPopcornError ERR_SIM_MACHINE that names the first thing wrong. */
export function parseMachine(value: unknown): Machine {
  if (!isRecord(value)) throw wrong("it must be a JSON object");
  const { name, description, constants } = value;
  if (typeof name !== "string" || name === "") throw wrong(`"name" must be a word`);
  if (!isRecord(constants)) throw wrong(`machine ${name} has no "constants"`);
  const parsed: Partial<Record<ConstantName, Constant>> = {};
  for (const key of CONSTANT_NAMES) parsed[key] = parseConstant(name, key, constants[key]);
  for (const key of Object.keys(constants)) {
    if (!Object.hasOwn(CONSTANT_UNITS, key)) throw wrong(`machine ${name}: there is no constant "${key}"`);
  }
  return {
    name,
    description: typeof description === "string" ? description : "",
    constants: parsed as Record<ConstantName, Constant>,
  };
}

function parseConstant(machine: string, key: ConstantName, value: unknown): Constant {
  const where = `machine ${machine}: constant "${key}"`;
  if (value === undefined) throw wrong(`${where} is missing (${CONSTANT_UNITS[key]})`);
  if (!isRecord(value)) throw wrong(`${where} must be {"value", "unit", "source", "confidence"}`);
  const { value: number, unit, source, confidence } = value;
  if (typeof number !== "number" || !(number >= 0 && number <= VALUE_MAX)) {
    throw wrong(`${where}: "value" must be a number from 0 to ${VALUE_MAX}`);
  }
  if (number === 0 && DIVISORS.has(key)) throw wrong(`${where}: "value" must be above 0`);
  const countMax = COUNTS_MAX[key];
  if (countMax !== undefined && !(Number.isInteger(number) && number <= countMax)) {
    throw wrong(`${where}: "value" must be an integer from 1 to ${countMax}`);
  }
  if (unit !== CONSTANT_UNITS[key]) throw wrong(`${where}: "unit" must be "${CONSTANT_UNITS[key]}"`);
  if (typeof source !== "string" || source === "") throw wrong(`${where}: "source" must say where it comes from`);
  const known = CONFIDENCES.find((one) => one === confidence);
  if (!known) throw wrong(`${where}: "confidence" must be one of ${CONFIDENCES.join(", ")}`);
  return { value: number, unit: CONSTANT_UNITS[key], source, confidence: known };
}

function wrong(why: string): NetPopcornError {
  return new NetPopcornError("ERR_SIM_MACHINE", `not a machine: ${why}`);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
