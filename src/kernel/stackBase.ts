import { checkOptions } from "../checks.ts";
import { Emitter } from "../emitter.ts";
import { NetPopcornError } from "../errors.ts";
import type { MigrationResult } from "../migration/migrator.ts";
import type { CloseOptions, StackEvents, StackStats } from "../types.ts";
import { ControlPlane, type StackKernels } from "./controlPlane.ts";
import type { StackPlan } from "./stackPlan.ts";
import type { KernelEvent, RemoveOptions } from "./supervisor.ts";

const DRAIN_MS_DEFAULT = 1000;

/** @returns the stack when it has started. @throws what its start throws; then it is closed. */
export async function startStack<S extends StackBase>(stack: S): Promise<S> {
  try {
    await stack.start();
    return stack;
  } catch (error) {
    await stack.close({ drainMs: 0 });
    throw error;
  }
}

/** @throws NetPopcornError ERR_INVALID_ARG_TYPE, ERR_OPTION_UNKNOWN, ERR_OPTION_RANGE. */
function checkClose(options: CloseOptions): void {
  const { drainMs = 0 } = checkOptions("close", options, { drainMs: "any" });
  if (typeof drainMs === "number" && drainMs >= 0) return;
  throw new NetPopcornError("ERR_OPTION_RANGE", `option drainMs is ${drainMs}; it must be milliseconds, 0 or more`);
}

/**
 * What all kinds of stack do alike: what the control plane does for their users, their end, and events, held back until
 * whoever created the stack can have attached listeners.
 */
export abstract class StackBase extends Emitter<StackEvents> {
  protected abstract readonly controlPlane: ControlPlane;
  /** Events since the creation; undefined once they are delivered as they come. */
  #held: (() => void)[] | undefined = [];
  #closing: Promise<void> | undefined;

  /** Fulfilled when the application has started in all kernels. */
  abstract start(): Promise<void>;

  /** Ends sockets and kernels. */
  protected abstract endKernels(drainMs: number): Promise<void>;

  get addresses(): readonly string[] {
    return this.controlPlane.network.addresses;
  }

  configured(): Promise<void> {
    return this.controlPlane.network.configured();
  }

  get kernelCount(): number {
    return this.controlPlane.supervision.supervisor.presentCount;
  }

  async stats(): Promise<StackStats> {
    return this.controlPlane.stats();
  }

  killKernel(kernelId: number): void {
    this.controlPlane.killKernel(kernelId);
  }

  addKernel(): Promise<number> {
    return this.controlPlane.supervision.addKernel();
  }

  removeKernel(kernelId: number, options?: RemoveOptions): Promise<void> {
    return this.controlPlane.supervision.removeKernel(kernelId, options);
  }

  migrate(group: number, toKernel: number): Promise<MigrationResult> {
    return this.controlPlane.migrator.migrate(group, toKernel);
  }

  async close(options: CloseOptions = {}): Promise<void> {
    checkClose(options);
    this.#closing ??= this.#close(options.drainMs ?? DRAIN_MS_DEFAULT);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  protected get isClosing(): boolean {
    return this.#closing !== undefined;
  }

  protected createControlPlane(plan: StackPlan, kernels: StackKernels): ControlPlane {
    return new ControlPlane(plan, kernels, {
      address: (event) => void this.emit("address", event),
      balance: (event) => void this.emit("balance", event),
      kernel: (event) => this.#announceKernel(event),
      error: (error, kernelId) => this.reportError(error, kernelId),
    });
  }

  async #close(drainMs: number): Promise<void> {
    this.controlPlane.stop();
    await this.endKernels(drainMs);
    this.controlPlane.release();
    this.emit("close", {});
  }

  /** What a listener throws is nobody's here: neither a kernel's turn nor its supervision may end by it. */
  protected override emit<Name extends keyof StackEvents>(name: Name, event: StackEvents[Name]): boolean {
    try {
      return super.emit(name, event);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
      return true;
    }
  }

  /** The stack has started: createStack is about to return. */
  protected announceStarted(): void {
    // Later than the continuation of `await createStack(…)`, which attaches the listeners.
    setTimeout(() => {
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const deliver of held) deliver();
    });
  }

  protected deliverMessage(data: unknown, kernelId: number): void {
    this.#deliver(() => this.emit("message", { data, kernelId }));
  }

  /** An "error" event; without a listener the error is thrown, so that it does not pass unseen. */
  protected reportError(cause: unknown, kernelId: number): void {
    const error = cause instanceof Error ? cause : new Error(String(cause));
    this.#deliver(() => {
      if (this.emit("error", { error, kernelId, fatal: false })) return;
      queueMicrotask(() => {
        throw error;
      });
    });
  }

  /** A "kernel" event; the end of a kernel is an "error" event too. */
  #announceKernel(event: KernelEvent): void {
    this.#deliver(() => {
      const heard = this.emit("kernel", event);
      const { error, kernelId } = event;
      if (!error || this.emit("error", { error, kernelId, fatal: true }) || heard) return;
      queueMicrotask(() => {
        throw error;
      });
    });
  }

  #deliver(event: () => void): void {
    if (this.#held) this.#held.push(event);
    else event();
  }
}
