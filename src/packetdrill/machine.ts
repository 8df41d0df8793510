/**
 * One real kernel in virtual time, with a gateway at the other end of its wire. Nothing sleeps: time passes from one of
 * the kernel's deadlines to the next.
 */
import { type KernelConfig, writeConfig } from "../kernel/config.ts";
import * as EVENT from "../layout/event.ts";
import { MAP_BASE, MAP_EVENTS, MAP_TCB_HIGH_WATER, MAP_TCBS } from "../layout/kernelMemory.ts";
import { TCB_SIZE_BYTES, TCB_STATE } from "../layout/tcb.ts";
import type { FrameRing } from "../views/frameRing.ts";
import { KernelMemory } from "../views/kernelMemory.ts";
import type { KernelExports } from "../wasm/exports.ts";
import { createMemory, instantiateKernel } from "../wasm/load.ts";
import { concatBytes } from "./bytes.ts";
import { decodeIp, decodeTransport, type IpPacket, type Sent } from "./decode.ts";
import {
  answerArp,
  answerSolicitation,
  ETHERNET_BYTES,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  frameToKernel,
  isListenerReport,
  isNeighborDiscovery,
} from "./neighbor.ts";

/** Virtual time at boot: late enough that nothing reaches back before 0. */
const START_NS = 1_000_000_000_000;
const BUDGET_FRAMES = 4096;
/** A kernel that finds more to do than this at one instant will never stop. */
const TURNS_PER_INSTANT_MAX = 10_000;
/** Turns between two events of a script: a timer that fires without end must not hang the test. */
const TURNS_PER_WAIT_MAX = 2_000_000;
const APPLICATION_AREA_BYTES = 65536;

/** An event record (layout/event.ts); `count`: readable bytes, of a listener the connections to accept. */
export type MachineEvent = {
  readonly handle: number;
  readonly mask: number;
  readonly status: number;
  readonly count: number;
};

export class Machine {
  readonly exports: KernelExports;
  readonly memory: KernelMemory;
  /** Application memory for arguments and payload, APPLICATION_AREA_BYTES. */
  readonly area: number;
  /** What the kernel has sent and nobody has looked at yet. */
  readonly sent: Sent[] = [];
  #nowNs = START_NS;
  readonly #rx: FrameRing;
  readonly #tx: FrameRing;
  readonly #onEvent: (event: MachineEvent) => void;
  readonly #fragments = new Map<string, IpPacket[]>();

  constructor(module: WebAssembly.Module, config: KernelConfig, onEvent: (event: MachineEvent) => void) {
    this.memory = new KernelMemory(createMemory(config.tuning.memoryBytes, false));
    writeConfig(this.memory, config);
    this.exports = instantiateKernel(module, this.memory.memory);
    const status = this.exports.boot();
    if (status !== 0) throw new Error(`the kernel does not boot: ${status}`);
    this.#rx = this.memory.rxRing(0);
    this.#tx = this.memory.txRing();
    this.#onEvent = onEvent;
    this.area = this.exports.allocAppBytes(APPLICATION_AREA_BYTES);
    this.settle();
  }

  /** What is no size may change while the kernel runs. */
  retune(config: KernelConfig): void {
    writeConfig(this.memory, config);
    this.exports.tuningReload();
  }

  /** Since boot. */
  get nowUs(): number {
    return (this.#nowNs - START_NS) / 1000;
  }

  static usOf(packet: Sent): number {
    return (packet.timeNs - START_NS) / 1000;
  }

  /** @param packets from the IP header on; they come together. */
  inject(...packets: readonly Uint8Array[]): void {
    for (const packet of packets) {
      const etherType = (packet[0] as number) >> 4 === 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
      if (!this.#rx.push(frameToKernel(etherType, packet))) throw new Error("the RX ring is full");
    }
    this.settle();
  }

  /** Turns until nothing is left to do at this instant. */
  settle(): void {
    for (let turns = 0; turns < TURNS_PER_INSTANT_MAX; turns++) {
      this.#turn();
      if (this.exports.hasWork() === 0 && this.exports.nextDeadlineNs() > this.#nowNs) return;
    }
    throw new Error("the kernel finds no rest");
  }

  /**
   * Lets time pass up to `untilUs`, or until `isEnough` after some turn.
   * @returns true when it was `isEnough`.
   */
  advance(untilUs: number, isEnough: () => boolean = () => false): boolean {
    const endNs = START_NS + Math.round(untilUs * 1000);
    for (let turns = 0; turns < TURNS_PER_WAIT_MAX; turns++) {
      if (isEnough()) return true;
      const next = this.exports.nextDeadlineNs();
      if (next > endNs || this.#nowNs >= endNs) {
        if (endNs !== Number.POSITIVE_INFINITY) this.#nowNs = Math.max(this.#nowNs, endNs);
        this.settle();
        return isEnough();
      }
      this.#nowNs = Math.max(this.#nowNs, next);
      this.settle();
    }
    throw new Error("the kernel's timers fire without end");
  }

  #turn(): void {
    const count = this.exports.poll(this.#nowNs, BUDGET_FRAMES);
    const view = new DataView(this.memory.memory.buffer);
    const base = this.memory.loadU32(MAP_BASE + MAP_EVENTS);
    for (let at = base; at < base + count * EVENT.EVENT_SIZE_BYTES; at += EVENT.EVENT_SIZE_BYTES) {
      this.#onEvent({
        handle: view.getInt32(at + EVENT.EVENT_HANDLE, true),
        mask: view.getUint16(at + EVENT.EVENT_MASK, true),
        status: view.getInt16(at + EVENT.EVENT_STATUS, true),
        count: view.getUint32(at + EVENT.EVENT_READABLE_BYTES, true),
      });
    }
    this.exports.flush();
    for (let frame = this.#tx.shift(); frame; frame = this.#tx.shift()) this.#take(frame);
  }

  #take(frame: Uint8Array): void {
    const etherType = ((frame[12] as number) << 8) | (frame[13] as number);
    const packet = frame.subarray(ETHERNET_BYTES);
    if (etherType === ETHERTYPE_ARP) this.#reply(answerArp(packet));
    else if (etherType === ETHERTYPE_IPV6 && isNeighborDiscovery(packet)) this.#reply(answerSolicitation(packet));
    else if (etherType === ETHERTYPE_IPV6 && isListenerReport(packet)) return;
    else this.#takeIp(decodeIp(packet));
  }

  #reply(frame: Uint8Array | undefined): void {
    if (frame) this.#rx.push(frame);
  }

  /** Scripts speak of whole packets. */
  #takeIp(ip: IpPacket): void {
    const whole = ip.fragment ? this.#reassemble(ip) : ip;
    const sent = whole && decodeTransport(whole, this.#nowNs);
    if (sent) this.sent.push(sent);
  }

  /** The kernel sends fragments in order and without overlap; anything else shows as a packet that never comes. */
  #reassemble(ip: IpPacket): IpPacket | undefined {
    const key = `${ip.destination} ${ip.protocol} ${ip.fragment?.id}`;
    const parts = this.#fragments.get(key) ?? [];
    const offset = parts.reduce((sum, part) => sum + part.payload.length, 0);
    if (ip.fragment?.offset !== offset) return undefined;
    parts.push({ ...ip, payload: ip.payload.slice() });
    this.#fragments.set(key, parts);
    if (ip.fragment.more) return undefined;
    this.#fragments.delete(key);
    return { ...ip, payload: concatBytes(...parts.map((part) => part.payload)), fragment: undefined };
  }

  /** How many connections the kernel has in this state (STATE_*, layout/option.ts), also those that nobody owns. */
  countConnections(state: number): number {
    const base = this.memory.loadU32(MAP_BASE + MAP_TCBS);
    const end = base + this.memory.loadU32(MAP_BASE + MAP_TCB_HIGH_WATER) * TCB_SIZE_BYTES;
    let found = 0;
    for (let at = base; at < end; at += TCB_SIZE_BYTES) if (this.memory.bytes[at + TCB_STATE] === state) found++;
    return found;
  }
}
