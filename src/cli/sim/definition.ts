/** The options of `netpopcorn sim` and `netpopcorn worker`, and how their values are read. */
import { availableParallelism } from "node:os";
import { Command, Option } from "commander";
import { NetPopcornError } from "../../errors.ts";
import { MACHINE_NAMES } from "../../sim/machines/index.ts";
import { CONSTANT_NAMES, type ConstantName } from "../../sim/machines/machine.ts";
import { CONCURRENCY_MAX } from "../../sim/point.ts";
import { BALANCER_POLICIES, DESIGNS, type DesignName, OS_VERSIONS, PROTOCOLS, WORKLOADS } from "../../sim/types.ts";
import { choiceOption, integerOption, numberOption, SEED_MAX } from "../options.ts";

export const CORES_MAX = 128;
const JOBS_MAX = 256;
const REPEATS_MAX = 1000;

/** The five designs that are compared when none is named. */
export const DESIGNS_DEFAULT: readonly DesignName[] = ["linux", "affinity-accept", "fastsocket", "mtcp", "netpopcorn"];

/** A reader of words with commas between them, each once. "all" means all. */
export function listOption<Choice extends string>(
  name: string,
  choices: readonly Choice[],
): (text: string) => readonly Choice[] {
  return (text) => {
    if (text === "all") return choices;
    const read = choiceOption(name, choices);
    return [...new Set(text.split(",").map((word) => read(word.trim())))];
  };
}

/** A reader of integers with commas between them, rising, each once. */
export function integerListOption(name: string, min: number, max: number): (text: string) => readonly number[] {
  const read = integerOption(name, min, max);
  return (text) => [...new Set(text.split(",").map((word) => read(word.trim())))].sort((a, b) => a - b);
}

/** A reader of "COUNT:SHARE", such as 205:0.8. */
function countAndShareOption(name: string, countMax: number, shareMax: number) {
  return (text: string): { readonly count: number; readonly share: number } => {
    const [count = "", share = "", more] = text.split(":");
    if (more !== undefined || share === "") {
      throw new NetPopcornError(
        "ERR_ARGUMENT",
        `${name} must be COUNT:SHARE, such as 8:0.5, not ${JSON.stringify(text)}`,
      );
    }
    return { count: integerOption(name, 1, countMax)(count), share: numberOption(name, 0, shareMax)(share) };
  };
}

const integer = (flags: string, what: string, min: number, max: number) =>
  new Option(flags, what).argParser(integerOption(flags.split(" ")[0] ?? "", min, max));
const decimal = (flags: string, what: string, min: number, max: number) =>
  new Option(flags, what).argParser(numberOption(flags.split(" ")[0] ?? "", min, max));
const choice = (flags: string, what: string, choices: readonly string[]) =>
  new Option(flags, `${what}: ${choices.join(", ")}`).argParser(choiceOption(flags.split(" ")[0] ?? "", choices));

const workloadOptions = (): Option[] => [
  choice("--workload <w>", "workload", WORKLOADS).default("web-epoll"),
  new Option("--machine <m>", `${MACHINE_NAMES.join(", ")}, or a JSON file with its constants`).default("e5-2695v2"),
  integer("--app-cycles <c>", "cycles of the application for a request", 0, 1e9),
  integer("--procs-per-core <p>", "processes of the application on each core", 1, 1024),
  new Option("--threads", "they are threads of one process, with one table of descriptors (default: of rpc only)"),
  new Option("--defer-accept", "TCP_DEFER_ACCEPT: requests make connections, not ACKs (default: of web-accept only)"),
  new Option("--no-defer-accept", "without it"),
  integer("--accepts-per-event <n>", "connections that an event loop accepts at a time", 1, 1000),
  integer("--listen-addresses <n>", "addresses that the service listens on, each a listener of its own", 1, 24),
  integer("--requests-per-conn <r>", "requests on each connection", 1, 1e6),
  integer("--file-opens <n>", "files opened and closed for a request", 0, 100),
  integer("--message-bytes <b>", "size of a request", 1, 65536),
  integer("--response-bytes <b>", "size of a response", 1, 65536),
  new Option("--think-ms <ms,…>", "client's pauses before the second, third, … request").argParser(
    integerListInOrder("--think-ms", 0, 60_000),
  ),
  choice("--protocol <p>", "steady rate, or finite runs as ApacheBench makes them", PROTOCOLS).default("steady"),
  integer("--ab-connections <n>", "connections of a finite run", 1, 1e8),
  decimal("--duration <s>", "virtual seconds to measure (default: until the rate is known)", 0.001, 600),
  integer("--concurrency <n>", "connections in flight", 1, CONCURRENCY_MAX),
  decimal("--arrivals <per s>", "open loop: connections that arrive per second, whatever becomes of them", 1, 1e8),
];

const systemOptions = (): Option[] => [
  integer("--backlog <n>", "backlog of the listening socket", 1, 65535),
  choice("--policy <p>", "balancer of netpopcorn", BALANCER_POLICIES),
  choice("--os <release>", "kernel release that the design runs on", OS_VERSIONS),
  decimal("--time-wait <s>", "TIME-WAIT at the server, seconds", 0, 600),
  new Option("--skew <groups:share>", "share of connections that come from so many of the 4096 flow groups").argParser(
    countAndShareOption("--skew", 4096, 1),
  ),
  new Option("--background <cores:share>", "other work that takes a share of the first cores").argParser(
    countAndShareOption("--background", CORES_MAX, 0.95),
  ),
  new Option("--no-vfs-bypass", "fastsocket without its bypass of the VFS"),
  new Option("--no-local-listen", "fastsocket with all processes on the global listener"),
  decimal("--client-us <us>", "time that a client takes from a frame's arrival to what follows from it", 0, 1e5),
  decimal("--client-timeout <s>", "a client gives a connection up after so long (default: 30)", 1, 600),
  new Option("--set <constant=value,…>", "constants of the machine, such as linkGbps=40").argParser(constantsOption),
];

/** NAME=VALUE with commas between them; values are numbers of at least 0. More than once: all of them. */
function constantsOption(
  text: string,
  previous?: ReadonlyMap<ConstantName, number>,
): ReadonlyMap<ConstantName, number> {
  const constants = new Map(previous);
  for (const word of text.split(",")) {
    const [name = "", value = "", more] = word.split("=");
    const known = CONSTANT_NAMES.find((constant) => constant === name.trim());
    if (known === undefined || more !== undefined) {
      const shown = JSON.stringify(word);
      throw new NetPopcornError("ERR_ARGUMENT", `--set: ${shown} is no constant with a value; see src/sim/machines`);
    }
    constants.set(known, numberOption(`--set ${known}`, 0, 1e12)(value));
  }
  return constants;
}

/** An empty word is a variable of a script that was not set: no reason to fill the present folder with files. */
function folderOption(text: string): string {
  if (text.trim() === "") throw new NetPopcornError("ERR_ARGUMENT", "--out must name a folder; . is the present one");
  return text;
}

function integerListInOrder(name: string, min: number, max: number): (text: string) => readonly number[] {
  const read = numberOption(name, min, max);
  return (text) => text.split(",").map((word) => read(word.trim()));
}

const queueOption = () => new Option("--queue <url>", "redis://HOST[:PORT], Redis or Valkey");
const jobsOption = (what: string) => integer("--jobs <n>", what, 1, JOBS_MAX).default(availableParallelism());

/** @param seedOption, jsonOption as all commands have them. */
export function simCommand(jsonOption: Option): Command {
  const command = new Command("sim")
    .description(
      "simulate network stack designs on the same machine under the same load: rate, latency, where time goes",
    )
    .addOption(
      new Option("--design <d,…>", `all, or some of ${DESIGNS.join(", ")}`)
        .argParser(listOption("--design", DESIGNS))
        .default(DESIGNS_DEFAULT, DESIGNS_DEFAULT.join(",")),
    )
    .addOption(
      new Option(
        "--cores <n,…>",
        "core counts (default: 1,2,4,8,12,16,20,24, as far as the machine has them)",
      ).argParser(integerListOption("--cores", 1, CORES_MAX)),
    );
  for (const option of [...workloadOptions(), ...systemOptions()]) command.addOption(option);
  return command
    .addOption(
      new Option(
        "--validate [row,…]",
        "compare with what has been published instead: all rows, held-out, checked, or these",
      ).argParser((text: string) => text.split(",").map((id) => id.trim())),
    )
    .addOption(new Option("--sensitivity", "vary each constant of the machine by 30 % instead"))
    .addOption(new Option("--explain", "where the time goes, core by core, and a timeline that Perfetto opens"))
    .addOption(
      integer("--repeats <n>", "simulations of each point, for confidence intervals", 1, REPEATS_MAX).default(1),
    )
    .addOption(jobsOption("simulations side by side"))
    .addOption(
      new Option(
        "--out <dir>",
        "folder for the HTML report, CSV, JSON and timelines; a killed sweep goes on there",
      ).argParser(folderOption),
    )
    .addOption(new Option("--resume", "take results that the folder has (default)"))
    .addOption(new Option("--no-resume", "start anew"))
    .addOption(queueOption().argParser((text: string) => text))
    .addOption(
      new Option("--seed <n>", "everything drawn at random is drawn from it")
        .argParser(integerOption("--seed", 0, SEED_MAX))
        .default(1),
    )
    .addOption(jsonOption)
    .action(async (options, parsed: Command) => {
      const { sim } = await import("./command.ts");
      await sim(options, parsed);
    });
}

export function workerCommand(jsonOption: Option): Command {
  return new Command("worker")
    .description("run simulations for sweeps elsewhere (netpopcorn sim --queue) until SIGINT")
    .addOption(queueOption().makeOptionMandatory())
    .addOption(jobsOption("simulations side by side"))
    .addOption(new Option("--drain", "end when the queue is empty"))
    .addOption(
      decimal(
        "--lost-after <s>",
        "a worker that is silent for so long is lost, and its points are done again",
        1,
        3600,
      ).default(30),
    )
    .addOption(jsonOption)
    .action(async (options) => {
      const { worker } = await import("./worker.ts");
      await worker(options);
    });
}
