/** What system calls work on, and how they read their arguments. */
import { parseAddress } from "../ip/address.ts";
import type { Call, Expression } from "./ast.ts";
import { expressionText } from "./ast.ts";
import type { Endpoint } from "./encode.ts";
import { ScriptError, Unsupported } from "./errors.ts";
import type { FlowTable } from "./flows.ts";
import type { Machine } from "./machine.ts";
import type { Settings } from "./settings.ts";
import type { Descriptor, Result } from "./sockets.ts";
import { fieldOf, MSG_DONTWAIT, numberOf, O_NONBLOCK } from "./symbols.ts";

/**
 * A call under way: asked until it has a result. Undefined: it blocks.
 */
export type Attempt = {
  poll(): Result | undefined;
  /** It gives up by itself at this time. */
  readonly deadlineUs?: number;
};

export function done(result: Result): Attempt {
  return { poll: () => result };
}

export class CallContext {
  readonly machine: Machine;
  readonly settings: Settings;
  readonly flows: FlowTable;
  readonly fds = new Map<number, Descriptor>();
  /** Descriptors by the kernel's handle; what is closed stays until its last event. */
  readonly byHandle = new Map<number, Descriptor>();
  /** The socket whose TCP_INFO assertions read. */
  latest: Descriptor | undefined;

  constructor(machine: Machine, settings: Settings, flows: FlowTable) {
    this.machine = machine;
    this.settings = settings;
    this.flows = flows;
  }

  /** Enters a new descriptor under the number that the script expects. */
  add(call: Call, line: number, descriptor: Descriptor): number {
    const fd = numberOf(call.result);
    if (fd < 0) return this.#lowestFree();
    if (this.fds.has(fd)) throw new ScriptError(line, `descriptor ${fd} is in use`);
    this.fds.set(fd, descriptor);
    return fd;
  }

  #lowestFree(): number {
    let fd = 3;
    while (this.fds.has(fd)) fd++;
    return fd;
  }
}

/** Arguments of one call. */
export class Args {
  readonly call: Call;
  readonly line: number;

  constructor(call: Call, line: number) {
    this.call = call;
    this.line = line;
  }

  expression(index: number): Expression {
    const argument = this.call.args[index];
    if (argument === undefined) throw new ScriptError(this.line, `${this.call.name}: argument ${index + 1} is missing`);
    return argument;
  }

  get count(): number {
    return this.call.args.length;
  }

  number(index: number): number {
    return numberOf(this.expression(index));
  }

  /** 0 for an argument that is not there or `...`. */
  flags(index: number): number {
    const argument = this.call.args[index];
    return argument === undefined || argument.kind === "ellipsis" ? 0 : numberOf(argument);
  }

  word(index: number): string {
    const argument = this.expression(index);
    return argument.kind === "word" ? argument.name : expressionText(argument);
  }

  /** An address; `...`: undefined, the default. */
  endpoint(index: number): Endpoint | undefined {
    const argument = this.call.args[index];
    if (argument === undefined || argument.kind === "ellipsis") return undefined;
    const port = fieldOf(argument, "sin_port") ?? fieldOf(argument, "sin6_port");
    const address = fieldOf(argument, "sin_addr") ?? fieldOf(argument, "sin6_addr");
    const text = address?.kind === "apply" ? address.args[address.args.length - 1] : undefined;
    if (!port || text?.kind !== "string") throw new Unsupported(`the address ${expressionText(argument)}`, this.line);
    return { port: numberOf(port), address: parseAddress(text.text) };
  }

  /** Ends the script: the call did something else than the script says. */
  fail(message: string): never {
    throw new ScriptError(this.line, `${this.call.name}: ${message}`);
  }
}

/** Waits unless the descriptor or the call's flags say otherwise. */
export function mayBlock(descriptor: Descriptor, messageFlags = 0): boolean {
  return !(descriptor.fileFlags & O_NONBLOCK) && !(messageFlags & MSG_DONTWAIT);
}

/** An attempt that is repeated until it has a result, or ends with EAGAIN at once. */
export function attempt(descriptor: Descriptor, poll: () => Result | undefined, messageFlags = 0): Attempt {
  const blocks = mayBlock(descriptor, messageFlags);
  return { poll: () => poll() ?? (blocks ? undefined : "EAGAIN") };
}
