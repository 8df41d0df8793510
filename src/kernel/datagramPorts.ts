/**
 * Local ports of UDP sockets that ask one peer: its answers come home to this kernel. Unlike TCP's (homePorts.ts) they
 * are drawn and the device is asked, for a socket is bound once and then sends many datagrams, and cards differ in
 * whether they hash UDP with its ports. All are even: the registry, which is not told of these sockets, draws odd ones
 * (control/ports.ts), as Linux keeps connect() and bind() apart.
 */
import type { ReplySteering } from "../device/replySteering.ts";
import type { PortRange } from "../rss/toeplitz.ts";
import type { PortRandom } from "./seed.ts";

/** Draws for each queue of the device: with so many, a kernel that has its share of ports misses one time in e^16. */
const DRAWS_PER_QUEUE = 16;

export type DatagramPortsOptions = {
  /** This kernel's queue. */
  readonly queue: number;
  readonly steering: ReplySteering;
  /** Ephemeral ports. */
  readonly range: PortRange;
  readonly random: PortRandom;
};

export class DatagramPorts {
  readonly #options: DatagramPortsOptions;

  constructor(options: DatagramPortsOptions) {
    this.#options = options;
  }

  /**
   * @param take is shown ports that come home, until it takes one. Addresses are 16 bytes.
   * @returns whether it has.
   */
  find(remote: Uint8Array, remotePort: number, local: Uint8Array, take: (port: number) => boolean): boolean {
    const { queue, steering, range, random } = this.#options;
    for (let draws = DRAWS_PER_QUEUE * steering.queues; draws > 0; draws--) {
      const port = random.draw(range.first, range.last) & ~1;
      if (port < range.first) continue;
      const home = steering.queueFor(remote, remotePort, local, port, true);
      // A device that learns brings answers to where the question came from.
      if ((home === queue || home < 0) && take(port)) return true;
    }
    return false;
  }
}
