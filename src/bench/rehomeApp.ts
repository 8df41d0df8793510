/** In every kernel of `netpopcorn bench rehome`: listens, and ends its kernel when told, noting when. */
import type { KernelStack } from "../types.ts";

export const WAYS = ["throw", "exit"] as const;
export type Way = (typeof WAYS)[number];

export type RehomeArguments = {
  readonly port: number;
  /** Shared: when the kernel has ended, ns of the stack's clock. */
  readonly endedNs: SharedArrayBuffer;
};
export type EndOrder = { readonly kernelId: number; readonly way: Way };

export default async function app(stack: KernelStack, { port, endedNs }: RehomeArguments): Promise<void> {
  await stack.listen(port, {
    onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
  });
  const ended = new Float64Array(endedNs);
  stack.on("message", ({ data }) => {
    const { kernelId, way } = data as EndOrder;
    if (kernelId !== stack.kernelId) return;
    // Outside the stack's own turn, as the exception of any other timer.
    setImmediate(() => {
      ended[0] = stack.nowNs();
      if (way === "exit") process.exit(1);
      throw new Error("netpopcorn bench rehome");
    });
  });
}
