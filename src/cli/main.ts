#!/usr/bin/env node
/** The command line: what commands there are. Each command's code is loaded when it runs. */
import { readFileSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command, CommanderError, Option } from "commander";
import { NetPopcornError } from "../errors.ts";
import { EXIT_INTERRUPTED } from "./interrupt.ts";
import {
  choiceOption,
  DEMO_KERNELS_MAX,
  defaultKernels,
  integerOption,
  KERNELS_MAX,
  numberOption,
  SEED_MAX,
} from "./options.ts";
import { createOutput, errorLine } from "./output.ts";
import { simCommand, workerCommand } from "./sim/definition.ts";

/** Exit status when the result is bad: failed connections, wrong bytes. Errors of use and set-up have 1 as well. */
const EXIT_FAILURE = 1;

function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

function seedOption(): Option {
  return new Option("--seed <n>", "everything drawn at random is drawn from it")
    .argParser(integerOption("--seed", 0, SEED_MAX))
    .default(1);
}

function kernelsOption(defaultValue: number, max = KERNELS_MAX): Option {
  return new Option("--kernels <n>", "kernels, one thread each")
    .argParser(integerOption("--kernels", 1, max))
    .default(defaultValue);
}

const jsonOption = () => new Option("--json", "one JSON object per result line on stdout, nothing else there");

function demoCommand(): Command {
  return new Command("demo")
    .description(
      "run a server stack, one kernel per core, against a population of clients; draw it live; write a report",
    )
    .addOption(kernelsOption(Math.min(DEMO_KERNELS_MAX, defaultKernels()), DEMO_KERNELS_MAX))
    .option("--seconds <s>", "how long the load lasts", numberOption("--seconds", 0.5, 3600), 10)
    .option("--concurrency <n>", "connections in flight", integerOption("--concurrency", 1, 8192), 256)
    .option("--out <file>", "where the report goes", "netpopcorn-report.html")
    .option("--no-comparison", "without the designs simulated beside each other at the end")
    .addOption(seedOption())
    .addOption(jsonOption())
    .action(async (options) => {
      const { demo } = await import("./demo/command.ts");
      process.exitCode = (await demo(options, createOutput(options.json === true))) ? 0 : EXIT_FAILURE;
    });
}

function serveCommand(): Command {
  return new Command("serve")
    .description("answer on a TAP device until SIGINT, with one of the built-in applications or a module of yours")
    .requiredOption("--tap <name>", "TAP device, created when there is none of that name")
    .requiredOption(
      "--address <list>",
      "own addresses with prefix length: 10.7.0.2/24,fd07::2/64; dhcp: ask a server; slaac: as routers advertise",
    )
    .addOption(kernelsOption(1))
    .option("--app <app>", "echo, http, discard, chargen, or a module file", "http")
    .option(
      "--port <p>",
      "port to listen on (default: the application's well-known port)",
      integerOption("--port", 1, 65535),
    )
    .option("--pcap <file>", "write all frames to a pcapng file")
    .option("--gateway <list>", "default gateways, several of a family in order of preference: 10.7.0.1,fd07::1")
    .option("--route <list>", "other routes: 10.8.0.0/16=10.7.0.9")
    .option(
      "--steer <how>",
      "who places frames on the kernels: device (it has a queue for each), software (it has one), auto: as it is",
      choiceOption("--steer", ["auto", "device", "software"]),
      "auto",
    )
    .option("--host-address <list>", "addresses to give to the host's end of the device: 10.7.0.1/24,fd07::1/64")
    .addOption(
      new Option("--chaos [s]", "end a random kernel every so many seconds, to see what happens then")
        .argParser(numberOption("--chaos", 0.1, 3600))
        .preset("5"),
    )
    .addOption(seedOption().default(undefined, "random"))
    .addOption(jsonOption())
    .action(async (options) => {
      const { serve } = await import("./serve.ts");
      await serve(options, createOutput(options.json === true));
    });
}

function benchCommand(): Command {
  return new Command("bench")
    .description("measure: both ends of every connection are this stack, frames are handed over in memory")
    .argument("<workload>", "accept, bulk, rr, idle, rehome, or micro")
    .option(
      "--level <level>",
      "handle: bare handles; net: sockets of netpopcorn/net (accept, bulk, rr)",
      choiceOption("--level", ["handle", "net"]),
      "handle",
    )
    .option("--concurrency <c>", "accept: connections in flight", integerOption("--concurrency", 1, 65536), 256)
    .option(
      "--connections <c>",
      "bulk, rr: connections (1); idle: how many (100000); accept: others that are established (0)",
      integerOption("--connections", 1, 16_000_000),
    )
    .addOption(kernelsOption(1))
    .option("--seconds <s>", "how long to measure after a second of warm-up", numberOption("--seconds", 0.5, 3600), 5)
    .addOption(seedOption())
    .addOption(jsonOption())
    .action(async (workload: string, options) => {
      const { bench } = await import("./bench.ts");
      await bench(workload, options, createOutput(options.json === true));
    });
}

function pcapCommand(): Command {
  return new Command("pcap")
    .description("replay a capture (pcap or pcapng) through the model card and the kernels, in virtual time")
    .argument("<file>", "capture file")
    .addOption(kernelsOption(4))
    .option("--address <address>", "which host the kernels are (default: the one that most frames go to)")
    .addOption(seedOption())
    .addOption(jsonOption())
    .action(async (file: string, options) => {
      const { pcap } = await import("./pcap.ts");
      await pcap(file, options, createOutput(options.json === true));
    });
}

function packetdrillCommand(): Command {
  return new Command("packetdrill")
    .description("run packetdrill scripts against a kernel in virtual time: nothing sleeps, nothing needs privileges")
    .argument("<file...>", "scripts (docs/packetdrill.md)")
    .option("-D, --define <name=value>", "what a word in the scripts stands for; may be repeated", collect, [])
    .option("--ip-version <version>", "for scripts that do not say", choiceOption("--ip-version", IP_VERSIONS))
    .option(
      "--tolerance-usecs <us>",
      "how far times may be off, for scripts that do not say (4000)",
      integerOption("--tolerance-usecs", 0, 3_600_000_000),
    )
    .option("--foreign", "scripts for another stack: order of TCP options and sizes of windows are not compared")
    .option("--expect-all", "packets that a script does not expect fail it")
    .option("--dry-run", "only read the scripts")
    .option("--verbose", "show what the scripts print")
    .addOption(seedOption())
    .addOption(jsonOption())
    .action(async (files: string[], options) => {
      const { packetdrill } = await import("./packetdrill.ts");
      const hasPassed = await packetdrill(files, options, createOutput(options.json === true));
      process.exitCode = hasPassed ? 0 : EXIT_FAILURE;
    });
}

const IP_VERSIONS = ["ipv4", "ipv6", "ipv4-mapped-ipv6"] as const;

/** For options that may be given more than once. */
function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}

export function createProgram(): Command {
  const program = new Command("netpopcorn")
    .description("A TCP/IP stack of N share-nothing kernels behind one multi-queue card and one socket.")
    .version(packageVersion())
    .helpCommand(false)
    .addCommand(demoCommand())
    .addCommand(serveCommand())
    .addCommand(benchCommand())
    .addCommand(simCommand(jsonOption()))
    .addCommand(workerCommand(jsonOption()))
    .addCommand(pcapCommand())
    .addCommand(packetdrillCommand());
  for (const command of [program, ...program.commands]) {
    command.exitOverride();
    // An error is one line, written by main().
    command.configureOutput({ writeErr: () => {} });
  }
  return program;
}

/** Runs one command line and sets the process's exit code. */
async function main(): Promise<void> {
  const program = createProgram();
  try {
    await program.parseAsync();
  } catch (error) {
    // Help and version have been printed.
    if (error instanceof CommanderError && error.exitCode === 0) return;
    const shown = error instanceof CommanderError ? usageError(error, program) : error;
    console.error(errorLine(shown));
    if (process.env.NETPOPCORN_DEBUG !== undefined) console.error(shown);
    process.exitCode =
      shown instanceof NetPopcornError && shown.code === "ERR_INTERRUPTED" ? EXIT_INTERRUPTED : EXIT_FAILURE;
  }
}

function usageError(error: CommanderError, program: Command): NetPopcornError {
  const names = program.commands.map((command) => command.name()).join(", ");
  // Commander's own error for a bare `netpopcorn` carries the help text, not a reason.
  const isBare = error.code === "commander.help";
  const reason = isBare ? `a command is needed: ${names}` : error.message.replace(/^error: /, "");
  return new NetPopcornError("ERR_USAGE", `${reason}; see netpopcorn --help`);
}

// Imported by tests, the module only defines the program.
if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
