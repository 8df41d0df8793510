/** A proxy over a user-level stack: the application's side of its connections to back ends. */
import type { ActiveOpens } from "./activeOpens.ts";
import { STACK } from "./core.ts";
import type { ServerKernel } from "./serverKernel.ts";
import type { World } from "./world.ts";

const AREA_BYTES = 65536;

export class UserProxy {
  readonly #world: World;
  readonly #opens: ActiveOpens;

  constructor(world: World, opens: ActiveOpens) {
    this.#world = world;
    this.#opens = opens;
  }

  /** For a request that has been read from `slot`. */
  connect(core: number, slot: number, now: number): number {
    const { accounts, connections, kernels, ns, processes } = this.#world;
    const kernel = kernels[core] as ServerKernel;
    const active = connections.takeActive();
    const t = now + accounts.spend(core, STACK, ns.userConnCycles + ns.userEventCycles);
    const handle = active < 0 ? -1 : this.#opens.open(kernel, core, active, core);
    if (handle < 0) {
      if (active >= 0) connections.giveActive(active);
      this.#close(slot, kernel);
      return t;
    }
    kernel.slotOf[handle & 0xffffff] = active;
    connections.handle.set(active, handle);
    connections.process.set(active, processes[core]?.id ?? -1);
    connections.kernel.set(active, core);
    connections.peer.set(active, slot);
    connections.peer.set(slot, active);
    return t;
  }

  /** An event of a connection to a back end: connected, or an answer. */
  serveActive(core: number, active: number, now: number): number {
    const { accounts, connections, kernels, ns, point } = this.#world;
    const kernel = kernels[core] as ServerKernel;
    const handle = connections.handle.get(active);
    let t = now + accounts.spend(core, STACK, ns.userEventCycles);
    if (connections.requestsServed.get(active) === 0 && connections.ended.get(active) === 0) {
      connections.requestsServed.set(active, 1);
      kernel.send(handle, point.messageBytes);
      return t;
    }
    const received = Math.max(kernel.exports.tcpRecv(handle, kernel.area, AREA_BYTES), 0);
    const bytes = connections.serverBytes.get(active) + received;
    connections.serverBytes.set(active, bytes);
    if (bytes < point.responseBytes && connections.ended.get(active) === 0) return t;
    // A client that has gone meanwhile may have left its slot to another.
    const client = connections.peer.get(active);
    if (client >= 0 && connections.handle.get(client) >= 0 && connections.peer.get(client) === active) {
      t = this.#answer(core, client, t);
    }
    t += accounts.spend(core, STACK, ns.userEventCycles);
    this.#close(active, kernel);
    connections.giveActive(active);
    return t;
  }

  /** The back end's answer goes to the client, who may ask again. */
  #answer(core: number, client: number, now: number): number {
    const { accounts, connections, costs, kernels, ns, point } = this.#world;
    const kernel = kernels[core] as ServerKernel;
    const copyNs = point.responseBytes / ns.copyBytesPerCycle / costs.clockGhz;
    let t = now + accounts.spend(core, STACK, ns.userEventCycles + copyNs);
    kernel.send(connections.handle.get(client), point.responseBytes);
    connections.peer.set(client, -1);
    const served = connections.requestsServed.get(client) + 1;
    connections.requestsServed.set(client, served);
    if (served < point.requestsPerConn) return t;
    t += accounts.spend(core, STACK, ns.userEventCycles);
    this.#close(client, kernel);
    return t;
  }

  #close(slot: number, kernel: ServerKernel): void {
    const { connections } = this.#world;
    kernel.exports.tcpClose(connections.handle.get(slot));
    connections.handle.set(slot, -1);
  }
}
