/** Commands in back-ticks: what they would change is changed in the settings; nothing is executed. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import * as OPTION from "../layout/option.ts";
import { ScriptError, Unsupported } from "./errors.ts";
import type { Machine } from "./machine.ts";
import { parseShell, type Pipeline } from "./shell.ts";
import type { Settings } from "./settings.ts";
import { setSysctl } from "./sysctl.ts";

export type CommandContext = {
  readonly settings: Settings;
  /** Relative paths start here. */
  readonly directory: string;
  readonly line: number;
  /** Undefined: not booted yet, so that settings still count. */
  readonly machine: Machine | undefined;
  /** Nothing is expected after this command: what it changes has no effect. */
  readonly isLast: boolean;
};

/** Files that include each other. */
const DEPTH_MAX = 8;

/** @throws Unsupported, ScriptError. */
export function runCommands(text: string, context: CommandContext, depth = 0): void {
  for (const pipeline of parseShell(text)) runPipeline(pipeline, context, depth);
}

function runPipeline(pipeline: Pipeline, context: CommandContext, depth: number): void {
  const [program = "", ...args] = pipeline[0] ?? [];
  if (program === "sockstat") return countSockets(pipeline, context);
  if (context.isLast) return;
  if (pipeline.length > 1) throw unsupported(pipeline, context);
  if (program === "sysctl") return sysctl(args, context);
  if (program.endsWith("set_sysctls.py")) return setSysctls(args, context);
  if (/\/sysctl_restore_.*\.sh$/.test(program)) return;
  if (program.endsWith(".sh")) return runFile(program, context, depth);
  if (program === "ip" && args[0] === "tcp_metrics") return context.machine?.exports.fastOpenForget();
  // Traffic control: the wire has no queue, as with pfifo.
  if (program === "tc" && args[0] === "qdisc" && args.includes("pfifo") && !args.includes("limit")) return;
  // Offloads: every segment is seen by itself, as without them.
  if (program === "ethtool" && !args.includes("on")) return;
  if (program === "nstat" || program === "true" || program === ":") return;
  throw unsupported(pipeline, context);
}

function unsupported(pipeline: Pipeline, { line }: CommandContext): Unsupported {
  return new Unsupported(`the command ${pipeline.map((words) => words.join(" ")).join(" | ")}`, line);
}

/** `sysctl -q name=value name=value` */
function sysctl(args: readonly string[], context: CommandContext): void {
  for (const arg of args) if (!arg.startsWith("-")) assign(arg, context);
}

/** `set_sysctls.py /proc/sys/net/ipv4/tcp_timestamps=0` */
function setSysctls(args: readonly string[], context: CommandContext): void {
  for (const arg of args) assign(arg.replace(/^\/proc\/sys\//, ""), context);
}

function assign(assignment: string, { settings, machine, line }: CommandContext): void {
  const equals = assignment.indexOf("=");
  if (equals < 0) return;
  try {
    setSysctl(settings, assignment.slice(0, equals), assignment.slice(equals + 1));
  } catch (error) {
    throw error instanceof Unsupported ? new Unsupported(error.what, line) : error;
  }
  if (!machine) return;
  if (settings.haveSizesChanged()) throw new Unsupported(`a size changed while the kernel runs (${assignment})`, line);
  machine.retune(settings.kernelConfig());
}

function runFile(program: string, context: CommandContext, depth: number): void {
  if (depth >= DEPTH_MAX) throw new ScriptError(context.line, `${program}: files that run each other`);
  let text: string;
  try {
    text = readFileSync(resolve(context.directory, program), "utf8");
  } catch {
    throw new Unsupported(`the command ${program}: there is no such file`, context.line);
  }
  runCommands(text, context, depth + 1);
}

/** FreeBSD's names of states that scripts count. */
const SOCKSTAT_STATES: Readonly<Record<string, number>> = {
  SYN_SENT: OPTION.STATE_SYN_SENT,
  SYN_RCVD: OPTION.STATE_SYN_RECEIVED,
  ESTABLISHED: OPTION.STATE_ESTABLISHED,
  FIN_WAIT_1: OPTION.STATE_FIN_WAIT_1,
  FIN_WAIT_2: OPTION.STATE_FIN_WAIT_2,
  CLOSE_WAIT: OPTION.STATE_CLOSE_WAIT,
  CLOSING: OPTION.STATE_CLOSING,
  LAST_ACK: OPTION.STATE_LAST_ACK,
  TIME_WAIT: OPTION.STATE_TIME_WAIT,
  CLOSED: OPTION.STATE_CLOSED,
};

/** `sockstat … | grep -c TIME_WAIT | grep 1`: as many connections are in that state. */
function countSockets(pipeline: Pipeline, context: CommandContext): void {
  const filters = pipeline.slice(1);
  const [counter, expected] = filters.slice(-2);
  const state = counter?.[0] === "grep" && counter[1] === "-c" ? SOCKSTAT_STATES[counter[2] ?? ""] : undefined;
  if (state === undefined || expected?.[0] !== "grep" || expected[1] === undefined) {
    throw unsupported(pipeline, context);
  }
  const count = context.machine?.countConnections(state) ?? 0;
  if (!String(count).includes(expected[1])) {
    throw new ScriptError(context.line, `${count} connections are in ${counter?.[2]}, expected ${expected[1]}`);
  }
}
