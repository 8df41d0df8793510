/** Ports, whoever dies: many kernels claim and release while owners come and go; all in one thread, by hand. */
import fc from "../helpers/property.ts";
import { expect, test } from "vitest";
import { Endpoint } from "../../src/control/endpoint.ts";
import { KernelControl } from "../../src/control/kernelControl.ts";
import { EADDRINUSE, ENOBUFS } from "../../src/layout/status.ts";
import type { Member, View } from "../../src/control/view.ts";
import { MessageKernel } from "../helpers/messageKernels.ts";

const KERNELS = 4;
const PORTS = [80, 81, 0] as const;

class Kernel {
  readonly control: KernelControl;
  readonly place: MessageKernel;
  readonly held = new Set<number>();
  asked = 0;
  answered = 0;
  readonly wrong: string[] = [];
  readonly #pending = new Map<number, number>();

  constructor(kernelId: number, life: number) {
    // Rings of the smallest size, so that they fill.
    this.place = new MessageKernel(kernelId, { kernels: KERNELS, ringBytes: 4096, life });
    const onError = (error: unknown) => this.wrong.push(String(error));
    const endpoint = new Endpoint({ kernelId, life, memory: this.place.memory, onWork: () => {}, onError });
    let next = 40000 + 1000 * kernelId;
    this.control = new KernelControl({ endpoint, memory: this.place.memory, drawPort: () => next++, onError });
    this.control.ports.onRevoked = ({ port }) => this.held.delete(port);
  }

  get member(): Member {
    const { kernelId, life } = this.control.endpoint;
    return { kernelId, life, memory: this.place.memory.memory };
  }

  /** @param isFull it turns out that there is no room for the socket. */
  claim(port: number, isFull: boolean): void {
    this.asked++;
    const pending = this.#pending.get(port) ?? 0;
    // What the kernel itself has, or has asked for, may be the reason; nothing else.
    const mayBeRefused = this.held.has(port) || pending > 0;
    this.#pending.set(port, pending + 1);
    void this.control.ports.claim({ protocol: "tcp", address: "0.0.0.0", port }).then(({ result }) => {
      this.answered++;
      this.#pending.set(port, (this.#pending.get(port) as number) - 1);
      if (result === EADDRINUSE) {
        if (port === 0 || !mayBeRefused) this.wrong.push(`${port} refused`);
      } else if (result === ENOBUFS) {
        // Another kernel had no room.
      } else if (this.held.has(result)) this.wrong.push(`${result} given twice`);
      else if (isFull) this.control.ports.fail({ protocol: "tcp", address: "0.0.0.0", port: result }, ENOBUFS);
      else this.held.add(result);
    });
  }

  release(port: number): void {
    if (!this.held.delete(port)) return;
    this.control.ports.release({ protocol: "tcp", address: "0.0.0.0", port });
  }
}

class World {
  readonly kernels: (Kernel | undefined)[] = [];
  readonly lives = new Array<number>(KERNELS).fill(0);
  #view: View = { term: 0, owner: 0, ownerSince: 0, members: [], former: [] };

  constructor() {
    for (let id = 0; id < KERNELS; id++) this.kernels.push(new Kernel(id, 0));
    this.announce(() => true);
  }

  get ownerId(): number {
    return this.#view.owner;
  }

  get owner(): Kernel | undefined {
    return this.kernels[this.#view.owner];
  }

  /** A new view. @param hears which kernels hear of it now; the others do with the next. */
  announce(hears: (id: number) => boolean): void {
    const members = this.kernels.flatMap((kernel) => (kernel ? [kernel.member] : []));
    const present = members.map(({ kernelId }) => kernelId);
    const { owner: last, ownerSince: since, members: before } = this.#view;
    const term = this.#view.term + 1;
    const lifeOf = (all: readonly Member[]) => all.find(({ kernelId }) => kernelId === last)?.life;
    const stays = present.includes(last) && lifeOf(before) === lifeOf(members);
    const owner = stays ? last : (present[0] ?? last);
    this.#view = { term, owner, ownerSince: stays ? since : term, members, former: [] };
    this.tell(hears);
  }

  tell(hears: (id: number) => boolean): void {
    for (const [id, kernel] of this.kernels.entries()) if (hears(id)) kernel?.control.setView(this.#view, () => {});
  }

  kill(id: number, hears: (id: number) => boolean): void {
    if (this.kernels.filter((kernel) => kernel).length < 2) return;
    this.kernels[id] = undefined;
    this.announce(hears);
  }

  revive(id: number, hears: (id: number) => boolean): void {
    if (this.kernels[id]) return;
    this.lives[id] = (this.lives[id] as number) + 1;
    this.kernels[id] = new Kernel(id, this.lives[id] as number);
    this.announce((other) => other === id || hears(other));
  }

  async poll(id: number, budget?: number): Promise<number> {
    const endpoint = this.kernels[id]?.control.endpoint;
    const handled = endpoint?.poll(budget) ?? 0;
    endpoint?.flush();
    await Promise.resolve();
    return handled;
  }

  async settle(): Promise<void> {
    this.tell(() => true);
    for (let quiet = 0; quiet < 3; ) {
      let handled = 0;
      for (let id = 0; id < KERNELS; id++) handled += await this.poll(id);
      await new Promise((resolve) => setImmediate(resolve));
      quiet = handled > 0 ? 0 : quiet + 1;
    }
  }
}

const kernelId = fc.nat(KERNELS - 1);
const action = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("claim" as const), id: kernelId, port: fc.constantFrom(...PORTS) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("claimFull" as const), id: kernelId, port: fc.constantFrom(...PORTS) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("release" as const), id: kernelId, port: fc.constantFrom(80, 81) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant("poll" as const), id: kernelId, port: fc.integer({ min: 1, max: 5 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("kill" as const), id: kernelId, port: fc.nat(15) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("revive" as const), id: kernelId, port: fc.nat(15) }) },
);

test("every claim is answered, no port is given twice to a holder, and an owner knows what all have", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 20, maxLength: 150, size: "max" }), async (actions) => {
      const world = new World();
      for (const { do: what, id, port } of actions) {
        const kernel = world.kernels[id];
        // For kill and revive, `port` is the set of kernels that hear of it at once.
        const hears = (other: number) => (port & (1 << other)) !== 0;
        if (what === "claim" || what === "claimFull") kernel?.claim(port, what === "claimFull");
        else if (what === "release") kernel?.release(port);
        else if (what === "kill") world.kill(port < 8 ? world.ownerId : id, hears);
        else if (what === "revive") world.revive(id, hears);
        else await world.poll(id, port);
      }
      await world.settle();
      const held = new Set<number>();
      for (const kernel of world.kernels) {
        if (!kernel) continue;
        expect(kernel.wrong).toEqual([]);
        expect(kernel.answered).toBe(kernel.asked);
        for (const port of kernel.held) held.add(port);
      }
      expect(world.owner?.control.portOwner.portCount).toBe(held.size);
      for (const kernel of world.kernels) for (const port of [...(kernel?.held ?? [])]) kernel?.release(port);
      await world.settle();
      expect(world.owner?.control.portOwner.portCount).toBe(0);
    }),
    { numRuns: 300 },
  );
}, 120_000);
