/** A proxy over a user-level stack: the application's side of its connections to back ends. */
import type { ActiveOpens } from "./activeOpens.ts";
import * as F from "./connectionFields.ts";
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
    connections.set(active, F.HANDLE, handle);
    connections.set(active, F.PROCESS, processes[core]?.id ?? -1);
    connections.set(active, F.KERNEL, core);
    connections.set(active, F.PEER, slot);
    connections.set(slot, F.PEER, active);
    return t;
  }

  /** An event of a connection to a back end: connected, or an answer. */
  serveActive(core: number, active: number, now: number): number {
    const { accounts, connections, kernels, ns, point } = this.#world;
    const kernel = kernels[core] as ServerKernel;
    const handle = connections.get(active, F.HANDLE);
    let t = now + accounts.spend(core, STACK, ns.userEventCycles);
    if (connections.get(active, F.REQUESTS_SERVED) === 0 && connections.get(active, F.ENDED) === 0) {
      connections.set(active, F.REQUESTS_SERVED, 1);
      kernel.send(handle, point.messageBytes);
      return t;
    }
    const received = Math.max(kernel.exports.tcpRecv(handle, kernel.area, AREA_BYTES), 0);
    const bytes = connections.get(active, F.SERVER_BYTES) + received;
    connections.set(active, F.SERVER_BYTES, bytes);
    if (bytes < point.responseBytes && connections.get(active, F.ENDED) === 0) return t;
    // A client that has gone meanwhile may have left its slot to another.
    const client = connections.get(active, F.PEER);
    if (client >= 0 && connections.get(client, F.HANDLE) >= 0 && connections.get(client, F.PEER) === active) {
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
    kernel.send(connections.get(client, F.HANDLE), point.responseBytes);
    connections.set(client, F.PEER, -1);
    const served = connections.get(client, F.REQUESTS_SERVED) + 1;
    connections.set(client, F.REQUESTS_SERVED, served);
    if (served < point.requestsPerConn) return t;
    t += accounts.spend(core, STACK, ns.userEventCycles);
    this.#close(client, kernel);
    return t;
  }

  #close(slot: number, kernel: ServerKernel): void {
    const { connections } = this.#world;
    kernel.exports.tcpClose(connections.get(slot, F.HANDLE));
    connections.set(slot, F.HANDLE, -1);
  }
}
