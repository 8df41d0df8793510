/** Points from outside: checks every field, fills in the defaults of workload and machine. */
import { NetPopcornError } from "../errors.ts";
import { designNamed } from "./designs/design.ts";
import { machineNamed } from "./machines/index.ts";
import { CONSTANT_UNITS, isRecord, type Machine, parseMachine } from "./machines/machine.ts";
import { defaultOs } from "./osTraits.ts";
import {
  BALANCER_POLICIES,
  type BackgroundLoad,
  DESIGNS,
  OS_VERSIONS,
  PROTOCOLS,
  type SimPoint,
  type Skew,
  WORKLOADS,
  type WorkloadName,
} from "./types.ts";

export const CORES_MAX = 128;
const PROCS_MAX = 1024;
/** Listeners of their own for the processes of one core. */
const REUSEPORT_PROCS_MAX = 31;
export const CONCURRENCY_MAX = 1_000_000;
const FLOW_GROUPS = 4096;

type Fields = Record<string, unknown>;
/** What a workload is where the point does not say otherwise. */
type WorkloadDefaults = Pick<
  SimPoint,
  | "appCycles"
  | "procsPerCore"
  | "requestsPerConn"
  | "acceptsPerEvent"
  | "fileOpensPerRequest"
  | "messageBytes"
  | "responseBytes"
  | "sharedFdTable"
  | "deferAccept"
>;

/**
 * `web-epoll`: lighttpd; 83.6k connections/s on two cores of 2.4 GHz over mTCP leave 48k cycles beside mTCP's own 9k.
 * `web-accept`: Apache's processes, with its TCP_DEFER_ACCEPT. `proxy`: HAProxy; 23k connections/s on one core of
 * 2.7 GHz (ASPLOS 2016, figure 4b) leave 65k cycles. `rpc`: a 64-byte echo.
 */
const WORKLOAD_DEFAULTS: Readonly<Record<WorkloadName, WorkloadDefaults>> = {
  "web-epoll": {
    appCycles: 48_000,
    procsPerCore: 1,
    requestsPerConn: 1,
    acceptsPerEvent: 100,
    fileOpensPerRequest: 1,
    messageBytes: 80,
    responseBytes: 240,
    sharedFdTable: false,
    deferAccept: false,
  },
  "web-accept": {
    appCycles: 110_000,
    procsPerCore: 10,
    requestsPerConn: 1,
    acceptsPerEvent: 1,
    fileOpensPerRequest: 1,
    messageBytes: 80,
    responseBytes: 240,
    sharedFdTable: false,
    deferAccept: true,
  },
  proxy: {
    appCycles: 65_000,
    procsPerCore: 1,
    requestsPerConn: 1,
    acceptsPerEvent: 64,
    fileOpensPerRequest: 0,
    messageBytes: 80,
    responseBytes: 240,
    sharedFdTable: false,
    deferAccept: false,
  },
  rpc: {
    appCycles: 1_000,
    procsPerCore: 1,
    requestsPerConn: 1,
    acceptsPerEvent: 1,
    fileOpensPerRequest: 0,
    messageBytes: 64,
    responseBytes: 64,
    sharedFdTable: true,
    deferAccept: false,
  },
};

/** Clients of NetPopcorn's test: 30 ApacheBench of 1,000; elsewhere 500 per core, as Fastsocket's http_load. */
function defaultConcurrency(machine: string, cores: number): number {
  return machine === "e5-2695v2" ? 30_000 : 500 * cores;
}

/**
 * A whole point from one that may leave out all but design, cores and workload.
 * @throws NetPopcornError ERR_SIM_POINT, ERR_SIM_MACHINE: the first thing wrong.
 */
export function parsePoint(value: unknown): SimPoint {
  if (!isRecord(value)) throw wrong("a point must be a JSON object");
  const known = new Set<string>(Object.keys(POINT_FIELDS));
  for (const key of Object.keys(value)) if (!known.has(key)) throw wrong(`there is no option "${key}"`);
  const design = choice(value, "design", DESIGNS, undefined);
  const cores = integer(value, "cores", 1, CORES_MAX, undefined);
  const workload = choice(value, "workload", WORKLOADS, "web-epoll");
  const machine = machineOf(value.machine ?? "e5-2695v2");
  const machineName = typeof machine === "string" ? machine : machine.name;
  const usual = WORKLOAD_DEFAULTS[workload];
  const procsMax = designNamed(design).listeners === "process" ? REUSEPORT_PROCS_MAX : PROCS_MAX;
  const addressesMax = workload === "web-accept" || designNamed(design).listeners === "process" ? 1 : 24;
  const procsUsual = machineName === "e5-2695v2" && workload === "web-epoll" ? 10 : usual.procsPerCore;
  return {
    design,
    cores,
    workload,
    machine,
    seed: integer(value, "seed", 0, 0xffffffff, 1),
    appCycles: integer(value, "appCycles", 0, 1e9, usual.appCycles),
    procsPerCore: integer(value, "procsPerCore", 1, procsMax, design === "mtcp" ? 1 : procsUsual),
    requestsPerConn: integer(value, "requestsPerConn", 1, 1e6, usual.requestsPerConn),
    acceptsPerEvent: integer(value, "acceptsPerEvent", 1, 1000, usual.acceptsPerEvent),
    fileOpensPerRequest: integer(value, "fileOpensPerRequest", 0, 100, usual.fileOpensPerRequest),
    messageBytes: integer(value, "messageBytes", 1, 65536, usual.messageBytes),
    responseBytes: integer(value, "responseBytes", 1, 65536, usual.responseBytes),
    thinkMs: numbers(value, "thinkMs", 60_000),
    protocol: choice(value, "protocol", PROTOCOLS, "steady"),
    durationS: number(value, "durationS", 0, 600, 0),
    concurrency: integer(value, "concurrency", 1, CONCURRENCY_MAX, defaultConcurrency(machineName, cores)),
    arrivalsPerSec: number(value, "arrivalsPerSec", 0, 1e8, 0),
    abConnections: integer(value, "abConnections", 1, 1e8, 300_000),
    // mTCP's own default is 10,240; the others are limited by what the application asks for.
    backlog: integer(value, "backlog", 1, 65535, design === "mtcp" ? 10_240 : 1024),
    listenAddresses: integer(value, "listenAddresses", 1, addressesMax, 1),
    sharedFdTable: boolean(value, "sharedFdTable", usual.sharedFdTable),
    deferAccept: boolean(value, "deferAccept", usual.deferAccept),
    skew: skewOf(value.skew),
    background: backgroundOf(value.background, cores),
    policy: choice(value, "policy", BALANCER_POLICIES, "opportunistic"),
    os: choice(value, "os", OS_VERSIONS, defaultOs(machineName, design)),
    vfsBypass: boolean(value, "vfsBypass", true),
    localListen: boolean(value, "localListen", true),
    clientUs: number(value, "clientUs", 0, 100_000, 0),
    // ApacheBench ends when nothing has come for 30 s.
    clientTimeoutS: number(value, "clientTimeoutS", 1, 600, 30),
    // Linux keeps at most tcp_max_tw_buckets (180,000) in TIME-WAIT: at these rates, about a second. mTCP: none.
    timeWaitS: number(value, "timeWaitS", 0, 600, design === "mtcp" ? 0 : 1),
    scale: scaleOf(value.scale),
    traceMs: number(value, "traceMs", 0, 1000, 0),
  };
}

/** For the check of names only. */
const POINT_FIELDS: Record<keyof SimPoint, 1> = {
  design: 1,
  cores: 1,
  workload: 1,
  machine: 1,
  seed: 1,
  appCycles: 1,
  procsPerCore: 1,
  requestsPerConn: 1,
  acceptsPerEvent: 1,
  fileOpensPerRequest: 1,
  messageBytes: 1,
  responseBytes: 1,
  thinkMs: 1,
  protocol: 1,
  durationS: 1,
  concurrency: 1,
  arrivalsPerSec: 1,
  abConnections: 1,
  backlog: 1,
  listenAddresses: 1,
  sharedFdTable: 1,
  deferAccept: 1,
  skew: 1,
  background: 1,
  policy: 1,
  os: 1,
  vfsBypass: 1,
  localListen: 1,
  clientUs: 1,
  clientTimeoutS: 1,
  timeWaitS: 1,
  scale: 1,
  traceMs: 1,
};

function wrong(why: string): NetPopcornError {
  return new NetPopcornError("ERR_SIM_POINT", why);
}

function machineOf(value: unknown): string | Machine {
  if (typeof value !== "string") return parseMachine(value);
  machineNamed(value);
  return value;
}

function choice<Choice extends string>(
  fields: Fields,
  name: string,
  choices: readonly Choice[],
  usual: Choice | undefined,
): Choice {
  const value = fields[name] ?? usual;
  const found = choices.find((one) => one === value);
  if (found === undefined) throw wrong(`${name} is ${JSON.stringify(value)}; it must be one of ${choices.join(", ")}`);
  return found;
}

function number(fields: Fields, name: string, min: number, max: number, usual: number | undefined): number {
  const value = fields[name] ?? usual;
  if (typeof value !== "number" || !(value >= min && value <= max)) {
    throw wrong(`${name} is ${JSON.stringify(value)}; it must be a number from ${min} to ${max}`);
  }
  return value;
}

function integer(fields: Fields, name: string, min: number, max: number, usual: number | undefined): number {
  const value = number(fields, name, min, max, usual);
  if (!Number.isInteger(value)) throw wrong(`${name} is ${value}; it must be an integer from ${min} to ${max}`);
  return value;
}

function boolean(fields: Fields, name: string, usual: boolean): boolean {
  const value = fields[name] ?? usual;
  if (typeof value !== "boolean") throw wrong(`${name} is ${JSON.stringify(value)}; it must be true or false`);
  return value;
}

function numbers(fields: Fields, name: string, max: number): readonly number[] {
  const value = fields[name] ?? [];
  if (!Array.isArray(value) || !value.every((one) => typeof one === "number" && one >= 0 && one <= max)) {
    throw wrong(`${name} must be a list of numbers from 0 to ${max}`);
  }
  return value;
}

function skewOf(value: unknown): Skew {
  const fields = value ?? { hotGroups: 0, hotShare: 0 };
  if (!isRecord(fields)) throw wrong("skew must be {hotGroups, hotShare}");
  return {
    hotGroups: integer(fields, "hotGroups", 0, FLOW_GROUPS, undefined),
    hotShare: number(fields, "hotShare", 0, 1, undefined),
  };
}

function backgroundOf(value: unknown, cores: number): BackgroundLoad {
  const fields = value ?? { cores: 0, share: 0 };
  if (!isRecord(fields)) throw wrong("background must be {cores, share}");
  return {
    cores: integer(fields, "cores", 0, cores, undefined),
    share: number(fields, "share", 0, 0.95, undefined),
  };
}

function scaleOf(value: unknown): Readonly<Record<string, number>> {
  const fields = value ?? {};
  if (!isRecord(fields)) throw wrong("scale must be an object of factors");
  const scale: Record<string, number> = {};
  for (const name of Object.keys(fields)) {
    if (!Object.hasOwn(CONSTANT_UNITS, name)) throw wrong(`scale: there is no constant "${name}"`);
    scale[name] = number(fields, name, 0, 1000, undefined);
  }
  return scale;
}
