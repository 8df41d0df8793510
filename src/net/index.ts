/**
 * `netpopcorn/net`: node:net on this stack (docs/net.md). The default export and the named ones belong to the stack of
 * the application that this module is loaded in; `createNet(stack)` makes the same for any stack.
 */
import type { KernelStack } from "../kernel/kernelStack.ts";
import type { Stack } from "../types.ts";
import { createNetOf, type Net } from "./createNet.ts";
import { checkStack, getDefaultStack } from "./stackOf.ts";

export type { Net } from "./createNet.ts";
export { listenOnHostNetwork as listenOnHost } from "./createNet.ts";

const net: Net = createNetOf(getDefaultStack);

/** node:net bound to a stack in inline mode, or to one kernel's. */
export function createNet(stack: Stack | KernelStack): Net {
  checkStack(stack);
  return createNetOf(() => stack);
}

export const {
  createServer,
  connect,
  createConnection,
  listenOn,
  Server,
  Socket,
  Stream,
  isIP,
  isIPv4,
  isIPv6,
  BlockList,
  SocketAddress,
  getDefaultAutoSelectFamily,
  setDefaultAutoSelectFamily,
  getDefaultAutoSelectFamilyAttemptTimeout,
  setDefaultAutoSelectFamilyAttemptTimeout,
} = net;

export default net;
