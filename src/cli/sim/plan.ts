/** Makes the points of a sweep from the command line. */
import { readFile } from "node:fs/promises";
import { NetPopcornError } from "../../errors.ts";
import { machineNamed } from "../../sim/machines/index.ts";
import {
  CONSTANT_UNITS,
  type Constant,
  type ConstantName,
  type Machine,
  parseMachine,
} from "../../sim/machines/machine.ts";
import { parsePoint } from "../../sim/point.ts";
import type { DesignName, SimPoint } from "../../sim/types.ts";

/** As the definition's readers leave them: what the user left out is missing. */
export type SimCommandOptions = {
  readonly design: readonly DesignName[];
  readonly cores?: readonly number[];
  readonly workload: string;
  readonly machine: string;
  readonly appCycles?: number;
  readonly procsPerCore?: number;
  readonly requestsPerConn?: number;
  readonly fileOpens?: number;
  readonly messageBytes?: number;
  readonly responseBytes?: number;
  readonly thinkMs?: readonly number[];
  readonly protocol: string;
  readonly abConnections?: number;
  readonly duration?: number;
  readonly concurrency?: number;
  readonly arrivals?: number;
  readonly backlog?: number;
  readonly policy?: string;
  readonly os?: string;
  readonly timeWait?: number;
  readonly skew?: CountAndShare;
  readonly background?: CountAndShare;
  readonly vfsBypass: boolean;
  readonly localListen: boolean;
  readonly clientUs?: number;
  readonly clientTimeout?: number;
  readonly acceptsPerEvent?: number;
  readonly listenAddresses?: number;
  readonly threads?: boolean;
  readonly deferAccept?: boolean;
  readonly set?: ReadonlyMap<ConstantName, number>;
  readonly validate?: true | readonly string[];
  readonly sensitivity?: boolean;
  readonly explain?: boolean;
  readonly repeats: number;
  readonly jobs: number;
  readonly out?: string;
  readonly resume?: boolean;
  readonly queue?: string;
  readonly seed: number;
  readonly json?: boolean;
};

type CountAndShare = { readonly count: number; readonly share: number };

const CORES_DEFAULT = [1, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128];
/** Virtual time of a timeline: some tens of connections on each core. */
const TRACE_MS = 2;

/** Cores of a machine, all sockets. */
export function coresOf(machine: Machine): number {
  return machine.constants.sockets.value * machine.constants.coresPerSocket.value;
}

/** @throws NetPopcornError ERR_SIM_MACHINE, or the errno's name when the file cannot be read. */
async function readMachine(name: string): Promise<string | Machine> {
  if (!/\.json$|[/\\]/i.test(name)) {
    machineNamed(name);
    return name;
  }
  let text: string;
  try {
    text = await readFile(name, "utf8");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "EIO";
    throw new NetPopcornError(code, `the machine file ${name} cannot be read`, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new NetPopcornError("ERR_SIM_MACHINE", `${name} is not JSON: ${(cause as Error).message}`, { cause });
  }
  return parseMachine(value);
}

/** The machine with some of its constants replaced. @throws NetPopcornError ERR_SIM_MACHINE: it is none any more. */
function withConstants(
  machine: string | Machine,
  set: ReadonlyMap<ConstantName, number> | undefined,
): string | Machine {
  if (set === undefined) return machine;
  const whole = typeof machine === "string" ? machineNamed(machine) : machine;
  const replaced = [...set].map(([name, value]) => {
    const constant: Constant = { value, unit: CONSTANT_UNITS[name], source: "the command line", confidence: "prior" };
    return [name, constant] as const;
  });
  return parseMachine({ ...whole, constants: { ...whole.constants, ...Object.fromEntries(replaced) } });
}

/** Points in the order of results: designs as they were named, each with rising core counts. */
export async function planPoints(options: SimCommandOptions): Promise<SimPoint[]> {
  const machine = withConstants(await readMachine(options.machine), options.set);
  const coresMax = coresOf(typeof machine === "string" ? machineNamed(machine) : machine);
  const cores = options.cores ?? CORES_DEFAULT.filter((count) => count <= coresMax);
  const { design: designs, skew, background } = options;
  if (background && background.count > Math.max(...cores)) {
    const most = `${Math.max(...cores)} cores at most`;
    throw new NetPopcornError(
      "ERR_ARGUMENT",
      `--background: ${background.count} busy cores, but the sweep has ${most}`,
    );
  }
  const shared = {
    workload: options.workload,
    machine,
    seed: options.seed,
    appCycles: options.appCycles,
    procsPerCore: options.procsPerCore,
    requestsPerConn: options.requestsPerConn,
    fileOpensPerRequest: options.fileOpens,
    messageBytes: options.messageBytes,
    responseBytes: options.responseBytes,
    thinkMs: options.thinkMs,
    protocol: options.protocol,
    abConnections: options.abConnections,
    durationS: options.duration,
    concurrency: options.concurrency,
    arrivalsPerSec: options.arrivals,
    backlog: options.backlog,
    policy: options.policy,
    os: options.os,
    timeWaitS: options.timeWait,
    vfsBypass: options.vfsBypass,
    localListen: options.localListen,
    clientUs: options.clientUs,
    clientTimeoutS: options.clientTimeout,
    acceptsPerEvent: options.acceptsPerEvent,
    listenAddresses: options.listenAddresses,
    sharedFdTable: options.threads,
    deferAccept: options.deferAccept,
    skew: skew && { hotGroups: skew.count, hotShare: skew.share },
    traceMs: options.explain === true ? TRACE_MS : 0,
  };
  const given = Object.fromEntries(Object.entries(shared).filter(([, value]) => value !== undefined));
  return designs.flatMap((design) =>
    cores.map((count) => {
      // A sweep over core counts has small ones too: there, all cores have other work.
      const busy = background && { cores: Math.min(background.count, count), share: background.share };
      return parsePoint({ design, cores: count, ...given, ...(busy ? { background: busy } : {}) });
    }),
  );
}
