/**
 * Who has which port. The application listens once: kernels of one stack that ask for the same port share it, one
 * listen replica each; asking twice from the same kernel is EADDRINUSE. Kept by the stack's owner; kernels on other
 * threads ask by message (control/messages.ts).
 */
import { EADDRINUSE } from "../layout/status.ts";

export type PortProtocol = "tcp" | "udp";

export type PortRequest = {
  readonly protocol: PortProtocol;
  /** Text of the local address, "0.0.0.0" for any. */
  readonly address: string;
  /** 0: draw one. */
  readonly port: number;
};

/** The registry as a group of sockets sees it. */
export interface PortClaims {
  /** @returns the port, or a negative status. */
  claim(request: PortRequest): Promise<number>;
  release(request: PortRequest): void;
}

function keyOf({ protocol, address, port }: PortRequest): string {
  return `${protocol} ${address} ${port}`;
}

export class PortRegistry {
  readonly #drawPort: () => number;
  /** Kernels that hold each port. */
  readonly #holders = new Map<string, Set<number>>();
  /** Ports drawn for requests of port 0, in order: the n-th request of every kernel gets the same. */
  readonly #drawn = new Map<string, number[]>();
  readonly #drawnBy = new Map<string, number>();

  /** @param drawPort an ephemeral port, uniformly. */
  constructor(drawPort: () => number) {
    this.#drawPort = drawPort;
  }

  /** Claims a port for all of `kernels` or for none. @returns the port, or EADDRINUSE. */
  claim(kernels: readonly number[], request: PortRequest): number {
    const port = request.port === 0 ? this.#nextDrawn(kernels, request) : request.port;
    if (port < 0) return port;
    const key = keyOf({ ...request, port });
    let holders = this.#holders.get(key);
    if (!holders) {
      holders = new Set();
      this.#holders.set(key, holders);
    }
    for (const kernel of kernels) if (holders.has(kernel)) return EADDRINUSE;
    for (const kernel of kernels) holders.add(kernel);
    return port;
  }

  release(kernels: readonly number[], request: PortRequest): void {
    const key = keyOf(request);
    const holders = this.#holders.get(key);
    for (const kernel of kernels) holders?.delete(kernel);
    if (holders?.size === 0) this.#holders.delete(key);
  }

  /** A kernel is gone, with all that it held. */
  releaseAll(kernel: number): void {
    for (const [key, holders] of this.#holders) {
      holders.delete(kernel);
      if (holders.size === 0) this.#holders.delete(key);
    }
    this.forgetDraws(kernel);
  }

  /** The kernel starts again: its n-th request of port 0 gets what its n-th got before. */
  forgetDraws(kernel: number): void {
    for (const key of this.#drawnBy.keys()) if (key.startsWith(`${kernel} `)) this.#drawnBy.delete(key);
  }

  #nextDrawn(kernels: readonly number[], request: PortRequest): number {
    const series = keyOf(request);
    let ports = this.#drawn.get(series);
    if (!ports) {
      ports = [];
      this.#drawn.set(series, ports);
    }
    const counts = kernels.map((kernel) => this.#drawnBy.get(`${kernel} ${series}`) ?? 0);
    const turn = Math.max(...counts);
    if (turn === ports.length) {
      const port = this.#drawFree(request);
      if (port < 0) return port;
      ports.push(port);
    }
    for (const kernel of kernels) this.#drawnBy.set(`${kernel} ${series}`, turn + 1);
    return ports[turn] as number;
  }

  #drawFree(request: PortRequest): number {
    for (let attempt = 0; attempt < 1000; attempt++) {
      const port = this.#drawPort();
      if (!this.#holders.has(keyOf({ ...request, port }))) return port;
    }
    return EADDRINUSE;
  }
}

/** The registry on the owner's own thread, for sockets that stand for `kernels`. */
export function localClaims(registry: PortRegistry, kernels: readonly number[]): PortClaims {
  return {
    claim: (request) => Promise.resolve(registry.claim(kernels, request)),
    release: (request) => registry.release(kernels, request),
  };
}
