#!/usr/bin/env node
/** The command line: what commands there are. Each command's code is loaded when it runs. */
import { readFileSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command, CommanderError, Option } from "commander";
import { NetPopcornError } from "../errors.ts";
import { choiceOption, defaultKernels, integerOption, KERNELS_MAX, numberOption, SEED_MAX } from "./options.ts";
import { createOutput, errorLine } from "./output.ts";

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

function kernelsOption(defaultValue: number): Option {
  return new Option("--kernels <n>", "kernels, one thread each")
    .argParser(integerOption("--kernels", 1, KERNELS_MAX))
    .default(defaultValue);
}

const jsonOption = () => new Option("--json", "one JSON object per result line on stdout, nothing else there");

function demoCommand(): Command {
  return new Command("demo")
    .description(
      "run a server stack, one kernel per core, against a population of clients; draw it live; write a report",
    )
    .addOption(kernelsOption(defaultKernels()))
    .option("--seconds <s>", "how long the load lasts", numberOption("--seconds", 0.5, 3600), 10)
    .option("--concurrency <n>", "connections in flight", integerOption("--concurrency", 1, 8192), 256)
    .option("--out <file>", "where the report goes", "netpopcorn-report.html")
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
    .requiredOption("--address <cidr>", "own address with prefix length: 10.7.0.2/24")
    .addOption(kernelsOption(1))
    .option("--app <app>", "echo, http, discard, chargen, or a module file", "http")
    .option(
      "--port <p>",
      "port to listen on (default: the application's well-known port)",
      integerOption("--port", 1, 65535),
    )
    .option("--gateway <address>", "default gateway: 10.7.0.1")
    .option("--pcap <file>", "write all frames to a pcapng file")
    .addOption(seedOption().default(undefined, "random"))
    .addOption(jsonOption())
    .action(async (options) => {
      const { serve } = await import("./serve.ts");
      await serve(options, createOutput(options.json === true));
    });
}

function benchCommand(): Command {
  const workloads = ["accept", "bulk", "rr", "idle"] as const;
  return new Command("bench")
    .description("measure one of the workloads of docs/benchmarking.md")
    .argument("<workload>", workloads.join(", "), choiceOption("workload", workloads))
    .option("--level <level>", "API level: handle", choiceOption("--level", ["handle"] as const), "handle")
    .option("--concurrency <n>", "connections in flight", integerOption("--concurrency", 1, 65536))
    .option("--connections <n>", "connections in all", integerOption("--connections", 1, 16_000_000))
    .addOption(kernelsOption(1))
    .option("--seconds <s>", "how long to measure", numberOption("--seconds", 0.1, 3600), 5)
    .addOption(seedOption())
    .addOption(jsonOption())
    .action(async (workload, options) => {
      const { bench } = await import("./bench.ts");
      await bench({ workload, ...options }, createOutput(options.json === true));
    });
}

export function createProgram(): Command {
  const program = new Command("netpopcorn")
    .description("A TCP/IP stack of N share-nothing kernels behind one multi-queue card and one socket.")
    .version(packageVersion())
    .helpCommand(false)
    .addCommand(demoCommand())
    .addCommand(serveCommand())
    .addCommand(benchCommand());
  for (const command of [program, ...program.commands]) {
    command.exitOverride();
    command.configureOutput({ outputError: () => {} });
  }
  return program;
}

/** Runs one command line and sets the process's exit code. */
async function main(): Promise<void> {
  try {
    await createProgram().parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version have been printed.
      if (error.exitCode === 0) return;
      const usage = error.message.replace(/^error: /, "");
      const isBare = error.code === "commander.help";
      const message = isBare ? "a command is needed: demo, serve or bench" : usage;
      console.error(errorLine(new NetPopcornError("ERR_USAGE", `${message}; see netpopcorn --help`)));
    } else {
      console.error(errorLine(error));
      if (process.env["NETPOPCORN_DEBUG"] !== undefined) console.error(error);
    }
    process.exitCode = EXIT_FAILURE;
  }
}

// Imported by tests, the module only defines the program.
if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
