/**
 * `netpopcorn/dgram`: node:dgram on this stack (docs/dgram.md). The default export and the named ones belong to the
 * stack of the application that this module is loaded in; `createDgram(stack)` makes the same for any stack.
 */
import type { KernelStack } from "../kernel/kernelStack.ts";
import { checkStack, getDefaultStack } from "../net/stackOf.ts";
import type { Stack } from "../types.ts";
import { createDgramOf, type Dgram } from "./createDgram.ts";

export type { Dgram } from "./createDgram.ts";

const bound: Dgram = createDgramOf(getDefaultStack);

/** node:dgram bound to a stack in inline mode, or to one kernel's. */
export function createDgram(stack: Stack | KernelStack): Dgram {
  checkStack(stack);
  return createDgramOf(() => stack);
}

export const { createSocket, Socket } = bound;

export default bound;
