/**
 * Scripts count from round numbers; kernels draw theirs at random. A flow knows both sides' numbers and translates.
 * As in the original, in packets with SYN they are what the script says, in all others they count from the SYN's.
 */
import { formatAddress } from "../ip/address.ts";
import type { Sent } from "./decode.ts";
import type { Endpoint } from "./encode.ts";
import { ScriptError } from "./errors.ts";
import * as P from "./packet.ts";

export class Flow {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /** What to add to the script's number of a byte that the kernel sends to get the kernel's. */
  #localOffset = 0;
  #knowsIsn = false;
  #knowsRemote = false;
  /** Of the peer's last SYN, whether the kernel has taken it up or not. */
  #latestRemoteIsn = 0;
  /** The next SYN of the kernel starts a new connection with numbers of its own. */
  #expectsIsn = true;
  /** Timestamp values that the kernel has sent, by the script's value. */
  readonly #tsVals = new Map<number, number>();
  #firstTs: { readonly script: number; readonly live: number } | undefined;
  /** The kernel's number of the last byte that it has sent, for ICMP errors. */
  lastSeq = 0;
  /** Initial numbers as the script writes them: streams are counted from there. */
  scriptIsn = 0;
  remoteIsn = 0;

  constructor(local: Endpoint, remote: Endpoint) {
    this.local = local;
    this.remote = remote;
  }

  /** The script's number of a byte that the kernel sends, in a packet with or without SYN, as the kernel's. */
  toKernel(seq: number, isSyn = false): number {
    return (seq + this.#localOffset + (isSyn ? 0 : this.scriptIsn)) >>> 0;
  }

  #toScript(seq: number, isSyn: boolean): number {
    return (seq - this.#localOffset - (isSyn ? 0 : this.scriptIsn)) >>> 0;
  }

  /** A packet of the script as the kernel is to get it. */
  mapInbound(packet: P.Packet, allowsScaledEcr: boolean, line: number): P.Packet {
    const { transport } = packet;
    if (transport.kind !== "tcp") return packet;
    const hasAck = (transport.flags & P.ACK) !== 0;
    // A new connection of the same ports begins.
    if ((transport.flags & (P.SYN | P.ACK)) === P.SYN) this.#expectsIsn = true;
    const isSyn = (transport.flags & P.SYN) !== 0;
    if (isSyn && !this.#knowsRemote) {
      this.remoteIsn = transport.seq;
      this.#knowsRemote = true;
    }
    if (isSyn) this.#latestRemoteIsn = transport.seq;
    const options = (transport.options ?? []).map((option): P.TcpOption => {
      if (option.kind === "sack") {
        return { ...option, blocks: option.blocks.map(([a, b]) => [this.toKernel(a), this.toKernel(b)] as const) };
      }
      if (option.kind === "TS" && hasAck) return { ...option, ecr: this.#echo(option.ecr, allowsScaledEcr, line) };
      return option;
    });
    const ack = hasAck && !transport.isAbsoluteAck ? this.toKernel(transport.ack, isSyn) : transport.ack;
    const seq = isSyn || transport.isAbsoluteSeq ? transport.seq : (transport.seq + this.remoteIsn) >>> 0;
    return { ...packet, transport: { ...transport, seq, ack, options } };
  }

  #echo(script: number, allowsScaled: boolean, line: number): number {
    const exact = this.#tsVals.get(script);
    if (exact !== undefined) return exact;
    if (allowsScaled && this.#firstTs) return (script - this.#firstTs.script + this.#firstTs.live) >>> 0;
    throw new ScriptError(line, `TS ecr ${script}: the kernel has sent no such TS val (see --tcp_ts_ecr_scaled)`);
  }

  /** Learns the kernel's numbers from a packet that the script expects. Call before mapOutbound. */
  learn(expected: P.Packet, live: P.Packet): void {
    const [want, have] = [expected.transport, live.transport];
    if (want.kind !== "tcp" || have.kind !== "tcp") return;
    if (want.flags & P.SYN && have.flags & P.SYN && (this.#expectsIsn || !this.#knowsIsn)) {
      this.#localOffset = (have.seq - want.seq) >>> 0;
      this.scriptIsn = want.seq;
      this.#expectsIsn = false;
      this.#knowsIsn = true;
      this.#firstTs = undefined;
      this.#tsVals.clear();
      // A SYN of the peer that was not the first: this answer takes it up.
      if (have.flags & P.ACK && have.ack === (this.#latestRemoteIsn + 1) >>> 0) this.remoteIsn = this.#latestRemoteIsn;
    }
    this.lastSeq = have.seq;
    const wantTs = want.options?.find((option) => option.kind === "TS");
    const haveTs = have.options?.find((option) => option.kind === "TS");
    if (wantTs?.kind !== "TS" || haveTs?.kind !== "TS") return;
    this.#firstTs ??= { script: wantTs.val, live: haveTs.val };
    this.#tsVals.set(wantTs.val, haveTs.val);
  }

  /** A packet of the kernel in the script's numbers. */
  mapOutbound(live: P.Packet, expected?: P.Packet): P.Packet {
    const { transport } = live;
    if (transport.kind !== "tcp") return live;
    const want = expected?.transport.kind === "tcp" ? expected.transport : undefined;
    const isSyn = (transport.flags & P.SYN) !== 0;
    const options = transport.options?.map((option): P.TcpOption => {
      if (option.kind === "sack") {
        const relative = (seq: number) => (seq - this.remoteIsn) >>> 0;
        return { ...option, blocks: option.blocks.map(([a, b]) => [relative(a), relative(b)] as const) };
      }
      if (option.kind !== "TS" || !this.#firstTs) return option;
      return { ...option, val: (option.val - this.#firstTs.live + this.#firstTs.script) >>> 0 };
    });
    const seq = want?.isAbsoluteSeq ? transport.seq : this.#toScript(transport.seq, isSyn);
    const isPeersNumber = isSyn || want?.isAbsoluteAck === true;
    // Without the ACK flag the field says nothing.
    const ack = transport.flags & P.ACK ? (transport.ack - (isPeersNumber ? 0 : this.remoteIsn)) >>> 0 : 0;
    return { ...live, transport: { ...transport, seq, ack, ...(options && { options }) } };
  }
}

/** The flows that a script has spoken of, and the one it speaks of now. */
export class FlowTable {
  readonly #flows = new Map<string, Flow>();
  /** The flow that packets without ports belong to. */
  current: Flow | undefined;
  /** The next packet from the peer opens a flow of its own: a socket listens, or there is none yet. */
  isListening = true;

  static #key(localPort: number, remote: Endpoint): string {
    return `${localPort} ${formatAddress(remote.address)} ${remote.port}`;
  }

  /** Makes this the present flow; one with the same ports is continued. */
  open(local: Endpoint, remote: Endpoint): Flow {
    const key = FlowTable.#key(local.port, remote);
    const flow = this.#flows.get(key) ?? new Flow(local, remote);
    this.#flows.set(key, flow);
    this.current = flow;
    this.isListening = false;
    return flow;
  }

  /** The flow that the kernel has sent this packet on. */
  of(sent: Sent): Flow | undefined {
    const remote = { address: sent.destination, port: sent.destinationPort };
    return this.#flows.get(FlowTable.#key(sent.sourcePort, remote));
  }
}
