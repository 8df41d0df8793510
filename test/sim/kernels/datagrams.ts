/** UDP beside the connections: each datagram is answered with itself; what arrives must have been sent. */
import { NetPopcornError } from "../../../src/errors.ts";
import type { Datagram, UdpSocket } from "../../../src/socket/udp.ts";
import { PATTERN_BYTES } from "../endpoint.ts";
import { UDP_PORT } from "./plan.ts";
import { ADDRESSES, CLIENT, SERVER, type Side, type Stage } from "./stage.ts";

/** What a send or a receive may say when kernels are gone or a socket is closed at the other side. */
const EXPECTED = new Set(["EBADF", "ECONNREFUSED", "ENOBUFS", "EHOSTUNREACH"]);

export class Datagrams {
  readonly #stage: Stage;
  readonly #pattern: Uint8Array;
  readonly #mayRepeat: boolean;
  readonly #sockets: UdpSocket[] = [];
  /** Bytes of each datagram, by index. */
  readonly #sent = new Map<number, number>();
  readonly #arrived = [new Map<number, number>(), new Map<number, number>()];
  #failure: Error | undefined;

  /** @param mayRepeat the network duplicates frames. */
  constructor(stage: Stage, pattern: Uint8Array, mayRepeat: boolean) {
    this.#stage = stage;
    this.#pattern = pattern;
    this.#mayRepeat = mayRepeat;
  }

  async open(): Promise<void> {
    for (const side of [CLIENT, SERVER]) {
      const socket = await (this.#stage.sides[side] as Side).sockets.bindUdp(side === SERVER ? UDP_PORT : 0);
      this.#sockets[side] = socket;
      void this.#receive(side, socket);
    }
  }

  send(index: number, bytes: number): void {
    const data = new Uint8Array(bytes);
    new DataView(data.buffer).setUint32(0, index);
    for (let at = 4; at < bytes; at++) data[at] = this.#byteAt(index, at);
    this.#sent.set(index, bytes);
    this.#transmit(CLIENT, data, { address: ADDRESSES[SERVER], port: UDP_PORT });
  }

  check(): void {
    if (this.#failure) throw this.#failure;
  }

  async close(): Promise<void> {
    await Promise.all(this.#sockets.map((socket) => socket.close()));
    this.#stage.awaitPromises();
  }

  #transmit(side: number, data: Uint8Array, to: { address: string; port: number }): void {
    try {
      (this.#sockets[side] as UdpSocket).send(data, to);
    } catch (error) {
      if (!(error instanceof NetPopcornError && EXPECTED.has(error.code))) throw error;
    }
    this.#stage.awaitPromises();
  }

  async #receive(side: number, socket: UdpSocket): Promise<void> {
    for (;;) {
      try {
        const datagram = await socket.receive();
        if (!datagram) return;
        this.#compare(side, datagram);
        if (side === SERVER) this.#transmit(SERVER, datagram.data, datagram);
      } catch (error) {
        if (error instanceof NetPopcornError && EXPECTED.has(error.code)) continue;
        this.#failure ??= error as Error;
        return;
      }
    }
  }

  #compare(side: number, { data }: Datagram): void {
    const index = new DataView(data.buffer, data.byteOffset).getUint32(0);
    if (this.#sent.get(index) !== data.length)
      throw new Error(`datagram ${index} of ${data.length} bytes was not sent`);
    for (let at = 4; at < data.length; at++) {
      if (data[at] !== this.#byteAt(index, at)) throw new Error(`datagram ${index} differs in byte ${at}`);
    }
    const arrived = this.#arrived[side] as Map<number, number>;
    const times = (arrived.get(index) ?? 0) + 1;
    arrived.set(index, times);
    if (times > 1 && !this.#mayRepeat) throw new Error(`datagram ${index} has arrived ${times} times`);
  }

  #byteAt(index: number, at: number): number {
    return this.#pattern[(index * 131 + at) % PATTERN_BYTES] as number;
  }
}
