/** Brings one connection into any state of RFC 9293 figure 5. */
import { expect } from "vitest";
import { type KernelBench, type Opened, openPassive, Peer, type PeerOptions, type StateName } from "./kernelBench.ts";

/** States in which both sides know each other's sequence numbers. */
export const SYNCHRONIZED_STATES = [
  "ESTABLISHED",
  "FIN_WAIT_1",
  "FIN_WAIT_2",
  "CLOSE_WAIT",
  "CLOSING",
  "LAST_ACK",
  "TIME_WAIT",
] as const satisfies readonly StateName[];

export type SynchronizedState = (typeof SYNCHRONIZED_STATES)[number];

export type Reached = Opened & {
  /** Relative numbers: what the kernel sends next, and what it expects next. */
  readonly kernelNxt: number;
  readonly kernelRcvNxt: number;
};

/** What happens, in order, on the way from ESTABLISHED to each state. */
const WAYS: { readonly [State in SynchronizedState]: string } = {
  ESTABLISHED: "",
  FIN_WAIT_1: "shutdown",
  FIN_WAIT_2: "shutdown ackFin",
  CLOSE_WAIT: "fin",
  CLOSING: "shutdown crossingFin",
  LAST_ACK: "fin shutdown",
  TIME_WAIT: "shutdown ackFin fin",
};

/** A connection in this state, opened by the peer; the application still has its handle. */
export function reach(bench: KernelBench, state: SynchronizedState, options: PeerOptions = {}): Reached {
  const opened = openPassive(bench, options);
  const { peer, handle } = opened;
  let finSent = false;
  let finReceived = false;
  for (const step of WAYS[state].split(" ")) {
    if (step === "shutdown") {
      expect(bench.wasm.tcpShutdownSend(handle)).toBe(0);
      bench.turn();
      peer.expect({ flags: "fin ack", seq: 1 });
      finSent = true;
    } else if (step === "ackFin") {
      peer.send({ flags: "ack" });
      peer.expectNothing();
    } else if (step === "fin" || step === "crossingFin") {
      peer.send({ flags: "fin ack", ack: step === "fin" ? peer.rcvNxt : 1 });
      peer.expect({ flags: "ack", ack: 2 });
      finReceived = true;
    }
  }
  expect(bench.state(handle)).toBe(state);
  bench.events();
  return { ...opened, kernelNxt: finSent ? 2 : 1, kernelRcvNxt: finReceived ? 2 : 1 };
}

/** A connection whose SYN-ACK has been sent; the application does not know it yet. */
export function reachSynReceived(bench: KernelBench, options: PeerOptions = {}): { peer: Peer; listener: number } {
  const listener = bench.listen(options.kernelPort ?? 80);
  const peer = new Peer(bench, options);
  peer.send({ flags: "syn" });
  peer.expect({ flags: "syn ack", seq: 0, ack: 1 });
  return { peer, listener };
}

/** An active open whose SYN has been sent. */
export function reachSynSent(bench: KernelBench, options: PeerOptions = {}): { peer: Peer; handle: number } {
  const peer = new Peer(bench, { port: 7000, ...options });
  const handle = bench.connect(peer.port);
  expect(handle).toBeGreaterThanOrEqual(0);
  bench.turn();
  peer.kernelPort = bench.info(handle).localPort;
  peer.expect({ flags: "syn", seq: 0 });
  return { peer, handle };
}
