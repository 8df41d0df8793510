/** Memories with message rings as kernels would lay them out at boot, and their endpoints: no kernel runs in them. */
import { Endpoint, type Message } from "../../src/control/endpoint.ts";
import { RING_BASE, RING_SIZE } from "../../src/layout/frameRing.ts";
import { MESSAGE_CONTROL_BASE, STATIC_DATA_BASE } from "../../src/layout/kernelMemory.ts";
import { MESSAGE_CONTROL_SIZE_BYTES, MESSAGE_COUNTS, MESSAGE_COUNTS_BASE } from "../../src/layout/message.ts";
import { KernelMemory } from "../../src/views/kernelMemory.ts";

export type Received = { readonly from: number; readonly correlation: number; readonly payload: number[] };

export type MessageKernelOptions = {
  readonly kernels: number;
  readonly ringBytes?: number;
  readonly shared?: boolean;
  readonly life?: number;
  /** False: its rings have no place yet; see bootRings. */
  readonly booted?: boolean;
};

export class MessageKernel {
  readonly memory: KernelMemory;
  readonly endpoint: Endpoint;
  /** Messages of type 1, version 1. */
  readonly received: Received[] = [];
  readonly errors: unknown[] = [];
  rings = 0;
  readonly #kernels: number;
  readonly #ringBytes: number;

  constructor(kernelId: number, options: MessageKernelOptions) {
    const { kernels, ringBytes = 4096, shared = false, life = 0, booted = true } = options;
    this.#kernels = kernels;
    this.#ringBytes = ringBytes;
    const pages = 1 + Math.ceil((kernels * ringBytes) / 65536);
    this.memory = new KernelMemory(new WebAssembly.Memory({ initial: pages, maximum: pages, shared }));
    if (booted) this.bootRings();
    this.endpoint = new Endpoint({
      kernelId,
      life,
      memory: this.memory,
      onWork: () => {},
      onError: (error) => this.errors.push(error),
    });
    this.endpoint.on(1, 1, (message) => this.received.push(toReceived(message)));
  }

  bootRings(): void {
    for (let sender = 0; sender < this.#kernels; sender++) {
      const control = MESSAGE_CONTROL_BASE + sender * MESSAGE_CONTROL_SIZE_BYTES;
      this.memory.words[(control + RING_SIZE) >> 2] = this.#ringBytes;
      this.memory.words[(control + RING_BASE) >> 2] = STATIC_DATA_BASE + sender * this.#ringBytes;
    }
  }

  /** MESSAGE_COUNT*. */
  count(index: number): number {
    return new Float64Array(this.memory.memory.buffer, MESSAGE_COUNTS_BASE, MESSAGE_COUNTS)[index] as number;
  }

  /** Learns of another kernel. */
  connect(other: MessageKernel): void {
    const ring = () => {
      other.rings++;
    };
    const { kernelId, life } = other.endpoint;
    this.endpoint.connect({ kernelId, life, memory: other.memory, ring });
  }
}

function toReceived({ from, correlation, payload }: Message): Received {
  return { from, correlation, payload: [...payload] };
}

export function createMessageKernels(options: MessageKernelOptions): MessageKernel[] {
  const kernels = Array.from({ length: options.kernels }, (_, id) => new MessageKernel(id, options));
  for (const kernel of kernels) for (const other of kernels) if (other !== kernel) kernel.connect(other);
  // A new endpoint looks once.
  for (const { endpoint } of kernels) endpoint.poll();
  return kernels;
}
