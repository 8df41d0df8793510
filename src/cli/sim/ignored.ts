/**
 * Options that would make no difference to what was asked for are refused, and those that one of the designs cannot
 * follow: a user who gives one expects it to count.
 */
import type { Command } from "commander";
import { NetPopcornError } from "../../errors.ts";
import { designNamed } from "../../sim/designs/design.ts";
import type { DesignName } from "../../sim/types.ts";
import type { SimCommandOptions } from "./plan.ts";

/** Attribute names of the options that stand on the command line. */
export type GivenOptions = ReadonlySet<string>;

function givenOptions(command: Command): GivenOptions {
  const names = command.options.map((option) => option.attributeName());
  return new Set(names.filter((name) => command.getOptionValueSource(name) === "cli"));
}

/** How a sweep is run, whatever it is about. */
const RUN_OPTIONS = ["repeats", "jobs", "out", "resume", "queue", "seed", "json"] as const;
const VALIDATE_OPTIONS: ReadonlySet<string> = new Set(["validate", ...RUN_OPTIONS]);

type Rule = {
  readonly option: string;
  readonly isIgnored: (options: SimCommandOptions) => boolean;
  /** What would make it count. */
  readonly reason: string;
};

/** Designs that are simulated; ratios are to netpopcorn, whether or not it was named. */
function designsOf({ design, sensitivity }: SimCommandOptions): readonly DesignName[] {
  return sensitivity === true ? [...design, "netpopcorn"] : design;
}

/** A user-level stack brings its own threads, one application's on each core, and enters no kernel. */
const isUserLevel = (options: SimCommandOptions) =>
  designsOf(options).every((name) => designNamed(name).stack === "user");
const OF_KERNELS = "is of designs in the operating system's kernel";

const RULES: readonly Rule[] = [
  { option: "resume", isIgnored: ({ out }) => out === undefined, reason: "is about a folder; add --out" },
  { option: "jobs", isIgnored: ({ queue }) => queue !== undefined, reason: "is each worker's own with --queue" },
  {
    option: "explain",
    isIgnored: ({ sensitivity }) => sensitivity === true,
    reason: "explains no ratios; leave it out",
  },
  {
    option: "cores",
    isIgnored: ({ cores, sensitivity }) => sensitivity === true && (cores?.length ?? 0) > 1,
    reason: "is one count with --sensitivity; leave the others out",
  },
  {
    option: "abConnections",
    isIgnored: ({ protocol }) => protocol !== "ab",
    reason: "is of finite runs; add --protocol ab",
  },
  {
    option: "duration",
    isIgnored: ({ protocol }) => protocol === "ab",
    reason: "is of steady runs; --protocol ab takes --ab-connections",
  },
  {
    option: "arrivals",
    isIgnored: ({ protocol }) => protocol === "ab",
    reason: "is of steady runs; ApacheBench keeps a number of connections in flight",
  },
  {
    option: "thinkMs",
    isIgnored: ({ requestsPerConn }) => (requestsPerConn ?? 1) < 2,
    reason: "is between the requests of a connection; add --requests-per-conn",
  },
  {
    option: "fileOpens",
    isIgnored: ({ workload }) => workload === "proxy",
    reason: "is of servers that answer with files; a proxy opens none",
  },
  {
    option: "timeWait",
    isIgnored: ({ workload }) => workload === "rpc",
    reason: "is of servers that close first; rpc's clients do",
  },
  { option: "os", isIgnored: isUserLevel, reason: OF_KERNELS },
  { option: "procsPerCore", isIgnored: isUserLevel, reason: OF_KERNELS },
  { option: "threads", isIgnored: isUserLevel, reason: OF_KERNELS },
  { option: "deferAccept", isIgnored: isUserLevel, reason: OF_KERNELS },
  { option: "acceptsPerEvent", isIgnored: isUserLevel, reason: OF_KERNELS },
  {
    option: "acceptsPerEvent",
    isIgnored: ({ workload }) => workload === "web-accept",
    reason: "is of event loops, which web-accept has none of",
  },
  { option: "policy", isIgnored: (options) => !designsOf(options).includes("netpopcorn"), reason: "is netpopcorn's" },
  { option: "vfsBypass", isIgnored: ({ design }) => !design.includes("fastsocket"), reason: "is fastsocket's" },
  { option: "localListen", isIgnored: ({ design }) => !design.includes("fastsocket"), reason: "is fastsocket's" },
];

/** @throws NetPopcornError ERR_USAGE. */
export function refuseIgnored(options: SimCommandOptions, command: Command): void {
  const given = givenOptions(command);
  const flagOf = (name: string) => command.options.find((one) => one.attributeName() === name && isMeant(one, options));
  const shown = (name: string) => flagOf(name)?.long ?? `--${name}`;
  if (options.validate !== undefined) {
    const ignored = [...given].filter((name) => !VALIDATE_OPTIONS.has(name));
    if (ignored.length > 0) {
      const flags = ignored.map(shown).join(", ");
      throw new NetPopcornError("ERR_USAGE", `--validate has each claim's own conditions; leave ${flags} out`);
    }
  }
  const rule = RULES.find(({ option, isIgnored }) => given.has(option) && isIgnored(options));
  if (rule) throw new NetPopcornError("ERR_USAGE", `${shown(rule.option)} ${rule.reason}`);
}

/** Of an option and its --no- twin, the one that the value comes from. */
function isMeant(option: Command["options"][number], options: SimCommandOptions): boolean {
  const value = (options as Readonly<Record<string, unknown>>)[option.attributeName()];
  return option.negate === (value === false);
}
