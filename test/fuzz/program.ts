/**
 * A fuzz program: bytes read as instructions, each a frame of some remote, a call of the application, or a lapse of
 * time. Any bytes are a program, so that mutation needs to know nothing; a program's outcome depends on nothing else.
 */
import * as EVENT from "../../src/layout/event.ts";
import { MAP_BASE, MAP_EVENTS, SCRATCH_BASE } from "../../src/layout/kernelMemory.ts";
import { FrameWriter } from "./frames.ts";
import { type FuzzKernel, OWN_V6 } from "./fuzzKernel.ts";
import { CALLED, CLOSED, HOST_FIRST, LISTEN_PORT, PORT_FIRST, REMOTES, REMOTES_V6, Remotes } from "./remotes.ts";

/** Longer than a connection whose peer is silent can take: 127 SYN-ACKs (TCP_SYNCNT), two minutes each. */
const PATIENCE_MS = 5 * 3_600_000;

const FIN = 1;
const SYN = 2;
const RST = 4;
const PSH = 8;
const ACK = 16;
const URG = 32;

const FLAGS = [SYN, SYN | ACK, ACK, ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, 0, FIN, 255, SYN | FIN, URG | ACK];
const SIZES = [0, 0, 1, 8, 100, 536, 1400, 1460];
const WINDOWS = [0, 1, 100, 1460, 4096, 8192, 65535];
const OFFSETS = [0, 0, 0, 1, -1, 10, -10, 1000, -1460, 1460, 2920, 16_384, 16_385, 65_535, -65_535, 2 ** 31];
const LAPSES_MS = [0.07, 1, 10, 45, 200, 250, 1000, 2500, 6000, 20_000, 65_000];
const SENDS = [1, 10, 500, 1460, 3000, 20_000];
const READS = [1, 100, 5000, 65_536];
const OPTION_VALUES = [0, 1, 2, 100, 536, 2048, 4096, 100_000, 2 ** 31, 2 ** 32 - 1];
const HANDLES = 16;
const TURNS_MAX = 10_000;

/** Options of a segment, chosen by one byte. */
const OPTIONS_NONE = 0;
const OPTIONS_TIMESTAMPS = 1;
const OPTIONS_SYN = 2;
const OPTIONS_SACK = 3;
const OPTIONS_RANDOM = 4;
const OPTION_KINDS = 8;

/** What a program does wrong, or rather the kernel with it. */
class Fault extends Error {}

export class Interpreter {
  readonly kernel: FuzzKernel;
  readonly remotes = new Remotes();
  readonly writer: FrameWriter;
  readonly #handles = new Int32Array(HANDLES);
  #handleCount = 0;
  #listener = -1;
  #udp = -1;
  #nowNs = 0;
  #takesFrames = true;
  #program: Uint8Array = new Uint8Array(0);
  #at = 0;
  #identification = 0;

  constructor(kernel: FuzzKernel) {
    this.kernel = kernel;
    this.writer = new FrameWriter(kernel);
  }

  #next(): number {
    return this.#program[this.#at++] ?? 0;
  }

  #pick(values: readonly number[]): number {
    return values[this.#next() % values.length] as number;
  }

  /** @throws Fault, or whatever the kernel throws when it traps. */
  run(program: Uint8Array, poison = 0): void {
    this.kernel.restore();
    this.remotes.reset();
    this.writer.poison = poison;
    this.remotes.digesting = poison !== 0;
    this.#handleCount = 0;
    this.#takesFrames = true;
    this.#nowNs = 10_000e6;
    this.#identification = 0;
    this.#program = program;
    this.#at = 0;
    this.#turn(64);
    this.#udp = this.kernel.wasm.udpBind(-1, 53);
    this.#listener = this.kernel.wasm.tcpListen(-1, LISTEN_PORT, 4);
    while (this.#at < program.length) {
      const code = this.#next();
      this.#step(code & 63);
      // Frames gather in the ring, so that they come in batches; three codes of four end one.
      if (code >= 64) this.#turn(64);
    }
    this.#turn(64);
    if (this.remotes.fault !== "") throw new Fault(this.remotes.fault);
  }

  #step(code: number): void {
    if (code < 26) this.#sensibleSegment();
    else if (code < 34) this.#wildSegment();
    else if (code < 44) this.#otherFrame(code);
    else if (code < 58) this.#application(code);
    else if (code < 62) this.#advance(this.#pick(LAPSES_MS));
    else if (code === 62) this.#takesFrames = !this.#takesFrames;
    else this.#turn(1 + (this.#next() & 3));
  }

  // Time.

  #turn(budgetFrames: number): void {
    const { wasm } = this.kernel;
    const events = wasm.poll(this.#nowNs, budgetFrames);
    if (events > 0) this.#takeEvents(events);
    wasm.flush();
    if (this.#takesFrames) this.remotes.collect(this.kernel);
  }

  #takeEvents(events: number): void {
    const { memory } = this.kernel;
    const base = memory.loadU32(MAP_BASE + MAP_EVENTS);
    for (let i = 0; i < events; i++) {
      const at = base + i * EVENT.EVENT_SIZE_BYTES;
      const handle = memory.loadU32(at + EVENT.EVENT_HANDLE);
      const mask = memory.loadU32(at + EVENT.EVENT_MASK) & 0xffff;
      if (this.remotes.digesting) this.remotes.digest = Math.imul(this.remotes.digest ^ handle ^ mask, 0x01000193);
      if (mask & EVENT.EVENT_CLOSED) this.#letGo(handle);
    }
  }

  #letGo(handle: number): void {
    this.kernel.wasm.tcpClose(handle);
    for (let i = 0; i < this.#handleCount; i++) {
      if (this.#handles[i] === handle) this.#handles[i] = this.#handles[--this.#handleCount] as number;
    }
  }

  #advance(ms: number): void {
    const end = this.#nowNs + Math.round(ms * 1e6);
    for (let turns = 0; turns < TURNS_MAX; turns++) {
      const next = this.kernel.wasm.nextDeadlineNs();
      if (next >= end) {
        this.#nowNs = end;
        this.#turn(64);
        return;
      }
      this.#nowNs = Math.max(next, this.#nowNs);
      this.#turn(64);
    }
    throw new Fault(`${TURNS_MAX} deadlines within ${ms} ms`);
  }

  // Frames.

  /** What a real peer could send: handshakes that complete, data in order or a little ahead, ACKs old and new. */
  #sensibleSegment(): void {
    const { remotes } = this;
    const index = this.#next() % REMOTES;
    const how = this.#next();
    let seq = remotes.rcvNxt[index] as number;
    let flags = ACK;
    let options = remotes.tsVal[index] === 0 ? OPTIONS_NONE : OPTIONS_TIMESTAMPS;
    let payloadBytes = 0;
    if (remotes.state[index] === CLOSED || remotes.state[index] === CALLED) {
      flags = remotes.state[index] === CLOSED ? SYN : SYN | ACK;
      seq = Math.imul(how + 1, 0x9e3779b1) >>> 0;
      options = OPTIONS_SYN;
      if (flags === SYN) remotes.rcvNxt[index] = seq;
    } else {
      if (how & 1) remotes.acked[index] = remotes.kernelNxt[index] as number;
      else if (how & 2) {
        const flight = ((remotes.kernelNxt[index] as number) - (remotes.acked[index] as number)) >>> 0;
        remotes.acked[index] = (remotes.acked[index] as number) + Math.min(flight, 1000);
      }
      if (how & 4) remotes.window[index] = this.#pick(WINDOWS);
      if (how & 8) payloadBytes = this.#pick(SIZES);
      // One or two segments are missing.
      if ((how & 48) === 48) seq = (seq + 1460 * (1 + (how & 1))) >>> 0;
      if ((how & 240) === 224) options = OPTIONS_SACK;
      if (how === 255) flags |= FIN;
    }
    this.#segment(index, flags, seq, remotes.acked[index] as number, payloadBytes, options);
  }

  #wildSegment(): void {
    const { remotes } = this;
    const index = this.#next() % REMOTES;
    const flags = this.#pick(FLAGS);
    const seq = ((remotes.rcvNxt[index] as number) + this.#pick(OFFSETS)) >>> 0;
    const base = this.#next() & 1 ? remotes.kernelNxt : remotes.acked;
    const ack = ((base[index] as number) + this.#pick(OFFSETS)) >>> 0;
    remotes.window[index] = this.#pick(WINDOWS);
    this.#segment(index, flags, seq, ack, this.#pick(SIZES), this.#next() % OPTION_KINDS);
  }

  /** Writes options at offset `at`. @returns bytes of options, a multiple of 4, at most 40. */
  #options(index: number, kind: number, at: number): number {
    const { writer, remotes } = this;
    if (kind === OPTIONS_TIMESTAMPS || kind === OPTIONS_SACK) {
      writer.set32(at, 0x0101080a);
      writer.set32(at + 4, Math.floor(this.#nowNs / 1e6));
      writer.set32(at + 8, remotes.tsVal[index] as number);
      if (kind === OPTIONS_TIMESTAMPS) return 12;
      const blocks = 1 + (this.#next() & 1) + (this.#next() & 1);
      writer.set32(at + 12, 0x01010500 | (2 + 8 * blocks));
      for (let i = 0; i < blocks; i++) {
        const left = ((remotes.acked[index] as number) + this.#next() * 146) >>> 0;
        writer.set32(at + 16 + 8 * i, left);
        writer.set32(at + 20 + 8 * i, (left + this.#next() * 73) >>> 0);
      }
      return 16 + 8 * blocks;
    }
    if (kind === OPTIONS_SYN) {
      writer.set32(at, 0x02040000 | (this.#next() & 1 ? 1460 : 100 + this.#next()));
      writer.set32(at + 4, 0x0402080a);
      writer.set32(at + 8, Math.floor(this.#nowNs / 1e6));
      writer.set32(at + 12, remotes.tsVal[index] as number);
      writer.set32(at + 16, 0x01030300 | (this.#next() & 15));
      return 20;
    }
    if (kind >= OPTIONS_RANDOM) {
      const words = this.#next() % 11;
      for (let i = 0; i < words * 4; i++) writer.bytes[writer.at + at + i] = this.#next();
      return words * 4;
    }
    return 0;
  }

  #segment(index: number, flags: number, seq: number, ack: number, payloadBytes: number, options: number): void {
    const { writer, remotes } = this;
    if (!writer.begin()) return;
    const v6 = index >= REMOTES_V6;
    const at = v6 ? 54 : 34;
    const optionBytes = this.#options(index, options, at + 20);
    const segmentBytes = 20 + optionBytes + payloadBytes;
    if (v6) writer.ipv6(HOST_FIRST + index, 6, segmentBytes);
    else writer.ipv4(HOST_FIRST + index, 6, segmentBytes);
    writer.set16(at, PORT_FIRST + index);
    writer.set16(at + 2, remotes.kernelPort[index] as number);
    writer.set32(at + 4, seq);
    writer.set32(at + 8, ack);
    writer.set16(at + 12, ((20 + optionBytes) << 10) | flags);
    writer.set16(at + 14, remotes.window[index] as number);
    writer.set32(at + 16, flags & URG ? this.#next() : 0);
    writer.fill(at + 20 + optionBytes, payloadBytes, seq);
    const damage = this.#next();
    const valid = damage >= 32;
    if (!valid) {
      this.#damage(at + segmentBytes, damage);
      writer.transportChecksum(6, at, segmentBytes, 16);
    }
    writer.end(at + segmentBytes, valid);
  }

  /** Writes some bytes of the program over the frame; half of the time the IPv4 header is made right again. */
  #damage(frameBytes: number, how: number): void {
    const { writer } = this;
    for (let i = how & 3; i > 0; i--) {
      const place = this.#next() % 96;
      if (place < frameBytes) writer.bytes[writer.at + place] = this.#next();
    }
    if (how & 4 && writer.bytes[writer.at + 12] === 8) writer.ipv4Checksum();
  }

  #otherFrame(code: number): void {
    const { writer } = this;
    if (!writer.begin()) return;
    if (code === 34) this.#udpDatagram();
    else if (code === 35) this.#icmp6();
    else if (code === 36) this.#echo();
    else if (code === 37) this.#icmpError();
    else if (code === 38) this.#icmp6Error();
    else if (code === 39) this.#arp();
    else if (code === 40) this.#fragment();
    else if (code === 41) this.#extensionHeaders();
    else this.#rawFrame(code === 42);
  }

  #udpDatagram(): void {
    const { writer } = this;
    const payloadBytes = this.#next();
    writer.ipv4(HOST_FIRST + (this.#next() % REMOTES), 17, 8 + payloadBytes);
    if (payloadBytes >= 224) this.#toGroup(payloadBytes & 3);
    writer.set16(34, 5000);
    writer.set16(36, this.#next() & 3 ? 53 : this.#next());
    writer.set16(38, 8 + payloadBytes);
    writer.fill(42, payloadBytes, 7);
    const damage = this.#next();
    if (damage < 32) this.#damage(42 + payloadBytes, damage);
    writer.transportChecksum(17, 34, 8 + payloadBytes, 6);
    writer.end(42 + payloadBytes, damage >= 128);
  }

  /** Sends the IPv4 packet being written to a group: that of all hosts, or one that the program may be in. */
  #toGroup(which: number): void {
    const { writer } = this;
    writer.bytes.set([1, 0, 0x5e, 1, 1, which], writer.at);
    writer.bytes.set(which === 0 ? [224, 0, 0, 1] : [239, 1, 1, which], writer.at + 30);
    writer.ipv4Checksum();
  }

  /** IGMP of any version and length. */
  #igmp(): void {
    const { writer } = this;
    const bytes = this.#pick([8, 8, 12, 12, 16, 4]);
    writer.ipv4(HOST_FIRST + (this.#next() % REMOTES), 2, bytes);
    this.#toGroup(this.#next() & 3);
    writer.fill(34, bytes, 0);
    writer.set32(34, (this.#pick([0x11, 0x11, 0x11, 0x12, 0x16, 0x22]) << 24) | (this.#next() << 16));
    writer.plainChecksum(34, bytes, 36);
    writer.end(34 + bytes, false);
  }

  #echo(): void {
    const { writer } = this;
    const payloadBytes = this.#next();
    if (payloadBytes >= 208) {
      this.#igmp();
      return;
    }
    writer.ipv4(HOST_FIRST + (this.#next() % REMOTES), 1, 8 + payloadBytes);
    writer.set32(34, this.#next() & 1 ? 0x08000000 : this.#next() * 65536 * 256);
    writer.set32(38, this.#next());
    writer.fill(42, payloadBytes, 3);
    writer.plainChecksum(34, 8 + payloadBytes, 36);
    writer.end(42 + payloadBytes, false);
  }

  /** An error about the last packet that the kernel sent, perhaps cut or changed. */
  #icmpError(): void {
    const { writer, remotes } = this;
    const type = this.#pick([3, 3, 3, 4, 5, 11, 12]);
    const code = type === 3 ? this.#pick([4, 4, 0, 1, 2, 3, 13]) : this.#next() & 1;
    const quoteBytes = this.#next() & 3 ? Math.min(remotes.quoteBytes, 28) : this.#next() % (remotes.quoteBytes + 1);
    writer.ipv4(HOST_FIRST + (this.#next() % REMOTES), 1, 8 + quoteBytes);
    writer.set32(34, ((type << 8) | code) * 65536);
    const rest = this.#pick([0, 68, 296, 552, 576, 1000, 1400, 1499, 1500, 9000, 65535]);
    // Of a redirect the gateway.
    writer.set32(38, type === 5 ? 0x0a000000 + HOST_FIRST + (rest % REMOTES) : rest);
    writer.bytes.set(remotes.quote.subarray(0, quoteBytes), writer.at + 42);
    if (this.#next() < 64 && quoteBytes > 0) writer.bytes[writer.at + 42 + (this.#next() % quoteBytes)] = this.#next();
    writer.plainChecksum(34, 8 + quoteBytes, 36);
    writer.end(42 + quoteBytes, false);
  }

  #arp(): void {
    const { writer } = this;
    const what = this.#next();
    writer.ethernet(0x0806);
    writer.set32(14, 0x00010800);
    writer.set32(18, 0x06040000 | (what & 1 ? 1 : 2));
    writer.bytes.set(writer.bytes.subarray(writer.at + 6, writer.at + 12), writer.at + 22);
    writer.bytes[writer.at + 27] = what & 2 ? 2 : this.#next();
    writer.set32(28, 0x0a000000 + (what & 4 ? HOST_FIRST + (this.#next() % REMOTES) : this.#next()));
    writer.fill(32, 6, 0);
    writer.set32(38, 0x0a000000 + (what & 8 ? 1 : this.#next()));
    if (what >= 192) writer.bytes[writer.at + 12 + (this.#next() % 30)] = this.#next();
    writer.end(what >= 240 ? 14 + (this.#next() % 28) : 42, false);
  }

  /** A piece of a datagram that may become whole. */
  #fragment(): void {
    const { writer } = this;
    const what = this.#next();
    const offset = this.#next() % 12;
    const more = what & 1;
    const payloadBytes = more ? 8 * (1 + (this.#next() % 24)) : this.#next() % 64;
    if (what & 2) this.#identification++;
    writer.ipv4(
      HOST_FIRST + ((what >> 3) % REMOTES),
      what & 4 ? 17 : 6,
      payloadBytes,
      (more << 13) | (what >= 250 ? 8191 - offset : offset),
      this.#identification,
    );
    writer.fill(34, payloadBytes, what);
    if (offset === 0 && payloadBytes >= 8) {
      writer.set16(34, 5000);
      writer.set16(36, 53);
      writer.set16(38, 8 * (this.#next() % 24));
      writer.set16(40, 0);
    }
    writer.end(34 + payloadBytes, false);
  }

  /** Neighbour discovery, echo, or any other type, with options, from a neighbour or a router. */
  #icmp6(): void {
    const { writer } = this;
    const type = this.#pick([133, 134, 134, 135, 135, 136, 136, 137, 128, 130, 143, this.#next()]);
    const bodyBytes = this.#pick([4, 12, 20, 20, 28, 36]);
    const optionWords = this.#next() & 3;
    const total = 4 + bodyBytes + 8 * optionWords;
    writer.ipv6(HOST_FIRST + (this.#next() % REMOTES), 58, total, this.#next() & 7 ? 255 : 64);
    // Routers speak from link-local addresses (RFC 4861 6.1.2); solicitations go to groups.
    const where = this.#next();
    if (where & 1) writer.set16(22, 0xfe80);
    if (where & 2)
      writer.bytes.set([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, where & 4 ? 0 : 1, where & 4 ? 0 : 0xff], writer.at + 38);
    if (where >= 240) writer.fill(22, 16, 0);
    writer.fill(54, total, this.#next());
    writer.set32(54, type << 24);
    writer.set32(58, this.#next() << 24);
    // The target or the destination: an address of ours, or of a neighbour.
    if (bodyBytes >= 20) {
      writer.bytes.set(writer.bytes.subarray(writer.at + 22, writer.at + 38), writer.at + 62);
      writer.bytes[writer.at + 62] = 0xfd;
      writer.bytes[writer.at + 77] = this.#next() & 3 ? 1 : HOST_FIRST + (this.#next() % REMOTES);
    }
    for (let i = 0; i < optionWords; i++) {
      writer.set16(58 + bodyBytes + 8 * i, (this.#pick([1, 2, 3, 5, 25, 31]) << 8) | (this.#next() & 3));
      writer.bytes[writer.at + 60 + bodyBytes + 8 * i] = this.#next();
    }
    writer.transportChecksum(58, 54, total, 2);
    writer.end(54 + total, false);
  }

  /** An ICMPv6 error about the last packet that the kernel sent, perhaps cut or changed. */
  #icmp6Error(): void {
    const { writer, remotes } = this;
    const type = this.#pick([1, 2, 2, 3, 4]);
    const quoteBytes = this.#next() & 3 ? Math.min(remotes.quoteBytes, 60) : this.#next() % (remotes.quoteBytes + 1);
    writer.ipv6(HOST_FIRST + (this.#next() % REMOTES), 58, 8 + quoteBytes);
    writer.set32(54, (type << 24) | ((this.#next() & 7) << 16));
    writer.set32(58, this.#pick([0, 68, 1279, 1280, 1281, 1400, 1499, 1500, 65535]));
    writer.bytes.set(remotes.quote.subarray(0, quoteBytes), writer.at + 62);
    if (this.#next() < 64 && quoteBytes > 0) writer.bytes[writer.at + 62 + (this.#next() % quoteBytes)] = this.#next();
    writer.transportChecksum(58, 54, 8 + quoteBytes, 2);
    writer.end(62 + quoteBytes, false);
  }

  /** A chain of extension headers, perhaps with a fragment's, in front of a UDP datagram or of nothing. */
  #extensionHeaders(): void {
    const { writer } = this;
    const kinds = [0, 60, 43, 44, 51, 135, 59];
    const headers = this.#next() % 10;
    const payloadBytes = this.#next();
    let kind = this.#pick(kinds);
    writer.ipv6(HOST_FIRST + (this.#next() % REMOTES), kind, headers * 8 + payloadBytes);
    let at = 54;
    for (let i = 0; i < headers; i++, at += 8) {
      const next = i === headers - 1 ? this.#pick([17, 17, 6, 58, 59]) : this.#pick(kinds);
      writer.fill(at, 8, 0);
      writer.bytes[writer.at + at] = next;
      // Lengths that lie now and then, an option in the others.
      if (kind === 44) {
        writer.set16(at + 2, (this.#next() % 24) * 8 + (this.#next() & 1));
        writer.set32(at + 4, this.#next() & 3);
      } else {
        writer.bytes[writer.at + at + 1] = this.#next() < 16 ? this.#next() : 0;
        writer.set16(at + 2, (this.#pick([0, 1, 1, 5, 0x80, 0xc2]) << 8) | (this.#next() & 7));
      }
      kind = next;
    }
    writer.fill(at, payloadBytes, 5);
    if (payloadBytes >= 8) {
      writer.set32(at, (5000 << 16) | 53);
      writer.set16(at + 4, this.#next() & 7 ? payloadBytes : this.#next());
      writer.transportChecksum(17, at, payloadBytes, 6);
    }
    writer.end(at + payloadBytes, false);
  }

  /** Bytes of the program as they are, perhaps behind a valid IPv4 header. */
  #rawFrame(ip: boolean): void {
    const { writer } = this;
    const count = this.#next() % 96;
    if (ip) writer.ipv4(HOST_FIRST + (this.#next() % REMOTES), this.#pick([1, 6, 17, 17, 6, 2, 58, 132]), count);
    else writer.ethernet(this.#pick([0x0800, 0x0806, 0x86dd, 0x8100, 0, 46]));
    const from = ip ? 34 : 14;
    for (let i = 0; i < count; i++) writer.bytes[writer.at + from + i] = this.#next();
    writer.end(from + count, false);
  }

  // The application.

  #handle(): number {
    const which = this.#next();
    if (which === 255) return Math.imul(this.#next() + 1, 0x01000193) >>> 1;
    return this.#handleCount === 0 ? -1 : (this.#handles[which % this.#handleCount] as number);
  }

  #keep(handle: number): void {
    if (handle < 0) return;
    if (this.#handleCount < HANDLES) this.#handles[this.#handleCount++] = handle;
    else this.kernel.wasm.tcpAbort(handle);
  }

  #application(code: number): void {
    const { wasm, area } = this.kernel;
    switch (code) {
      case 44:
      case 45:
        this.#keep(wasm.tcpAccept(this.#listener));
        return;
      case 46:
        this.#connect();
        return;
      case 47:
      case 48:
        wasm.tcpSend(this.#handle(), area, this.#pick(SENDS));
        return;
      case 49:
      case 50:
        wasm.tcpRecv(this.#handle(), area, this.#pick(READS));
        return;
      case 51:
        wasm.tcpShutdownSend(this.#handle());
        return;
      case 52:
        this.#end(false);
        return;
      case 53:
        this.#end(true);
        return;
      case 54:
        wasm.tcpSetOption(this.#handle(), this.#next() % 32, this.#pick(OPTION_VALUES));
        return;
      case 55:
        this.#zeroCopy();
        return;
      case 56:
        this.#datagrams();
        return;
      default:
        wasm.tcpListenClose(this.#listener);
        if (this.#next() & 1) this.#turn(64);
        this.#listener = wasm.tcpListen(-1, LISTEN_PORT, this.#next() % 6);
    }
  }

  #connect(): void {
    const { kernel, remotes } = this;
    const index = this.#next() % REMOTES;
    this.#writeAddress(index);
    const localPort = 40_000 + this.#next();
    const handle = kernel.wasm.tcpConnect(-1, localPort, SCRATCH_BASE, PORT_FIRST + index);
    if (handle < 0) return;
    this.#keep(handle);
    // The remote answers as this connection's peer from now on.
    remotes.kernelPort[index] = localPort;
    remotes.state[index] = CLOSED;
  }

  /** A remote's address, as calls take it. */
  #writeAddress(index: number): void {
    const { bytes } = this.kernel.memory;
    bytes.set(OWN_V6, SCRATCH_BASE);
    if (index < REMOTES_V6) bytes.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0], SCRATCH_BASE);
    bytes[SCRATCH_BASE + 15] = HOST_FIRST + index;
  }

  #end(abort: boolean): void {
    const { wasm } = this.kernel;
    const handle = this.#handle();
    const status = abort ? wasm.tcpAbort(handle) : wasm.tcpClose(handle);
    if (status !== 0) return;
    for (let i = 0; i < this.#handleCount; i++) {
      if (this.#handles[i] === handle) this.#handles[i] = this.#handles[--this.#handleCount] as number;
    }
  }

  #zeroCopy(): void {
    const { wasm, area } = this.kernel;
    const handle = this.#handle();
    wasm.tcpGetInfo(handle, area);
    if (this.#next() & 1) {
      if (wasm.tcpSendReserve(handle, this.#pick(SENDS)) > 0) wasm.tcpSendCommit(handle, this.#pick(SENDS));
    } else if (wasm.tcpRecvPeek(handle) > 0) wasm.tcpRecvConsume(handle, this.#pick(READS));
  }

  #datagrams(): void {
    const { wasm, area } = this.kernel;
    const what = this.#next();
    if (what < 128) {
      wasm.udpRecvPeek(this.#udp);
      wasm.udpRecvConsume(this.#udp);
    } else if (what >= 208 && what < 240) {
      this.#groupsAndGateways(what & 7);
    } else if (what < 240) {
      this.#writeAddress(what % REMOTES);
      wasm.udpSendTo(this.#udp, area, this.#pick(SENDS), SCRATCH_BASE, 5000);
    } else {
      wasm.udpClose(this.#udp);
      this.#udp = wasm.udpBind(-1, 53);
    }
  }

  /** What else sockets and the control path do with IP. */
  #groupsAndGateways(what: number): void {
    const { wasm, memory, area } = this.kernel;
    const which = this.#next();
    const place = (...v4: readonly number[]) => {
      memory.bytes.fill(0, SCRATCH_BASE, SCRATCH_BASE + 10);
      memory.bytes.set([255, 255, ...v4], SCRATCH_BASE + 10);
      return SCRATCH_BASE;
    };
    if (what === 0) wasm.udpJoin(this.#udp, place(which & 64 ? 10 : 239, 1, 1, which & 3));
    else if (what === 1) wasm.udpLeave(this.#udp, place(239, 1, 1, which & 3));
    else if (what === 2) wasm.udpSetOption(this.#udp, this.#pick([18, 19, 40, 41, 7]), which);
    else if (what === 3) wasm.udpSendTo(this.#udp, area, this.#pick(SENDS), place(198, 51, 100, which & 63), 5000);
    else if (what === 4) wasm.udpSendTo(this.#udp, area, this.#pick(SENDS), place(239, 1, 1, which & 3), 5000);
    else if (what === 5) wasm.echoSend(place(198, 51, 100, which & 63), 7, which, this.#pick(SENDS), which & 7);
    else if (what === 6) wasm.gatewayAdd(place(10, 0, 0, HOST_FIRST + (which % REMOTES)));
    else {
      for (let i = 0; i < 16; i++) {
        wasm.controlConsume();
        wasm.echoConsume();
      }
      if ((which & 6) === 6) wasm.linkSet(1200 + (which << 1), which, which << 4, which << 5);
      if (which & 1) wasm.gatewayRemove(place(10, 0, 0, HOST_FIRST + (which % REMOTES)));
    }
  }

  // The end.

  /**
   * Lets go of everything and waits: whatever a program has done, nothing may be left, and no timer may run.
   * @throws Fault
   */
  finish(): void {
    const { wasm } = this.kernel;
    this.#takesFrames = true;
    this.#turn(64);
    wasm.udpClose(this.#udp);
    for (let round = 0; round < 3; round++) {
      for (let handle = wasm.tcpAccept(this.#listener); handle >= 0; handle = wasm.tcpAccept(this.#listener)) {
        wasm.tcpClose(handle);
      }
      while (this.#handleCount > 0) wasm.tcpClose(this.#handles[--this.#handleCount] as number);
      this.#advance(round === 2 ? PATIENCE_MS : 100);
    }
    wasm.tcpListenClose(this.#listener);
    this.#advance(60_000);
    const counters = this.kernel.memory.counters();
    const gauges = ["Connections", "Flows", "StreamBytes", "TimeWait", "AcceptQueue", "UdpBytes", "ReassemblyBytes"];
    for (const gauge of gauges) {
      const left = counters[`gauge${gauge}`];
      if (left !== 0) throw new Fault(`${gauge} left over: ${left}`);
    }
    if (wasm.nextDeadlineNs() < this.#nowNs + 1e9) throw new Fault("a timer is left");
    if (wasm.hasWork() !== 0) throw new Fault("work is left");
  }
}
