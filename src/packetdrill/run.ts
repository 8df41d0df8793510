/**
 * Runs one script against one kernel in virtual time. Times, tolerance and the meaning of `+` are those of the
 * original: a relative time counts from the end of the event before it, or, between packets that the script sends, from
 * that packet's own time.
 */
import type { Call, Script, ScriptEvent } from "./ast.ts";
import { runCode, type Value } from "./assertions.ts";
import { CallContext, type Attempt } from "./callContext.ts";
import { runCommands } from "./commands.ts";
import { MalformedPacket } from "./decode.ts";
import { ScriptError, Unsupported } from "./errors.ts";
import { fastOpenCookie } from "./fastOpenCookie.ts";
import { FlowTable } from "./flows.ts";
import { Machine, type MachineEvent } from "./machine.ts";
import { PacketEvents } from "./packetEvents.ts";
import { parseScript } from "./parser.ts";
import { Settings } from "./settings.ts";
import { ContentError, type Result } from "./sockets.ts";
import { canonicalErrno, numberOf } from "./symbols.ts";
import { setSysctl } from "./sysctl.ts";
import { startCall } from "./systemCalls.ts";
import { INFO_CONSTANTS, infoVariables } from "./tcpInfo.ts";

export type ScriptSource = {
  /** For messages. */
  readonly file: string;
  readonly text: string;
  /** Commands find their files from here. */
  readonly directory: string;
};

export type RunOptions = {
  /** The compiled kernel. */
  readonly module: WebAssembly.Module;
  /** Options as on packetdrill's own command line; those in the script win. */
  readonly options?: readonly { readonly name: string; readonly value: string | undefined }[];
  readonly definitions?: ReadonlyMap<string, string>;
  readonly seed?: number;
  /** Gets what `print` writes, and differences that are not fatal. */
  readonly print?: (text: string) => void;
};

export type RunResult =
  | { readonly outcome: "passed" }
  | {
      readonly outcome: "failed" | "unsupported";
      /** Begins with file and line. */
      readonly error: string;
      /** Of "unsupported". */
      readonly what: string;
      /** Whether the text was a script: it ended while it ran. */
      readonly isParsed: boolean;
      /** What neither the script nor the kernel's answers explain: a trap of the kernel, a fault of the interpreter. */
      readonly fault: unknown;
    };

/** Times of a script end here (100 days): the machine counts nanoseconds, and beyond 2^53 they are not exact. */
const TIME_US_MAX = 100 * 24 * 3600e6;

/** Errors that say what is wrong with the script, or with what the kernel does. */
const EXPLAINED = [ScriptError, Unsupported, MalformedPacket, ContentError];

/** Never throws for anything that the script or the kernel does. */
export function runScript(source: ScriptSource, options: RunOptions): RunResult {
  let script: Script | undefined;
  let run: ScriptRun | undefined;
  try {
    script = parseScript(source.text, new Map([...ownDefinitions(source, options), ...(options.definitions ?? [])]));
    run = new ScriptRun(script, source, options);
    run.run();
    return { outcome: "passed" };
  } catch (error) {
    const line = (error instanceof ScriptError || error instanceof Unsupported ? error.line : 0) || (run?.line ?? 0);
    const message = error instanceof Error ? error.message : String(error);
    return {
      outcome: error instanceof Unsupported ? "unsupported" : "failed",
      error: `${source.file}:${line}: ${message}`,
      what: error instanceof Unsupported ? error.what : message,
      isParsed: script !== undefined,
      fault: EXPLAINED.some((kind) => error instanceof kind) ? undefined : error,
    };
  }
}

/**
 * Words that scripts for both families can use: OWN_MSS, the MSS that the kernel announces; TFO_COOKIE, its fast open
 * cookie for the script's peer, and TFO_EARLIER_COOKIE, that of its second key.
 */
function ownDefinitions({ text }: ScriptSource, { options = [] }: RunOptions): [string, string][] {
  const settings = new Settings();
  for (const { name, value } of options) settings.apply({ name, value, line: 0 });
  for (const [, name = "", value] of text.matchAll(/^--(ip_version|mtu|local_ip|remote_ip)=(\S+)/gm)) {
    settings.apply({ name, value, line: 0 });
  }
  const keys = /tcp_fastopen_key=([0-9a-f,-]+)/i.exec(text)?.[1];
  if (keys !== undefined) setSysctl(settings, "net.ipv4.tcp_fastopen_key", keys);
  const cookie = (key: readonly number[]) => fastOpenCookie(settings.remoteAddress, settings.localAddress, key);
  return [
    ["OWN_MSS", String(settings.mtuBytes - (settings.ipVersion === "ipv6" ? 60 : 40))],
    ["TFO_COOKIE", cookie(settings.fastOpenKeys)],
    ["TFO_EARLIER_COOKIE", cookie(settings.fastOpenKeys.slice(4))],
  ];
}

/** A call that has not returned yet. */
type Pending = { readonly attempt: Attempt; readonly call: Call; readonly line: number; readonly endUs: number };

class ScriptRun {
  /** Of the present event. */
  line = 0;
  readonly #script: Script;
  readonly #source: ScriptSource;
  readonly #options: RunOptions;
  readonly #settings = new Settings();
  readonly #flows = new FlowTable();
  readonly #variables = new Map<string, Value>();
  #context: CallContext | undefined;
  #packets: PacketEvents | undefined;
  #pending: Pending | undefined;
  /** Virtual time of the kernel at the script's time 0. */
  #originUs = 0;
  /** Before the kernel boots the script's time is kept here. */
  #bootUs = 0;
  /** Time of the event before this one as the script says it, and whether it was a packet to the kernel. */
  #previous: { readonly us: number; readonly isInbound: boolean } | undefined;

  constructor(script: Script, source: ScriptSource, options: RunOptions) {
    this.#script = script;
    this.#source = source;
    this.#options = options;
    this.#settings.seed = options.seed ?? 1;
    for (const { name, value } of options.options ?? []) this.#settings.apply({ name, value, line: 0 });
    for (const option of script.options) this.#settings.apply(option);
  }

  run(): void {
    const { initCommand, events, cleanupCommand } = this.#script;
    if (this.#settings.isDryRun) return;
    if (initCommand) this.#command(initCommand.text, initCommand.line, false);
    const lastTelling = events.findLastIndex(({ action }) => action.kind !== "command");
    for (const [index, event] of events.entries()) {
      this.line = event.line;
      this.#event(event, index > lastTelling);
    }
    if (this.#pending) this.#finishPending();
    if (this.#settings.expectsAll) this.#packets?.expectNoMore(this.line);
    if (cleanupCommand) this.#command(cleanupCommand.text, cleanupCommand.line, true);
  }

  /** Boots the kernel with the settings made so far. */
  #boot(): CallContext {
    if (this.#context) return this.#context;
    const onEvent = (event: MachineEvent) => {
      const descriptor = this.#context?.byHandle.get(event.handle);
      if (descriptor && descriptor.kind !== "epoll") descriptor.onEvent(event);
    };
    this.#settings.freezeSizes();
    const machine = new Machine(this.#options.module, this.#settings.kernelConfig(), onEvent);
    this.#originUs = machine.nowUs - this.#bootUs;
    this.#context = new CallContext(machine, this.#settings, this.#flows);
    this.#packets = new PacketEvents({
      machine,
      settings: this.#settings,
      flows: this.#flows,
      originUs: this.#originUs,
      wait: (untilUs, isEnough) => this.#wait(untilUs, isEnough),
      warn: (message) => this.#warn(message),
      isEndOfWritten: (bytes) =>
        [...(this.#context?.byHandle.values() ?? [])].some(
          (socket) => socket.kind === "tcp" && socket.written === bytes,
        ),
    });
    return this.#context;
  }

  #warn(message: string): void {
    this.#options.print?.(`${this.#source.file}:${this.line}: ${message}`);
  }

  /** Since the script's time 0. */
  get #nowUs(): number {
    return this.#context ? this.#context.machine.nowUs - this.#originUs : this.#bootUs;
  }

  #event(event: ScriptEvent, isLast: boolean): void {
    const { time, action } = event;
    const isInbound = action.kind === "packet" && action.direction === "in";
    const previous = this.#previous;
    const isChained = isInbound && previous?.isInbound === true;
    const baseUs = time.kind === "absolute" ? 0 : isChained ? previous.us : this.#nowUs;
    const us = time.kind === "any" ? this.#nowUs : baseUs + time.us;
    const toleranceUs = this.#toleranceUs(us - (previous?.us ?? 0));
    if (action.kind === "packet" && action.direction === "out") {
      this.#boot();
      const endUs = time.kind === "any" || time.endUs === undefined ? us : baseUs + time.endUs;
      const window = time.kind === "any" ? undefined : { startUs: us, endUs, toleranceUs };
      this.#packets?.expect(action.packet, window, event.line);
    } else {
      this.#advanceTo(us, toleranceUs);
      if (action.kind === "command") this.#command(action.text, event.line, isLast);
      else if (action.kind === "code") this.#code(action.text, event.line);
      else if (action.kind === "packet") {
        this.#boot();
        this.#packets?.send(action.packet, event.line);
      } else {
        this.#call(action.call, event.line, action.call.endUs === undefined ? undefined : baseUs + action.call.endUs);
      }
    }
    this.#previous = { us: time.kind === "any" ? this.#nowUs : us, isInbound };
  }

  /** @param sinceUs how long after the event before it the script expects this one. */
  #toleranceUs(sinceUs: number): number {
    return Math.max(this.#settings.toleranceUs, (this.#settings.tolerancePercent / 100) * sinceUs);
  }

  #advanceTo(us: number, toleranceUs: number): void {
    this.#checkTime(us);
    if (this.#context) this.#wait(us);
    else this.#bootUs = Math.max(this.#bootUs, us);
    if (this.#nowUs > us + toleranceUs) {
      throw new ScriptError(this.line, `the event's time is ${seconds(us)}, and it is ${seconds(this.#nowUs)} already`);
    }
  }

  #checkTime(us: number): void {
    if (Number.isFinite(us) && us > TIME_US_MAX) throw new ScriptError(this.line, `${seconds(us)} is too late`);
  }

  /** Lets time pass; calls that block go on. @returns true when it was `isEnough`. */
  #wait(untilUs: number, isEnough: () => boolean = () => false): boolean {
    this.#checkTime(untilUs);
    const { machine } = this.#boot();
    // The machine's clock has whole nanoseconds: it would never reach a sum that lies a rounding error beyond one.
    const endUs = Math.round((untilUs + this.#originUs) * 1000) / 1000;
    for (;;) {
      const deadlineUs = this.#pending?.attempt.deadlineUs ?? Number.POSITIVE_INFINITY;
      const stopUs = Math.min(endUs, Math.max(deadlineUs, machine.nowUs));
      const isDone = machine.advance(stopUs, () => {
        this.#pollPending();
        return isEnough();
      });
      if (isDone) return true;
      this.#pollPending();
      if (machine.nowUs >= endUs || this.#pending === undefined) {
        if (stopUs >= endUs) return isEnough();
      }
    }
  }

  #pollPending(): void {
    const pending = this.#pending;
    if (!pending) return;
    const result = this.#poll(pending.attempt, pending.line);
    const { machine } = this.#boot();
    if (result === undefined) {
      // A write that waits for room may have put something in.
      if (machine.exports.hasWork() !== 0) machine.settle();
      return;
    }
    this.#pending = undefined;
    machine.settle();
    this.#checkResult(pending.call, pending.line, result);
    const toleranceUs = this.#toleranceUs(pending.endUs);
    if (Math.abs(this.#nowUs - pending.endUs) > toleranceUs) {
      const { name } = pending.call;
      throw new ScriptError(
        pending.line,
        `${name} returns at ${seconds(this.#nowUs)}, expected ${seconds(pending.endUs)}`,
      );
    }
  }

  #poll(attempt: Attempt, line: number): Result | undefined {
    try {
      return attempt.poll();
    } catch (error) {
      throw error instanceof ContentError ? new ScriptError(line, error.message) : error;
    }
  }

  /** One call after the other: the next waits for the last. */
  #finishPending(): void {
    const pending = this.#pending;
    if (!pending) return;
    this.#wait(pending.endUs + this.#toleranceUs(pending.endUs) + 1, () => this.#pending === undefined);
    if (this.#pending) throw new ScriptError(pending.line, `${pending.call.name} still blocks`);
  }

  #call(call: Call, line: number, endUs: number | undefined): void {
    const context = this.#boot();
    this.#finishPending();
    let attempt: Attempt;
    try {
      attempt = startCall(context, call, line);
    } catch (error) {
      throw error instanceof MalformedPacket ? new ScriptError(line, error.message) : error;
    }
    const result = this.#poll(attempt, line);
    context.machine.settle();
    if (result !== undefined) {
      this.#checkResult(call, line, result);
      return;
    }
    if (endUs === undefined)
      throw new ScriptError(line, `${call.name} blocks; the script says that it returns at once`);
    this.#pending = { attempt, call, line, endUs };
    // What blocks may be over once the kernel has had its turn.
    this.#pollPending();
  }

  #checkResult(call: Call, line: number, actual: Result): void {
    const { result, errno } = call;
    if (result.kind === "ellipsis") return;
    const expected = numberOf(result);
    const isRight =
      expected < 0
        ? typeof actual === "string" && (errno === undefined || canonicalErrno(errno) === canonicalErrno(actual))
        : actual === expected;
    if (isRight) return;
    const shown = typeof actual === "string" ? `-1 ${actual}` : String(actual);
    const message = `${call.name} returns ${shown}, expected ${expected}${errno === undefined ? "" : ` ${errno}`}`;
    if (!this.#settings.nonFatal.has("syscall")) throw new ScriptError(line, message);
    this.#warn(message);
  }

  #command(text: string, line: number, isLast: boolean): void {
    runCommands(text, {
      settings: this.#settings,
      directory: this.#source.directory,
      line,
      machine: this.#context?.machine,
      isLast,
    });
  }

  #code(text: string, line: number): void {
    const context = this.#boot();
    const info = infoVariables(context.machine, context.latest);
    runCode(text, {
      constants: new Map([...INFO_CONSTANTS, ...info]),
      variables: this.#variables,
      print: (printed) => this.#options.print?.(printed),
      line,
    });
  }
}

function seconds(us: number): string {
  return `${(us / 1e6).toFixed(6)} s`;
}
