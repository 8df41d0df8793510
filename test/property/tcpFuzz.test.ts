/**
 * Random and damaged segments at a kernel whose connections stand in every state, mixed with random calls of the
 * application, lapses of time and stalls of the device. Nothing may trap, nothing may be lost from a pool, both builds
 * must send the same frames, and what one honest peer sends beside all that must arrive whole and in order.
 *
 * A failing seed is in the test's name: add it to FIXED with a word on what it found. TCP_FUZZ_SEEDS=n runs more.
 */
import { describe, expect, test } from "vitest";
import { Prng } from "../../src/sim/prng.ts";
import { type KernelBuild, KERNEL_BUILDS, KernelBench, openPassive, type Peer } from "../helpers/kernelBench.ts";
import { ethernet, internetChecksum, ipv4, pattern, tcp, type TcpFields } from "../helpers/packets.ts";

const SEEDS = Number(process.env.TCP_FUZZ_SEEDS ?? 40);
const FIXED: readonly number[] = [];
const STEPS = 500;

const OWN = "10.0.0.1";
const OWN_MAC = "02:00:00:00:00:01";
const PEER_MAC = "02:00:00:00:00:02";
const FLAGS = ["ack", "ack", "ack", "psh ack", "psh ack", "syn", "syn ack", "fin ack", "rst", "rst ack", "fin", ""];
const SIZES = [0, 0, 0, 1, 7, 100, 536, 1000, 1460];
const WINDOWS = [0, 0, 1, 100, 5000, 65535, 65535];

/** A remote endpoint that the fuzzer plays, and what it has seen of the kernel. */
type Remote = {
  readonly address: string;
  readonly port: number;
  kernelPort: number;
  /** closed: it has nothing. called: the kernel's SYN has come. open: the kernel has sent or answered more. */
  state: "closed" | "called" | "open";
  /** What the kernel will send next; what it expects next. */
  kernelNxt: number;
  rcvNxt: number;
  /** What the remote has acknowledged, and the window that it offers. */
  acked: number;
  window: number;
};

class Fuzzer {
  readonly bench: KernelBench;
  readonly #prng: Prng;
  readonly #remotes: Remote[] = [];
  readonly #handles: number[] = [];
  readonly #listener: number;
  readonly #honest: Peer;
  readonly #honestHandle: number;
  readonly #stream = pattern(1 << 16, 5);
  #honestAcked = 0;
  #honestRead = 0;
  /** FNV-1a over the headers of everything sent. */
  digest = 0x811c9dc5;

  constructor(build: KernelBuild, seed: number) {
    this.#prng = new Prng(seed);
    this.bench = new KernelBench({
      build,
      seed,
      timestamps: seed % 2 === 0,
      tuning: {
        connectionsMax: 24,
        streamPoolBytes: 128 * 1024,
        txRingBytes: 16 * 1024,
        rcvBufferBytesMax: 16 * 1024,
        sndBufferBytesMax: 16 * 1024,
        eventSlots: 4,
        timeWaitMs: 1000,
        retriesMax: 4,
        synRetriesMax: 2,
        rtoMaxUs: 2_000_000,
        keepaliveIdleMs: 2000,
        keepaliveIntervalMs: 1000,
        keepaliveProbesMax: 2,
      },
    });
    const { peer, handle } = openPassive(this.bench, { address: "10.0.0.9", port: 9999, kernelPort: 90, mss: 1460 });
    this.#honest = peer;
    this.#honestHandle = handle;
    this.#listener = this.bench.listen(80, 4);
    for (let i = 0; i < 6; i++) {
      const numbers = { kernelNxt: 0, rcvNxt: 0, acked: 0, window: 65535 };
      this.#remotes.push({ address: `10.0.0.${20 + i}`, port: 1000 + i, kernelPort: 80, state: "closed", ...numbers });
    }
  }

  #pick<T>(values: readonly T[]): T {
    return values[this.#prng.below(values.length)] as T;
  }

  /** A number at or near `center`, now and then one far away. */
  #near(center: number): number {
    const offset = this.#pick([0, 0, 0, 0, 0, 0, -1, 1, -10, 10, -1460, 1000, 16_384, 16_385, 65_535, 2 ** 31]);
    return (this.#prng.below(50) === 0 ? this.#prng.below(2 ** 32) : center + offset) >>> 0;
  }

  #options(): Partial<TcpFields> {
    switch (this.#prng.below(8)) {
      case 0:
        return { optionBytes: Uint8Array.from({ length: this.#prng.below(41) }, () => this.#prng.below(256)) };
      case 1:
        return { options: { mss: this.#pick([0, 1, 100, 1460, 65535]), windowScale: this.#prng.below(256) } };
      case 2:
      case 3:
        return { options: { mss: 1460, timestamps: [this.#near(Math.floor(this.bench.nowMs)), this.#near(5)] } };
      case 4:
        return { headerBytes: this.#prng.below(16) * 4 };
      default:
        return { options: {} };
    }
  }

  #segment(): void {
    const remote = this.#pick(this.#remotes);
    const fields = this.#prng.below(10) < 6 ? this.#sensible(remote) : this.#wild(remote);
    const bytes = fields.flags?.includes("syn") ? 0 : this.#pick(SIZES);
    const { address: source, port: sourcePort, kernelPort: destinationPort } = remote;
    const segment = tcp({ source, destination: OWN, sourcePort, destinationPort, ...fields }, pattern(bytes, 1));
    const packet = ipv4({ source, destination: OWN, protocol: 6 }, segment);
    const frame = ethernet({ destination: OWN_MAC, source: PEER_MAC }, packet);
    if (this.#prng.below(12) === 0) this.#damage(frame);
    // The same again is what makes duplicates.
    for (let i = this.#pick([1, 1, 1, 4]); i > 0 && this.bench.rx.room() > 4096; i--) this.bench.inject(frame);
  }

  /** What a real peer could send: handshakes that complete, data in order or one segment ahead, ACKs old and new. */
  #sensible(remote: Remote): Partial<TcpFields> {
    const options = { timestamps: [Math.floor(this.bench.nowMs), 1] as const };
    if (remote.state === "closed") {
      const seq = this.#prng.u32();
      return { flags: "syn", seq, options: { mss: this.#pick([536, 1460]), windowScale: 2, ...options } };
    }
    if (this.#prng.below(6) === 0) remote.window = this.#pick(WINDOWS);
    if (this.#prng.below(3) > 0) {
      const flight = (remote.kernelNxt - remote.acked) >>> 0;
      remote.acked = (remote.acked + Math.min(flight, this.#pick([0, 1000, 1460, 2 ** 31]))) >>> 0;
    }
    const { window, acked: ack } = remote;
    if (remote.state === "called") return { flags: "syn ack", seq: this.#prng.u32(), ack: remote.kernelNxt, window };
    const seq = (remote.rcvNxt + this.#pick([0, 0, 0, 0, 1460, 3000])) >>> 0;
    return { flags: this.#prng.below(12) === 0 ? "fin ack" : "ack", seq, ack, window, options };
  }

  #wild(remote: Remote): Partial<TcpFields> {
    return {
      flags: this.#pick(FLAGS),
      seq: this.#near(remote.rcvNxt),
      ack: this.#near(this.#pick([remote.kernelNxt, remote.acked])),
      window: this.#pick(WINDOWS),
      urgent: this.#prng.below(4) === 0 ? this.#prng.below(65536) : 0,
      ...(this.#prng.below(40) === 0 ? { destinationPort: this.#prng.below(100) } : {}),
      ...this.#options(),
    };
  }

  /** Changes, cuts or lengthens nothing but bytes; every other time the checksums are made right again. */
  #damage(frame: Uint8Array): void {
    for (let i = this.#prng.below(4); i >= 0; i--) frame[this.#prng.below(frame.length)] = this.#prng.below(256);
    if (this.#prng.below(2) === 0 || frame[14] !== 0x45) return;
    const data = new DataView(frame.buffer);
    const tcpBytes = Math.min(frame.length - 34, Math.max(data.getUint16(16) - 20, 20));
    data.setUint16(24, 0);
    data.setUint16(24, internetChecksum(frame.subarray(14, 34)));
    data.setUint16(50, 0);
    const pseudo = new Uint8Array([...frame.subarray(26, 34), 0, 6, tcpBytes >> 8, tcpBytes & 255]);
    data.setUint16(50, internetChecksum(pseudo, frame.subarray(34, 34 + tcpBytes)));
  }

  #application(): void {
    const { bench } = this;
    const { wasm } = bench;
    const index = this.#prng.below(Math.max(this.#handles.length, 1));
    const handle = this.#prng.below(30) === 0 ? this.#prng.below(2 ** 31) : (this.#handles[index] ?? -1);
    const own = handle !== this.#honestHandle;
    switch (this.#prng.below(12)) {
      case 0:
      case 1:
        this.#accept();
        return;
      case 2: {
        if (this.#handles.length > 15) return;
        const remote = this.#pick(this.#remotes);
        const opened = bench.connect(remote.port, { remote: remote.address });
        if (opened < 0) return;
        this.#handles.push(opened);
        // The remote answers as this connection's peer from now on.
        remote.kernelPort = bench.info(opened).localPort;
        remote.state = "closed";
        return;
      }
      case 3:
      case 4:
        if (own) bench.queue(handle, pattern(this.#pick([1, 10, 500, 3000, 20_000])));
        return;
      case 5:
      case 6:
        if (own) bench.read(handle, this.#pick([1, 100, 5000, 1e6]));
        return;
      case 7:
        if (own) wasm.tcpShutdownSend(handle);
        return;
      case 8:
      case 9:
        if (own && (this.#prng.below(2) === 0 ? wasm.tcpClose(handle) : wasm.tcpAbort(handle)) === 0) {
          this.#handles.splice(this.#handles.indexOf(handle), this.#handles.includes(handle) ? 1 : 0);
        }
        return;
      case 10:
        if (own) wasm.tcpSetOption(handle, this.#prng.below(7), this.#pick([0, 1, 2048, 4096, 100_000, 2 ** 32 - 1]));
        return;
      default:
        wasm.tcpGetInfo(handle, bench.area);
        if (own && wasm.tcpSendReserve(handle, this.#prng.below(5000)) > 0) {
          wasm.tcpSendCommit(handle, this.#prng.below(600));
        }
    }
  }

  /** The honest peer sends its next piece again and again until it is acknowledged. */
  #honestStep(): void {
    const { bench } = this;
    if (this.#honestAcked < this.#stream.length) {
      const payload = this.#stream.subarray(this.#honestAcked, this.#honestAcked + 700);
      this.#honest.post({ flags: "ack", seq: 1 + this.#honestAcked, ack: 1, payload });
    }
    bench.turn();
    const bytes = bench.read(this.#honestHandle);
    const expected = this.#stream.subarray(this.#honestRead, this.#honestRead + bytes.length);
    expect(Buffer.compare(bytes, expected), "the honest peer's bytes").toBe(0);
    this.#honestRead += bytes.length;
  }

  #observe(): void {
    for (const segment of this.bench.sent()) {
      const { destinationPort, sourcePort, seq, ack, flags, window, payload } = segment;
      for (const word of [destinationPort, sourcePort, seq, ack, flags.length, window, payload.length]) {
        this.digest = Math.imul(this.digest ^ word, 0x01000193);
      }
      if (destinationPort === this.#honest.port) {
        expect(flags, "nobody may reset the honest peer").not.toContain("rst");
        this.#honestAcked = Math.max(this.#honestAcked, (ack - this.#honest.iss - 1) | 0);
        continue;
      }
      const remote = this.#remotes.find(({ port }) => port === destinationPort);
      if (!remote || remote.kernelPort !== sourcePort) continue;
      if (flags.includes("rst")) {
        if (this.#prng.below(2) === 0) this.#forget(remote);
        continue;
      }
      const length = payload.length + (flags.includes("syn") ? 1 : 0) + (flags.includes("fin") ? 1 : 0);
      const next = (seq + length) >>> 0;
      if (flags.includes("syn")) remote.acked = next;
      if (flags.includes("syn") || ((next - remote.kernelNxt) | 0) > 0) remote.kernelNxt = next;
      if (flags.includes("ack")) remote.rcvNxt = ack;
      remote.state = flags === "syn" ? "called" : "open";
    }
  }

  /** This remote has lost its connection: it turns to the listener again. */
  #forget(remote: Remote): void {
    remote.kernelPort = 80;
    remote.state = "closed";
  }

  step(): void {
    const { bench } = this;
    const what = this.#prng.below(100);
    if (what < 62) for (let i = this.#prng.below(5); i >= 0; i--) this.#segment();
    else if (what < 85) this.#application();
    else if (what < 88) bench.takesFrames = !bench.takesFrames;
    else if (what < 97) bench.advance(this.#pick([0.07, 1, 45, 250, 2500]));
    else if (what < 99) this.#honestStep();
    else this.#forget(this.#pick(this.#remotes));
    bench.turn(this.#pick([1, 3, 100]));
    this.#observe();
    for (const { handle, mask } of bench.events()) {
      if (mask === "acceptable" && this.#prng.below(4) > 0) this.#accept();
      else if (mask.includes("closed") && handle !== this.#honestHandle) this.#letGo(handle);
    }
  }

  #accept(): void {
    const accepted = this.bench.wasm.tcpAccept(this.#listener);
    if (accepted >= 0) this.#handles.push(accepted);
  }

  #letGo(handle: number): void {
    this.bench.wasm.tcpClose(handle);
    const index = this.#handles.indexOf(handle);
    if (index >= 0) this.#handles.splice(index, 1);
  }

  /** Ends everything in an orderly way and lets the time pass that it may take. */
  finish(): void {
    const { bench } = this;
    bench.takesFrames = true;
    bench.advance(100);
    for (let i = 0; i < 200 && this.#honestAcked < this.#stream.length; i++) {
      this.#honestStep();
      bench.advance(45);
      this.#observe();
    }
    for (let i = 0; i < 50 && this.#honestRead < this.#honestAcked; i++) this.#honestStep();
    expect(this.#honestRead).toBe(this.#stream.length);
    this.#honest.send({ flags: "fin ack", seq: 1 + this.#stream.length, ack: 1 });
    bench.wasm.tcpClose(this.#honestHandle);
    bench.turn();
    this.#honest.send({ flags: "ack", seq: 2 + this.#stream.length, ack: 2 });
    for (let round = 0; round < 40; round++) {
      for (;;) {
        const accepted = bench.wasm.tcpAccept(this.#listener);
        if (accepted < 0) break;
        this.#handles.push(accepted);
      }
      for (const handle of this.#handles.splice(0)) bench.wasm.tcpClose(handle);
      bench.advance(1000);
      this.#observe();
      for (const { handle, mask } of bench.events()) if (mask.includes("closed")) bench.wasm.tcpClose(handle);
    }
    expect(bench.wasm.tcpListenClose(this.#listener)).toBe(0);
    bench.advance(60_000);
    expect(bench.counters()).toMatchObject({
      gaugeConnections: 0,
      gaugeFlows: 0,
      gaugeStreamBytes: 0,
      gaugeTimeWait: 0,
      gaugeAcceptQueue: 0,
    });
    expect(bench.wasm.nextDeadlineNs(), "no timer is left").toBeGreaterThan(bench.nowNs + 1e9);
  }
}

function run(build: KernelBuild, seed: number): number {
  const fuzzer = new Fuzzer(build, seed);
  for (let i = 0; i < STEPS; i++) fuzzer.step();
  fuzzer.finish();
  return fuzzer.digest;
}

describe("TCP under random segments, calls and lapses of time", () => {
  const seeds = [...FIXED, ...Array.from({ length: SEEDS }, (_, i) => i + 1)];
  test.each(seeds)("seed %i", (seed) => {
    const [debug, release] = KERNEL_BUILDS.map((build) => run(build, seed));
    expect(release, "both builds send the same").toBe(debug);
  });
});
