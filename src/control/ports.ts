/**
 * Who has which port. The application listens once: kernels of one stack that ask for the same port share it, one
 * listen replica each; asking twice from the same kernel is EADDRINUSE. The registry is the owner's (portOwner.ts);
 * kernels ask it by message (portProxy.ts), and tell a new owner what they have.
 */
import { EADDRINUSE } from "../layout/status.ts";

export type PortProtocol = "tcp" | "udp";

export type PortRequest = {
  readonly protocol: PortProtocol;
  /** Text of the local address, "0.0.0.0" or "::" for any. */
  readonly address: string;
  /** 0: draw one. */
  readonly port: number;
  /** Of "::": of IPv6 alone. Default false. */
  readonly ipv6Only?: boolean;
  /** Of a listener, for kernels that join later: it is another's to open likewise. */
  readonly terms?: ListenTerms;
};

export type ListenTerms = {
  readonly backlog: number;
  /** Pairs of OPTION_* and value that its connections inherit. */
  readonly options: readonly (readonly [option: number, value: number])[];
};

/**
 * What has come of a claim, as of now: what was granted may be revoked in the same turn, before whoever waits for the
 * promise has opened anything. So it is to be read, and the socket opened, without waiting in between.
 */
export type ClaimAnswer = {
  /** The port, or a negative status. */
  result: number;
};

/** The registry as a group of sockets sees it. */
export interface PortClaims {
  claim(request: PortRequest): Promise<Readonly<ClaimAnswer>>;
  release(request: PortRequest): void;
  /** What was claimed cannot be opened: other kernels that share it are to give it up, too. */
  fail(request: PortRequest, status: number): void;
  /** Called when another kernel could not open what it shares with us. */
  onRevoked?: ((request: PortRequest, status: number) => void) | undefined;
}

/** Holder of what the stack itself has, in all kernels; others are kernel ids. */
export const HOLDER_STACK = 255;

export type Claim = {
  /** Port, or a negative status. */
  readonly result: number;
  /** Of a drawn port: its place in the holder's series. */
  readonly turn: number;
  /** Refused only because of wildcards that other kernels have: an application that changes them does so everywhere. */
  readonly mayPass?: boolean;
};

export function portKey({ protocol, address, port, ipv6Only }: PortRequest): string {
  return `${protocol} ${address}${ipv6Only ? " only" : ""} ${port}`;
}

/** Wildcards that would get the same packets under another name (assembly/ip/bind.ts). */
export function rivalsOf(request: PortRequest): PortRequest[] {
  const both = { ...request, address: "::", ipv6Only: false };
  if (request.address === "0.0.0.0" || request.ipv6Only) return [both];
  return request.address === "::"
    ? [
        { ...both, address: "0.0.0.0" },
        { ...both, ipv6Only: true },
      ]
    : [];
}

type Shared = { readonly request: PortRequest; readonly holders: Set<number> };

/** Random ports tried for one request. */
const DRAWS_MAX = 1000;

export class PortRegistry {
  readonly #drawPort: () => number;
  readonly #shared = new Map<string, Shared>();
  /** Ports drawn for requests of port 0, in order: the n-th request of every holder gets the same. */
  readonly #drawn = new Map<string, (number | undefined)[]>();
  /** Who could not open a port that it had got, and why: until it has succeeded, or is gone, nobody gets that port. */
  readonly #failed = new Map<string, { readonly holder: number; readonly status: number }>();
  /** How many each holder has drawn of a series. */
  readonly #drawnBy = new Map<number, Map<string, number>>();

  /** @param drawPort an ephemeral port, uniformly. */
  constructor(drawPort: () => number) {
    this.#drawPort = drawPort;
  }

  /** Claims a port. @returns it, or EADDRINUSE: the holder has it, or the whole stack has, or a rival is taken. */
  claim(holder: number, request: PortRequest): Claim {
    const turn = this.#turnOf(holder, portKey(request));
    const port = request.port === 0 ? this.#drawnPort(holder, request, turn) : request.port;
    if (port < 0) return { result: port, turn: 0 };
    const key = portKey({ ...request, port });
    const failed = this.#failed.get(key);
    if (failed && failed.holder !== holder) return { result: failed.status, turn: 0 };
    this.#failed.delete(key);
    const holders = this.#shared.get(key)?.holders ?? new Set();
    const taken = holder === HOLDER_STACK ? holders.size > 0 : holders.has(holder) || holders.has(HOLDER_STACK);
    if (taken) return { result: EADDRINUSE, turn: 0 };
    // A port that was drawn has no rivals, or those that are there draw it themselves before they close it.
    const rivals = request.port === 0 ? [] : this.#rivalHolders(request);
    if (rivals.length > 0) {
      const mayPass = ![holder, ...rivals].includes(HOLDER_STACK) && !rivals.includes(holder);
      return { result: EADDRINUSE, turn: 0, mayPass };
    }
    this.restore(holder, { ...request, port });
    if (request.port === 0) this.noteDrawn(holder, { ...request, port }, turn);
    return { result: port, turn };
  }

  release(holder: number, request: PortRequest): void {
    const key = portKey(request);
    const holders = this.#shared.get(key)?.holders;
    holders?.delete(holder);
    if (holders?.size === 0) this.#shared.delete(key);
  }

  /** A holder could not open a port that it has got: nobody has it any more. */
  fail(holder: number, request: PortRequest, status: number): void {
    const key = portKey(request);
    this.#shared.delete(key);
    this.#failed.set(key, { holder, status });
  }

  /** A holder is gone, with all that it had; if it comes back, its n-th request of port 0 gets what its n-th got. */
  releaseAll(holder: number): void {
    for (const [key, { holders }] of this.#shared) {
      holders.delete(holder);
      if (holders.size === 0) this.#shared.delete(key);
    }
    this.#drawnBy.delete(holder);
    for (const [key, failed] of this.#failed) if (failed.holder === holder) this.#failed.delete(key);
  }

  /** Believes a holder that it has a port. */
  restore(holder: number, request: PortRequest): void {
    const key = portKey(request);
    const known = this.#shared.get(key);
    const holders = known?.holders ?? new Set();
    // A socket of the handle level has no terms; how others listen there stays known.
    this.#shared.set(key, { request: request.terms || !known ? request : known.request, holders: holders.add(holder) });
  }

  /** Believes a holder that `port` was drawn for its request number `turn` of this series. */
  noteDrawn(holder: number, request: PortRequest, turn: number): void {
    const { port } = request;
    const series = portKey({ ...request, port: 0 });
    const ports = this.#drawn.get(series) ?? [];
    ports[turn] = port;
    this.#drawn.set(series, ports);
    const counts = this.#drawnBy.get(holder) ?? new Map<string, number>();
    counts.set(series, Math.max(counts.get(series) ?? 0, turn + 1));
    this.#drawnBy.set(holder, counts);
  }

  /** What other kernels have, and this one does not. What the stack itself has, it opens itself in every kernel. */
  heldByOthers(holder: number): PortRequest[] {
    const isMissing = ({ holders }: Shared) => !holders.has(holder) && !holders.has(HOLDER_STACK);
    return [...this.#shared.values()].filter(isMissing).map(({ request }) => request);
  }

  /** Ports that somebody has. */
  get size(): number {
    return this.#shared.size;
  }

  #turnOf(holder: number, series: string): number {
    return this.#drawnBy.get(holder)?.get(series) ?? 0;
  }

  #drawnPort(holder: number, request: PortRequest, turn: number): number {
    const series = portKey(request);
    const known = this.#drawn.get(series)?.[turn];
    // Who has drawn it, closed it, and uses it for the other wildcard runs ahead of us in the same program. Otherwise
    // nobody has this port in our way any more: all who come get another.
    const isAhead = (rival: number) => rival !== holder && this.#turnOf(rival, series) > turn;
    if (known !== undefined && this.#rivalHolders({ ...request, port: known }).every(isAhead)) return known;
    for (let attempt = 0; attempt < DRAWS_MAX; attempt++) {
      const port = this.#drawPort();
      // Even ones are for sockets that no registry is asked for (kernel/datagramPorts.ts), while there are others.
      const isSpare = port % 2 === 0 && attempt < DRAWS_MAX / 2;
      const drawn = { ...request, port };
      if (!isSpare && !this.#shared.has(portKey(drawn)) && this.#rivalHolders(drawn).length === 0) return port;
    }
    return EADDRINUSE;
  }

  #rivalHolders(request: PortRequest): number[] {
    return rivalsOf(request).flatMap((rival) => [...(this.#shared.get(portKey(rival))?.holders ?? [])]);
  }
}

/** A registry on this thread, for sockets of one holder that share it with nobody. */
export function localClaims(registry: PortRegistry, holder: number): PortClaims {
  return {
    claim: (request) => Promise.resolve(registry.claim(holder, request)),
    release: (request) => registry.release(holder, request),
    fail: (request, status) => registry.fail(holder, request, status),
  };
}
