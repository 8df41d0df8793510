/** An attacker on the segment: spoofed SYNs at a constant rate in virtual time, each from another address and port. */
import type { Card } from "../../src/device/card/card.ts";
import type { DevicePort } from "../../src/device/device.ts";
import { Prng } from "../../src/sim/prng.ts";
import { CardKernel } from "../helpers/cardKernel.ts";
import { ethernet, ipv4, macText, tcp } from "../helpers/packets.ts";
import type { WorldKernel } from "../sim/world.ts";

const ETH_BYTES = 14;
const IP_BYTES = 20;
const STEP_NS = 1e6;

export type FloodOptions = {
  readonly synsPerSecond: number;
  readonly target: string;
  readonly targetMac: Uint8Array;
  readonly port: number;
  /** First two octets of the spoofed sources. */
  readonly prefix: string;
  readonly fromNs: number;
  readonly untilNs: number;
  /** MSS, SACK permitted, timestamps and window scale, as a Linux client's. */
  readonly options: boolean;
  readonly seed: number;
};

export class Flooder implements WorldKernel {
  readonly name = "flooder";
  sent = 0;
  /** Frames that came back: SYN-ACKs for sources beyond our own segment. */
  answers = 0;
  readonly host: WorldKernel["host"];
  readonly #options: FloodOptions;
  readonly #port: DevicePort;
  readonly #kernel: CardKernel;
  readonly #prng: Prng;
  /** A SYN with valid checksums, whose source and numbers are changed for each one sent. */
  readonly #frame: Uint8Array<ArrayBuffer>;
  #dueNs: number;

  constructor(card: Card, options: FloodOptions) {
    this.#options = options;
    this.#kernel = new CardKernel(0, { rxLanes: card.rxLanes, ringBytes: 1 << 19 });
    this.#port = card.openPort(0, this.#kernel.pair);
    this.#prng = new Prng(options.seed, 77);
    this.#dueNs = options.fromNs;
    this.#frame = synFrame(options, macText(card.mac));
    this.host = {
      turn: (nowNs) => {
        this.#port.receive(nowNs);
        const answers = this.#kernel.frames().length;
        this.answers += answers;
        return this.#port.transmit(nowNs) > 0 || answers > 0;
      },
      nextDeadlineNs: () => this.#port.nextDeadlineNs(),
    };
  }

  nextWakeNs(): number {
    return this.#dueNs;
  }

  wake(nowNs: number): void {
    const { synsPerSecond, fromNs, untilNs } = this.#options;
    const goal = Math.floor(((Math.min(nowNs, untilNs) - fromNs) * synsPerSecond) / 1e9);
    for (; this.sent < goal; this.sent++) {
      if (!this.#kernel.pair.tx.push(this.#next())) throw new Error("the attacker's own ring is full");
    }
    this.#dueNs = nowNs >= untilNs ? Number.POSITIVE_INFINITY : nowNs + STEP_NS;
  }

  #next(): Uint8Array {
    const frame = this.#frame;
    const view = new DataView(frame.buffer);
    const low = 1 + this.#prng.below(65_533);
    const port = 1 + this.#prng.below(65_534);
    const seq = this.#prng.below(2 ** 32);
    replace16(view, ETH_BYTES + 14, low, [ETH_BYTES + 10, ETH_BYTES + IP_BYTES + 16]);
    replace16(view, ETH_BYTES + IP_BYTES, port, [ETH_BYTES + IP_BYTES + 16]);
    replace16(view, ETH_BYTES + IP_BYTES + 4, seq >>> 16, [ETH_BYTES + IP_BYTES + 16]);
    replace16(view, ETH_BYTES + IP_BYTES + 6, seq & 0xffff, [ETH_BYTES + IP_BYTES + 16]);
    return frame;
  }
}

/** Writes a word and keeps the checksums at `sums` right (RFC 1624). */
function replace16(view: DataView, at: number, value: number, sums: readonly number[]): void {
  const before = view.getUint16(at);
  view.setUint16(at, value);
  for (const sumAt of sums) {
    let sum = (~view.getUint16(sumAt) & 0xffff) + (~before & 0xffff) + value;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    view.setUint16(sumAt, ~sum & 0xffff);
  }
}

function synFrame(options: FloodOptions, source: string): Uint8Array<ArrayBuffer> {
  const spoofed = `${options.prefix}.0.1`;
  const segment = tcp({
    source: spoofed,
    destination: options.target,
    sourcePort: 1,
    destinationPort: options.port,
    seq: 0,
    flags: "syn",
    window: 64_240,
    ...(options.options ? { options: { mss: 1460, sackPermitted: true, timestamps: [1, 0], windowScale: 7 } } : {}),
  });
  const packet = ipv4({ source: spoofed, destination: options.target, protocol: 6, ttl: 55 }, segment);
  return ethernet({ destination: macText(options.targetMac), source }, packet);
}
