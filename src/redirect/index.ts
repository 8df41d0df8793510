/** `netpopcorn/redirect`: what a program and its packages open by Node's own modules goes by way of a stack. */
import { NetPopcornError } from "../errors.ts";
import type { KernelStack } from "../kernel/kernelStack.ts";
import { checkStack, findDefaultStack, type NetStack, socketsOf } from "../net/stackOf.ts";
import type { Stack } from "../types.ts";
import { replaceModules } from "./replaceModules.ts";

let redirectedTo: NetStack | undefined;
let isRegistered = false;

const targetOf = () => redirectedTo ?? (isRegistered ? findDefaultStack() : undefined);

/**
 * From now on, in this thread: node:net, node:tls, node:http, node:https, node:http2, node:dgram and fetch are on
 * `stack`, in every package.
 * @returns gives the host's network back.
 * @throws NetPopcornError ERR_REDIRECTED: they are on another stack. ERR_NO_APPLICATION_THREAD: `stack` is in threads
 * mode, where each kernel's application has sockets.
 */
export function redirectNode(stack: Stack | KernelStack): () => void {
  checkStack(stack);
  if (redirectedTo !== undefined && redirectedTo !== stack) {
    throw new NetPopcornError(
      "ERR_REDIRECTED",
      "this thread's node:net is on another stack: call the function that its redirectNode() has returned first",
    );
  }
  socketsOf(stack);
  replaceModules(targetOf);
  redirectedTo = stack;
  return () => {
    if (redirectedTo === stack) redirectedTo = undefined;
  };
}

/** The same with the stack of the application module that runs in this thread, where there is one. */
export function redirectToDefault(): void {
  isRegistered = true;
  replaceModules(targetOf);
}
