import { describe, expect, test } from "vitest";
import { ECONNREFUSED, EHOSTUNREACH, ENETUNREACH } from "../../../src/layout/status.ts";
import {
  KERNEL_BUILDS,
  KernelBench,
  openPassive,
  OWN,
  OWN_MAC,
  type Peer,
  PEER_MAC,
} from "../../helpers/kernelBench.ts";
import { ethernet, icmp, ipv4, pattern, tcp } from "../../helpers/packets.ts";
import { reachSynSent } from "../../helpers/tcpStates.ts";

/** What an error quotes of our segment. `seq`: relative to the kernel's initial number. */
type Quote = { readonly seq: number; readonly sourcePort?: number; readonly destination?: string };

/** An ICMP error about a segment of ours, from a router on the way. */
function icmpError(peer: Peer, type: number, code: number, quote: Quote, mtuBytes = 0): void {
  const destination = quote.destination ?? peer.address;
  const segment = tcp({
    source: OWN,
    destination,
    sourcePort: quote.sourcePort ?? peer.kernelPort,
    destinationPort: peer.port,
    seq: (peer.kernelIss + quote.seq) >>> 0,
    flags: "ack",
  });
  const quoted = ipv4({ source: OWN, destination, protocol: 6, totalBytes: 1500 }, segment);
  const message = icmp({ type, code, rest: mtuBytes }, quoted.subarray(0, 28));
  const packet = ipv4({ source: "10.0.0.254", destination: OWN, protocol: 1 }, message);
  peer.bench.inject(ethernet({ destination: OWN_MAC, source: PEER_MAC }, packet));
  peer.bench.turn();
}

describe.each(KERNEL_BUILDS)("ICMP errors for TCP, %s build", (build) => {
  test.each([
    ["network", 0, ENETUNREACH],
    ["host", 1, EHOSTUNREACH],
    ["protocol", 2, ECONNREFUSED],
    ["port", 3, ECONNREFUSED],
    ["administratively prohibited", 13, EHOSTUNREACH],
  ])("%s unreachable ends an active open (RFC 1122 4.2.3.9)", (_name, code, status) => {
    const bench = new KernelBench({ build });
    const { peer, handle } = reachSynSent(bench);
    icmpError(peer, 3, code, { seq: 0 });
    expect(bench.events(handle)).toEqual([{ handle, mask: "closed error", status, readableBytes: 0 }]);
    bench.wasm.tcpClose(handle);
    expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeFlows: 0 });
  });

  test("of an open connection it is kept, can be asked for, and told if the connection is given up", () => {
    const bench = new KernelBench({ build, tuning: { retriesMax: 3 } });
    const { peer, handle } = openPassive(bench);
    bench.write(handle, pattern(10));
    icmpError(peer, 3, 1, { seq: 1 });
    expect(bench.info(handle).softError).toBe(EHOSTUNREACH);
    icmpError(peer, 3, 0, { seq: 1 });
    expect(bench.info(handle).softError).toBe(ENETUNREACH);
    peer.send({ flags: "ack", ack: 11 });
    expect(bench.info(handle).softError).toBe(0);
    bench.write(handle, pattern(10));
    icmpError(peer, 3, 1, { seq: 11 });
    expect(bench.events(handle)).toEqual([]);
    bench.advance(60_000);
    expect(bench.events(handle)).toMatchObject([{ mask: "closed error", status: EHOSTUNREACH }]);
  });

  test.each([
    ["a sequence number that is not in flight (RFC 5927 4)", { seq: 1 }],
    ["a number far away", { seq: 1_000_000 }],
    ["another port", { seq: 0, sourcePort: 1 }],
    ["another address", { seq: 0, destination: "10.0.0.3" }],
  ])("an error that quotes %s is ignored", (_name, quote) => {
    const bench = new KernelBench({ build });
    const { peer, handle } = reachSynSent(bench);
    icmpError(peer, 3, 3, quote);
    expect(bench.state(handle)).toBe("SYN_SENT");
  });

  test.each([
    ["source quench (RFC 6633)", 4, 0],
    ["time exceeded", 11, 0],
    ["parameter problem", 12, 0],
  ])("%s does not end an active open", (_name, type, code) => {
    const bench = new KernelBench({ build });
    const { peer, handle } = reachSynSent(bench);
    icmpError(peer, type, code, { seq: 0 });
    expect(bench.state(handle)).toBe("SYN_SENT");
  });

  test.each([0, 1, 2, 3])("unreachable, code %i, does not end an established connection (RFC 1122 4.2.3.9)", (code) => {
    const bench = new KernelBench({ build });
    const { peer, handle } = openPassive(bench, { mss: 1460 });
    bench.write(handle, pattern(1000));
    peer.receive();
    icmpError(peer, 3, code, { seq: 1 });
    expect(bench.state(handle)).toBe("ESTABLISHED");
    peer.send({ flags: "ack" });
    expect(bench.info(handle).sndQueuedBytes).toBe(0);
  });

  describe("fragmentation needed (RFC 1191)", () => {
    const inFlight = (timestamp?: number) => {
      const bench = new KernelBench({ build });
      const opened = openPassive(bench, { mss: 1460, ...(timestamp === undefined ? {} : { timestamp }) });
      bench.write(opened.handle, pattern(8 * 1460));
      expect(opened.peer.all().length).toBe(8);
      // Nothing of it arrives: the router has dropped all.
      opened.peer.rcvNxt = 1;
      return { bench, ...opened };
    };

    test.each([
      { name: "the router's MTU", mtuBytes: 1400, mss: 1360 },
      { name: "an MTU of 0 from an old router, taken for the least", mtuBytes: 0, mss: 512 },
      { name: "a tiny MTU, taken for the least", mtuBytes: 68, mss: 512 },
    ])("in the window: $name, and all in flight is sent again at once", ({ mtuBytes, mss }) => {
      const { bench, peer, handle } = inFlight();
      icmpError(peer, 3, 4, { seq: 1 }, mtuBytes);
      expect(bench.info(handle).sndMssBytes).toBe(mss);
      expect(bench.counters().tcpPathMtuReduced).toBe(1);
      const again = peer.all();
      expect(again[0]).toMatchObject({ seq: 1 });
      expect(again.every(({ payload }) => payload.length <= mss)).toBe(true);
      expect(again.reduce((sum, { payload }) => sum + payload.length, 0)).toBeGreaterThan(7 * 1460);
      // The other errors for the same flight change nothing more.
      icmpError(peer, 3, 4, { seq: 1461 }, mtuBytes);
      peer.expectNothing();
      expect(bench.counters()).toMatchObject({ tcpPathMtuReduced: 1, tcpRetransmitTimeouts: 0 });
    });

    test("timestamps are part of the packet", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1460, timestamp: 1 });
      bench.write(handle, pattern(1448));
      peer.all();
      icmpError(peer, 3, 4, { seq: 1 }, 1400);
      expect(bench.info(handle).sndMssBytes).toBe(1400 - 40 - 12);
    });

    test.each([
      ["a number that is not in flight", { seq: 20_000 }, 1400],
      ["a number that is acknowledged", { seq: 0 }, 1400],
      ["an MTU that is no smaller", { seq: 1 }, 1500],
      ["an MTU larger than ours", { seq: 1 }, 9000],
    ])("with %s it changes nothing", (_name, quote, mtuBytes) => {
      const { bench, peer, handle } = inFlight();
      icmpError(peer, 3, 4, quote, mtuBytes);
      expect(bench.info(handle).sndMssBytes).toBe(1460);
      peer.expectNothing();
    });
  });
});
