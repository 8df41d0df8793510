/** What kernels and the owner of the ports tell each other, by hand: no kernel runs. */
import { describe, expect, it } from "vitest";
import { Endpoint } from "../../../src/control/endpoint.ts";
import { KernelControl } from "../../../src/control/kernelControl.ts";
import type { PortRequest } from "../../../src/control/ports.ts";
import type { View } from "../../../src/control/view.ts";
import { ENOBUFS } from "../../../src/layout/status.ts";
import { MessageKernel } from "../../helpers/messageKernels.ts";

const HTTP = { protocol: "tcp", address: "::", port: 80 } as const;

class World {
  readonly controls: KernelControl[];
  readonly #places: readonly MessageKernel[];
  #view: View = { term: 0, owner: 0, ownerSince: 0, members: [], former: [] };

  /** @param ringBytes as small as `messageRingBytes` may be. */
  constructor(kernels: number, ringBytes = 4096) {
    this.#places = Array.from({ length: kernels }, (_, id) => new MessageKernel(id, { kernels, ringBytes }));
    const onError = (error: unknown) => {
      throw error;
    };
    this.controls = this.#places.map(({ memory }, kernelId) => {
      const endpoint = new Endpoint({ kernelId, life: 0, memory, onWork: () => {}, onError });
      return new KernelControl({ endpoint, memory, drawPort: () => 40001, onError });
    });
    this.announce(0, this.#places.keys());
  }

  /** From now on these are all, and `owner` is the owner. */
  announce(owner: number, present: Iterable<number>): void {
    const term = this.#view.term + 1;
    const members = [...present].map((kernelId) => ({
      ...{ kernelId, life: 0, memory: (this.#places[kernelId] as MessageKernel).memory.memory },
    }));
    const ownerSince = owner === this.#view.owner && this.#view.term > 0 ? this.#view.ownerSince : term;
    this.#view = { term, owner, ownerSince, members, former: [] };
    for (const { kernelId } of members) this.control(kernelId).setView(this.#view, () => {});
  }

  control(kernelId: number): KernelControl {
    return this.controls[kernelId] as KernelControl;
  }

  /** One turn of a kernel. @returns messages handled. */
  async turn(kernelId: number): Promise<number> {
    const { endpoint } = this.control(kernelId);
    const handled = endpoint.poll();
    endpoint.flush();
    await new Promise((resolve) => setImmediate(resolve));
    return handled;
  }

  /** Turns of these kernels until nothing comes. */
  async settle(...kernelIds: readonly number[]): Promise<void> {
    for (let quiet = 0; quiet < 2; quiet++) {
      for (const kernelId of kernelIds) if ((await this.turn(kernelId)) > 0) quiet = -1;
    }
  }
}

describe("a kernel that asks the owner", () => {
  it("is answered however much it asks at once, and however long the owner is busy", async () => {
    const world = new World(2);
    const results: number[] = [];
    const ports = 40_000;
    for (let port = 1; port <= ports; port++) {
      void world
        .control(1)
        .ports.claim({ protocol: "udp", address: "0.0.0.0", port })
        .then(({ result }) => results.push(result));
    }
    await world.settle(0, 1);
    expect(results).toHaveLength(ports);
    expect(results.every((result, index) => result === index + 1)).toBe(true);
  });

  it("gets no port whose grant and revocation come in one turn", async () => {
    const world = new World(3);
    const claims = [1, 2].map((kernelId) => world.control(kernelId).ports.claim(HTTP));
    for (const kernelId of [1, 2, 0, 1]) await world.turn(kernelId);
    expect((await claims[0])?.result).toBe(80);
    world.control(1).ports.fail(HTTP, ENOBUFS);
    for (const kernelId of [1, 0]) await world.turn(kernelId);
    // Kernel 2 has been busy all the time.
    await world.settle(2, 0, 1);
    expect((await claims[1])?.result).toBe(ENOBUFS);
    expect(world.control(0).portOwner.portCount).toBe(0);
  });
});

describe("a kernel that joins", () => {
  const v4: PortRequest = { ...HTTP, address: "0.0.0.0", terms: { backlog: 4, options: [[3, -1]] } };
  const v6: PortRequest = { ...HTTP, ipv6Only: true, terms: { backlog: 65535, options: [] } };
  const dns: PortRequest = { protocol: "udp", address: "::", port: 53 };

  async function listening(): Promise<World> {
    const world = new World(3);
    for (const request of [v4, v6, dns]) void world.control(1).ports.claim(request);
    await world.settle(0, 1, 2);
    return world;
  }

  it("is told how others listen, not only where", async () => {
    const world = await listening();
    const missing = world.control(2).missingPorts();
    await world.settle(0, 1, 2);
    expect(await missing).toMatchObject([v4, v6, dns]);
  });

  it.each([
    ["before it has heard of it", []],
    ["before its answer was read", [2, 0]],
  ])("is told by the next owner when the first dies %s", async (_when, turns) => {
    const world = await listening();
    const missing = world.control(2).missingPorts();
    for (const kernelId of turns) await world.turn(kernelId);
    world.announce(1, [1, 2]);
    await world.settle(1, 2);
    expect(await missing).toMatchObject([v4, v6, dns]);
  });
});
