/** What a kernel does about ports on which the others listen, when it has joined. */
import { expect, it } from "vitest";
import type { PortRequest } from "../../../src/control/ports.ts";
import { PortProxy } from "../../../src/control/portProxy.ts";
import { statusError } from "../../../src/errors.ts";
import type { KernelHost } from "../../../src/kernel/host.ts";
import { KernelStack } from "../../../src/kernel/kernelStack.ts";
import { EADDRINUSE } from "../../../src/layout/status.ts";
import type { Sockets } from "../../../src/socket/sockets.ts";

const request = (port: number): PortRequest => ({ protocol: "tcp", address: "0.0.0.0", port });

it("a kernel does not listen once more on what its application has asked for, and joins the rest", async () => {
  const ports = new PortProxy(1);
  // An owner that has not answered yet.
  ports.attach({ tell: () => {}, ask: () => 1, forget: () => {} }, false);
  void ports.claim(request(7));
  ports.hold(request(8));
  const tried: number[] = [];
  const errors: unknown[] = [];
  const refusal = statusError(EADDRINUSE, "listen");
  const stack = new KernelStack({
    host: { kernelId: 1, control: { ports } } as unknown as KernelHost,
    kernels: 2,
    sockets: {
      joinListener: ({ port }: PortRequest) => {
        tried.push(port);
        return port === 9 ? Promise.reject(refusal) : Promise.resolve({ port });
      },
    } as unknown as Sockets,
    clock: { nowNs: () => 0 } as never,
    post: () => {},
    onError: (error) => errors.push(error),
  });
  const joined: number[] = [];
  stack.on("listener", ({ listener }) => joined.push(listener.port));
  await stack.joinListeners([7, 8, 9, 10].map(request));
  expect(tried).toEqual([9, 10]);
  expect(joined).toEqual([10]);
  expect(errors).toEqual([refusal]);
});
