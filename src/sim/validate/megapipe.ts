/**
 * MegaPipe (Han and others, OSDI 2012), as its own authors and mTCP's measured it. Held out: the design was declared
 * from its paper's description (partitioned listening, lwsocket, batches of 32); no constant was fitted to these
 * values. HM7 is checked only: the driver's own steering was modelled after a look at it.
 */
import type { DesignName, PointResult } from "../types.ts";
import type { Claim, PointInput } from "./claim.ts";

/** 64 bytes each way on eight cores; the clients reset, which leaves no TIME-WAIT. */
function echo(design: DesignName, cores: number, more: Partial<PointInput> = {}): PointInput {
  return { design, cores, workload: "rpc", machine: "e5-2690", procsPerCore: 1, timeWaitS: 0, ...more };
}

/** As mTCP's rows have it. */
const lighttpd = (design: DesignName): PointInput => ({ ...echo(design, 8), workload: "web-epoll", procsPerCore: 1 });

const LONG = { requestsPerConn: 128, durationS: 0.05 } as const;

type Result = (name: string) => PointResult;

function row(id: string, what: string, a: PointInput, b: PointInput, published: number, more: Partial<Claim>): Claim {
  return {
    ...{ id, what, published, unit: "×", basis: "pixels", points: { a, b } },
    source: "NSDI 2014, figures on the project's page",
    value: (result: Result) => result("a").requestsPerSec / result("b").requestsPerSec,
    ...more,
  };
}

const held = (...of: Parameters<typeof row>): Claim => ({ ...row(...of), heldOut: true });
const checked = (...of: Parameters<typeof row>): Claim => ({ ...row(...of), checked: true });

const OWN_PAPER = { source: "OSDI 2012, abstract (another machine of 8 cores)", basis: "read" } as const;

const OWN_CODE =
  "its published code takes 30k cycles a connection on one core and 43k on eight, where it takes 26k and 29k here: " +
  "what a kernel of 3.1 shares beside listeners, files and the port's list (routes, memory) is not modelled";
const SHARED_LISTENER = "as MT1: eight threads at one listener fall less here than there";

export const MEGAPIPE_CLAIMS: readonly Claim[] = [
  held("HM1", "mtcp / megapipe, 8 cores", echo("mtcp", 8), echo("megapipe", 8), 3, {
    source: "NSDI 2014, abstract (its figure: 2.75)",
    basis: "read",
    missReason: OWN_CODE,
  }),
  held("HM2", "megapipe / linux-reuseport, 8 cores", echo("megapipe", 8), echo("linux-reuseport", 8), 541 / 304, {
    missReason: OWN_CODE,
  }),
  held("HM3", "megapipe / linux, one core", echo("megapipe", 1), echo("linux", 1), 95 / 100, {}),
  held("HM4", "megapipe, 8 / 1 core", echo("megapipe", 8), echo("megapipe", 1), 541 / 95, {
    artefact: "as MT10: what every design loses from 1 to 2 to 4 cores in this figure is not seen by others",
  }),
  held("HM5", "lighttpd, mtcp / megapipe, 8 cores", lighttpd("mtcp"), lighttpd("megapipe"), 4.02 / 2.69, {}),
  held("HM6", "megapipe / linux, 8 cores, one message to a connection", echo("megapipe", 8), echo("linux", 8), 6.82, {
    ...{ ...OWN_PAPER, missReason: SHARED_LISTENER },
  }),
  checked(
    "HM7",
    "megapipe / linux, 8 cores, 128 messages to a connection",
    echo("megapipe", 8, LONG),
    echo("linux", 8, LONG),
    1.29,
    OWN_PAPER,
  ),
];
