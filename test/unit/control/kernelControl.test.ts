/** What kernels and the owner of the ports tell each other, by hand: no kernel runs. */
import { describe, expect, it } from "vitest";
import { Endpoint } from "../../../src/control/endpoint.ts";
import { KernelControl } from "../../../src/control/kernelControl.ts";
import type { PortRequest } from "../../../src/control/ports.ts";
import type { View } from "../../../src/control/view.ts";
import { EADDRINUSE, ENOBUFS } from "../../../src/layout/status.ts";
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

  nowNs = 0;

  control(kernelId: number): KernelControl {
    return this.controls[kernelId] as KernelControl;
  }

  /** One turn of a kernel. @returns messages handled. */
  async turn(kernelId: number): Promise<number> {
    const { endpoint, portOwner } = this.control(kernelId);
    const handled = endpoint.poll();
    portOwner.turn(this.nowNs);
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
  it("is answered when it asks for more at once than questions have numbers", async () => {
    const world = new World(2);
    const { ports } = world.control(1);
    let granted = 0;
    const claim = async (protocol: "tcp" | "udp", port: number) => {
      const { result } = await ports.claim({ protocol, address: "0.0.0.0", port });
      if (result === port) granted++;
    };
    for (let port = 1; port <= 65535; port++) void claim("udp", port);
    for (let port = 1; port <= 3000; port++) void claim("tcp", port);
    await world.settle(0, 1);
    expect(granted).toBe(68_535);
  });

  it("asks the next owner, too, for what waited for a number", async () => {
    const world = new World(3);
    const { ports } = world.control(2);
    let answered = 0;
    for (let port = 1; port <= 65535; port++) {
      void ports.claim({ protocol: "udp", address: "0.0.0.0", port }).then(() => answered++);
    }
    const last = ports.claim({ protocol: "tcp", address: "0.0.0.0", port: 80 });
    await world.turn(2);
    world.announce(1, [1, 2]);
    await world.settle(1, 2);
    expect(answered).toBe(65535);
    expect(await last).toEqual({ result: 80 });
  });

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

describe("an application that changes wildcards", () => {
  const ipv4 = { ...HTTP, address: "0.0.0.0" } as const;

  /** All listen on "::", and kernel 1 is the first to change. */
  async function changing() {
    const world = new World(3);
    const ports = world.controls.map((control) => control.ports);
    for (const proxy of ports) void proxy.claim(HTTP);
    await world.settle(0, 1, 2);
    const results: (number | undefined)[] = [];
    const change = (kernelId: number) => {
      ports[kernelId]?.release(HTTP);
      void ports[kernelId]?.claim(ipv4).then(({ result }) => {
        results[kernelId] = result;
      });
    };
    change(1);
    await world.settle(0, 1, 2);
    expect(results).toEqual([]);
    return { world, ports, results, change };
  }

  it("listens on the other in all kernels, whoever is first", async () => {
    const { world, results, change } = await changing();
    change(2);
    await world.settle(0, 1, 2);
    change(0);
    await world.settle(0, 1, 2);
    expect(results).toEqual([80, 80, 80]);
  });

  it("waits for no kernel that is gone, and asks the next owner", async () => {
    const { world, results, change } = await changing();
    change(2);
    await world.settle(0, 1, 2);
    world.announce(1, [1, 2]);
    await world.settle(1, 2);
    expect(results.slice(1)).toEqual([80, 80]);
  });

  it("is refused after half a second where others stay with theirs", async () => {
    const { world, results } = await changing();
    expect(world.control(0).portOwner.nextTurnNs).toBe(500e6);
    world.nowNs = 500e6 - 1;
    await world.settle(0, 1, 2);
    expect(results).toEqual([]);
    world.nowNs++;
    await world.settle(0, 1, 2);
    expect(results).toEqual([undefined, EADDRINUSE]);
    expect(world.control(0).portOwner.nextTurnNs).toBe(Number.POSITIVE_INFINITY);
  });

  it("is refused at once where it has both itself", async () => {
    const { world, ports, results } = await changing();
    const own = ports[2]?.claim(ipv4);
    await world.settle(0, 1, 2);
    expect((await own)?.result).toBe(EADDRINUSE);
    expect(results).toEqual([]);
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

  it("is told so also when another has it at the handle level", async () => {
    const world = await listening();
    world.control(0).ports.hold({ ...HTTP, address: "0.0.0.0" });
    await world.settle(0, 1, 2);
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
