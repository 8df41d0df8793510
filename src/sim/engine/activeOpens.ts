/** Connections of the server to back ends: local ports, and where the card brings the replies. */
import { parseAddress } from "../../ip/address.ts";
import { SCRATCH_BASE } from "../../layout/kernelMemory.ts";
import { BACKEND_PORT, BACKENDS, backendAddress } from "./clients.ts";
import * as F from "./connectionFields.ts";
import type { ServerKernel } from "./serverKernel.ts";
import type { World } from "./world.ts";

/** Where the address for tcpConnect is put. */
const ADDRESS_AT = SCRATCH_BASE + 2048;
const PORT_FIRST = 10240;
/** The server's first address, in memory order. */
const SERVER_WORD = 10 | (7 << 8) | (255 << 16) | (1 << 24);
const TRIES_MAX = 64;

export class ActiveOpens {
  readonly #world: World;
  /** The connection's slot, by back end and local port: the clients' table. */
  readonly #slots: Int32Array;
  readonly #backends = Array.from({ length: BACKENDS }, (_, i) => parseAddress(backendAddress(i)));
  readonly #nextPort: Int32Array;
  #nextBackend = 0;

  constructor(world: World, slots: Int32Array) {
    this.#world = world;
    this.#slots = slots;
    this.#nextPort = Int32Array.from(world.kernels, (_, id) => PORT_FIRST + id);
  }

  /** Local ports go round; kernels that share nothing have different ones. @returns handle or a status. */
  open(kernel: ServerKernel, kernelId: number, active: number, core: number): number {
    const { connections, kernels, steering } = this.#world;
    const backend = this.#nextBackend;
    this.#nextBackend = (backend + 1) % BACKENDS;
    kernel.memory.bytes.set(this.#backends[backend] as Uint8Array, ADDRESS_AT);
    let handle = -1;
    for (let tries = 0; tries < TRIES_MAX && handle < 0; tries++) {
      const port = this.#nextPort[kernelId] as number;
      this.#nextPort[kernelId] = port + kernels.length > 65535 ? PORT_FIRST + kernelId : port + kernels.length;
      handle = kernel.exports.tcpConnect(0, port, ADDRESS_AT, BACKEND_PORT);
      if (handle < 0) continue;
      const source = 10 | (7 << 8) | (1 << 16) | ((backend + 1) << 24);
      connections.set(active, F.HASH, steering.hash(source, BACKEND_PORT, SERVER_WORD, port) | 0);
      connections.set(active, F.GROUP, port & 4095);
      // With ports of its own choice the card brings the replies to this core.
      connections.set(active, F.HOME, core);
      this.#slots[(backend << 16) | port] = active;
    }
    return handle;
  }
}
