/** createStack: checks the options, gives every kernel its configuration, and starts them in the wanted mode. */
import { onAbort } from "./abort.ts";
import { checkKind, checkOptions, type Shape } from "./checks.ts";
import { startInlineStack } from "./kernel/inlineStack.ts";
import { planStack } from "./kernel/stackPlan.ts";
import { startThreadStack } from "./kernel/threadStack.ts";
import type { Stack, StackOptions } from "./types.ts";

export type { Stack } from "./types.ts";

const OPTIONS: Shape<StackOptions> = {
  kernels: "any",
  kernelsMax: "any",
  mode: "any",
  device: "device",
  address: "texts",
  gateway: "texts",
  routes: "objects",
  rssKey: "octets",
  mac: "text",
  app: "place",
  appArguments: "any",
  seed: "seed",
  clock: "clock",
  drive: "any",
  sharedMemory: "boolean",
  balancer: "any",
  signal: "signal",
  timestamps: "boolean",
  noDelay: "boolean",
  restart: "any",
  hangMs: "any",
  moduleBuild: "any",
  tuning: "object",
};

/**
 * Creates and starts a stack.
 * @throws NetPopcornError ERR_INVALID_ARG_TYPE, ERR_OPTION_RANGE, ERR_OPTION_UNKNOWN, ERR_OPTION_COMBINATION,
 * ERR_ADDRESS_FORMAT, ERR_RSS_KEY, ERR_APP_LOAD, ERR_APP_EXPORT, ENOMEM, and what the application throws at its start.
 */
export async function createStack(options: StackOptions): Promise<Stack> {
  checkOptions("createStack", options, OPTIONS);
  // These two it cannot do without.
  checkKind("option device of createStack", "device", options.device);
  checkKind("option address of createStack", "texts", options.address);
  options.signal?.throwIfAborted();
  const plan = await planStack(options);
  options.signal?.throwIfAborted();
  const stack = await (options.mode === "threads" ? startThreadStack(plan) : startInlineStack(plan));
  stack.on(
    "close",
    onAbort(options.signal, () => void stack.close({ drainMs: 0 })),
  );
  return stack;
}
