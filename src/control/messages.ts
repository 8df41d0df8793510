/**
 * What the stack's thread, where the supervisor lives, and its kernels' threads tell each other: starting, ending, the
 * view, errors. What kernels have to agree on goes between them (endpoint.ts). None per packet and none per connection.
 * Structured-clonable; each direction is one union.
 */
import type { DeviceCapabilities, PortDescriptor, TablesDescriptor } from "../device/device.ts";
import type { KernelConfig } from "../kernel/config.ts";
import type { MigrationAnswer, MigrationRequest } from "../migration/request.ts";
import type { NetworkChange } from "../ip/networkChange.ts";
import type { View } from "./view.ts";

/** What a worker is started with. */
export type WorkerStart = {
  readonly module: WebAssembly.Module;
  /** Shared, with the configuration written. */
  readonly memory: WebAssembly.Memory;
  readonly config: KernelConfig;
  /** Kernels of the stack. */
  readonly kernels: number;
  /** To be opened when the owner has granted the queue pair. */
  readonly port: PortDescriptor;
  /** To be opened when this kernel becomes the owner; undefined: the device has none. */
  readonly tables: TablesDescriptor | undefined;
  readonly capabilities: DeviceCapabilities;
  /** As of DeviceSource. */
  readonly rssKey: Uint8Array | undefined;
  /** Application module. */
  readonly app: string;
  readonly appArguments: unknown;
  /** Seed of the host side's own draws. */
  readonly seed: Uint32Array;
  /** Seed of the ports that it draws for all while it is the owner. */
  readonly drawSeed: Uint32Array;
  /** 0 ns of the stack's clock (kernel/clock.ts). */
  readonly epochMs: number;
  /** How often the kernel has been started before. */
  readonly life: number;
  readonly view: View;
};

export type ToWorker =
  | { readonly type: "message"; readonly data: unknown }
  | { readonly type: "view"; readonly view: View }
  /** Addresses and routes have changed. */
  | { readonly type: "network"; readonly changes: readonly NetworkChange[] }
  /** To the owner: writes to the device's tables (deviceMessages.ts). */
  | { readonly type: "tables"; readonly id: number; readonly payload: Uint8Array }
  /** Live migration (docs/migration.md). */
  | { readonly type: "migrate"; readonly id: number; readonly request: MigrationRequest }
  /** Stop listening, drain, end; `reset`: reset what is left. The worker answers by exiting. */
  | { readonly type: "close"; readonly drainMs: number; readonly reset: boolean };

export type FromWorker =
  /** The kernel runs and the application's start has completed. */
  | { readonly type: "ready" }
  | { readonly type: "message"; readonly data: unknown }
  /** What this kernel, the device's owner, has decided about addresses (it has applied it itself). */
  | { readonly type: "network"; readonly change: NetworkChange }
  | { readonly type: "conflict"; readonly address: string }
  | { readonly type: "tablesWritten"; readonly id: number; readonly answer: Uint8Array }
  | { readonly type: "migrated"; readonly id: number; readonly answer: MigrationAnswer }
  /** The thread ends by itself, with this status: told before it has ended, for the others' sake. */
  | { readonly type: "exit"; readonly status: number }
  /** `fatal`: the worker ends after this. */
  | { readonly type: "error"; readonly error: ErrorRecord; readonly fatal: boolean };

/** An Error that keeps its code across threads; structured clone drops it. */
export type ErrorRecord = {
  readonly name: string;
  readonly code: string | undefined;
  readonly message: string;
  readonly stack: string | undefined;
};

export function toErrorRecord(error: unknown): ErrorRecord {
  if (!(error instanceof Error)) return { name: "Error", code: undefined, message: String(error), stack: undefined };
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  return { name: error.name, code, message: error.message, stack: error.stack };
}
