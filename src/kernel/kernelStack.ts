/** What an application sees of the stack inside its kernel, in a worker and inline alike. */
import type { PortRequest } from "../control/ports.ts";
import { Emitter } from "../emitter.ts";
import type { PingOptions, PingReply } from "../ip/pinger.ts";
import type { Connection } from "../socket/connection.ts";
import type { Listener } from "../socket/listener.ts";
import type { BindUdpOptions, ConnectOptions, ListenOptions, Sockets } from "../socket/sockets.ts";
import type { UdpSocket } from "../socket/udp.ts";
import type { Counters } from "../views/kernelMemory.ts";
import type { Clock } from "./clock.ts";
import type { Handles } from "./handles.ts";
import type { KernelHost } from "./host.ts";

/**
 * An application module's default export. It is called once in every kernel; the stack counts as started when all
 * calls have returned or fulfilled. Listening in every kernel on the same port is how one socket comes about.
 */
export type Application = (stack: KernelStack, appArguments: never) => void | Promise<void>;

export type KernelStackEvents = {
  /** What the stack's owner has sent with `stack.postMessage`. */
  message: { readonly data: unknown };
  /**
   * This kernel has joined (or come back), and others listen on a port that the application here has not listened on
   * when it started, because they began later: now this kernel does, too. Without a handler of this event it does not.
   */
  listener: { readonly listener: Listener };
  /** Likewise, a bound UDP socket. */
  udpSocket: { readonly socket: UdpSocket };
};

export type KernelStackOptions = {
  readonly host: KernelHost;
  readonly kernels: number;
  readonly sockets: Sockets;
  readonly clock: Clock;
  readonly post: (data: unknown) => void;
  /** What others listen on could not be opened here. */
  readonly onError: (error: unknown) => void;
};

/** The stack as the application in one kernel sees it; its first argument. */
export class KernelStack extends Emitter<KernelStackEvents> {
  /** Number of this kernel, from 0. */
  readonly kernelId: number;
  /** Kernels of the stack. */
  readonly kernels: number;
  /** The handle level of this kernel. */
  readonly handles: Handles;
  readonly #options: KernelStackOptions;
  readonly #closing = new AbortController();

  constructor(options: KernelStackOptions) {
    super();
    this.#options = options;
    this.kernelId = options.host.kernelId;
    this.kernels = options.kernels;
    this.handles = options.host.handles;
  }

  /** Aborted when the stack begins to close: finish what is open. */
  get signal(): AbortSignal {
    return this.#closing.signal;
  }

  /** The stack's clock, the same in all kernels to some microseconds. */
  nowNs(): number {
    return this.#options.clock.nowNs();
  }

  /** This kernel's replica of the listener; kernels that listen on the same port share it. See Stack.listen. */
  listen(where: number | ListenOptions, more?: Omit<ListenOptions, "port">): Promise<Listener> {
    return this.#options.sockets.listen(where, more);
  }

  /** Opens a connection from this kernel. See Stack.connect. */
  connect(options: ConnectOptions): Promise<Connection> {
    return this.#options.sockets.connect(options);
  }

  /** See Stack.ping. @throws NetPopcornError ERR_NO_APPLICATION_THREAD where the stack has kernels on other threads. */
  ping(address: string, options?: PingOptions): Promise<PingReply> {
    return this.#options.sockets.ping(address, options);
  }

  /** Binds a UDP socket in this kernel. See Stack.bindUdp. */
  bindUdp(where: number | BindUdpOptions): Promise<UdpSocket> {
    return this.#options.sockets.bindUdp(where);
  }

  /** This kernel's counters. */
  counters(): Counters {
    return this.#options.host.memory.counters();
  }

  /** Sends a structured-clonable value to the stack's owner, as its event "message". */
  postMessage(data: unknown): void {
    this.#options.post(data);
  }

  /** @internal What the levels above the Web level build on (src/net). */
  get sockets(): Sockets {
    return this.#options.sockets;
  }

  /** @internal */
  deliver(data: unknown): void {
    this.emit("message", { data });
  }

  /**
   * @internal Listens where other kernels do and this one does not, if the application takes what comes of it. What is
   * refused is reported: the kernel starts without it.
   */
  async joinListeners(missing: readonly PortRequest[]): Promise<void> {
    for (const request of missing) {
      // The application may have asked for it since the owner was asked.
      if (this.#options.host.control.ports.wants(request)) continue;
      try {
        await this.#join(request);
      } catch (error) {
        if (!this.signal.aborted) this.#options.onError(error);
      }
    }
  }

  async #join(request: PortRequest): Promise<void> {
    if (request.protocol === "tcp" && this.hears("listener")) {
      this.emit("listener", { listener: await this.sockets.joinListener(request) });
    } else if (request.protocol === "udp" && this.hears("udpSocket")) {
      this.emit("udpSocket", { socket: await this.sockets.bindDatagrams(request) });
    }
  }

  /** @internal */
  async close(drainMs: number): Promise<void> {
    this.#closing.abort();
    await this.#options.sockets.close(drainMs);
  }
}
