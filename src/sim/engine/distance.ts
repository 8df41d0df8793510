/** Where cores are, and what it costs one to fetch a cache line that another has written. */
import type { Costs } from "../machines/index.ts";

export class Distance {
  readonly cores: number;
  readonly nsPerCycle: number;
  readonly sameSocketNs: number;
  readonly crossSocketNs: number;
  readonly #socket: Uint8Array;
  readonly #lineNs: Float64Array;

  /** Cores are filled socket by socket; a machine that is too small goes on with sockets like its own. */
  constructor(costs: Costs, cores: number) {
    this.cores = cores;
    this.nsPerCycle = 1 / costs.clockGhz;
    this.sameSocketNs = costs.lineSameSocketCycles * this.nsPerCycle;
    this.crossSocketNs = costs.lineCrossSocketCycles * this.nsPerCycle;
    const perSocket = Math.max(1, Math.round(costs.coresPerSocket));
    this.#socket = Uint8Array.from({ length: cores }, (_, core) => Math.floor(core / perSocket));
    this.#lineNs = new Float64Array(cores * cores);
    for (let from = 0; from < cores; from++) {
      for (let to = 0; to < cores; to++) {
        const same = this.#socket[from] === this.#socket[to];
        this.#lineNs[from * cores + to] = from === to ? 0 : same ? this.sameSocketNs : this.crossSocketNs;
      }
    }
  }

  socketOf(core: number): number {
    return this.#socket[core] as number;
  }

  /** Extra time for `to` to get a line last written by `from`; -1: by nobody. */
  lineNs(from: number, to: number): number {
    return from < 0 ? 0 : (this.#lineNs[from * this.cores + to] as number);
  }
}
