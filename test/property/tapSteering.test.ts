/**
 * The steering program of the TAP device, instruction by instruction, against what ebpf.ts promises. That Linux
 * accepts and runs it is shown by test/integration/tap.test.ts.
 */
import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { initialQueue } from "../../src/device/flowGroups.ts";
import { assembleSteering, BpfAssembler } from "../../src/device/tap/ebpf.ts";
import { FLOW_GROUPS } from "../../src/layout/flowGroup.ts";
import { runBpf } from "../helpers/bpfMachine.ts";

const LOCAL_PORTS = { first: 32768, last: 60999 };
const QUEUES = 4;
const assemble = (flowGroups: number) =>
  assembleSteering({ groups: 5, filters: 6 }, { queues: QUEUES, localPorts: LOCAL_PORTS, flowGroups });
const program = assemble(FLOW_GROUPS);
const FIRST_GROUP = 1000;
/** FIRST_GROUP + the group that was looked up; a queue number where none was. */
const steer = (packet: Uint8Array, by = program): number =>
  Number(runBpf(by, packet, (group) => FIRST_GROUP + group) & 0xffffn);

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const port = fc.integer({ min: 0, max: 65535 });
const protocol = fc.constantFrom(TCP, UDP);
const address4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
const address6 = fc.uint8Array({ minLength: 16, maxLength: 16 });
const optionWords = fc.integer({ min: 0, max: 10 });

function ports(source: number, destination: number): Uint8Array {
  return Uint8Array.of(source >> 8, source & 255, destination >> 8, destination & 255, 0, 0, 0, 0);
}

type Ipv4 = { protocol: number; source?: Uint8Array; destination?: Uint8Array; words?: number; fragment?: number };

function ipv4({ protocol, source, destination, words = 0, fragment = 0 }: Ipv4, payload: Uint8Array): Uint8Array {
  const header = new Uint8Array(20 + 4 * words);
  header.set([0x45 + words, 0, 0, 0, 0, 0, fragment >> 8, fragment & 255, 64, protocol]);
  header.set(source ?? [10, 0, 0, 1], 12);
  header.set(destination ?? [10, 0, 0, 2], 16);
  return Uint8Array.of(...header, ...payload);
}

function ethernet(etherType: number, payload: Uint8Array): Uint8Array {
  return Uint8Array.of(...new Uint8Array(12), etherType >> 8, etherType & 255, ...payload);
}

/** The group by the rule in ebpf.ts, in other words. */
function groupOf(source: number, destination: number): number {
  const both = destination >= 32768 && destination <= 60999;
  return (both ? (source | destination) - (source & destination) : source) % FLOW_GROUPS;
}

describe("steering program", () => {
  test("TCP and UDP over IPv4 go by their flow group, whatever the IP options", () => {
    fc.assert(
      fc.property(protocol, port, port, optionWords, (number, source, destination, words) => {
        const packet = ethernet(0x0800, ipv4({ protocol: number, words }, ports(source, destination)));
        expect(steer(packet)).toBe(FIRST_GROUP + groupOf(source, destination));
      }),
    );
  });

  test.each([1, 64, 2048])("%i groups are as many low bits of the port", (flowGroups) => {
    const fewer = assemble(flowGroups);
    fc.assert(
      fc.property(protocol, port, port, (number, source, destination) => {
        const packet = ethernet(0x0800, ipv4({ protocol: number }, ports(source, destination)));
        expect(steer(packet, fewer)).toBe(FIRST_GROUP + (groupOf(source, destination) % flowGroups));
      }),
    );
  });

  test("TCP and UDP over IPv6 go by the same groups", () => {
    fc.assert(
      fc.property(protocol, port, port, address6, address6, (number, source, destination, from, to) => {
        const header = Uint8Array.of(0x60, 0, 0, 0, 0, 8, number, 64, ...from, ...to);
        const packet = ethernet(0x86dd, Uint8Array.of(...header, ...ports(source, destination)));
        expect(steer(packet)).toBe(FIRST_GROUP + groupOf(source, destination));
      }),
    );
  });

  test("an ICMP error goes with the flow that it quotes", () => {
    const type = fc.constantFrom(3, 11, 12);
    fc.assert(
      fc.property(type, protocol, port, port, optionWords, optionWords, (kind, number, ours, theirs, outer, inner) => {
        const quoted = ipv4({ protocol: number, words: inner }, ports(ours, theirs));
        const message = Uint8Array.of(kind, 0, 0, 0, 0, 0, 0, 0, ...quoted);
        const packet = ethernet(0x0800, ipv4({ protocol: ICMP, words: outer }, message));
        // What we sent from `ours` to `theirs` belongs to the flow whose packets come from `theirs` to `ours`.
        expect(steer(packet)).toBe(FIRST_GROUP + groupOf(theirs, ours));
      }),
    );
  });

  test("fragments and other protocols go by their addresses alone, the same in every fragment", () => {
    const fragment = fc.integer({ min: 1, max: 0x3fff });
    fc.assert(
      fc.property(address4, address4, fragment, port, port, (source, destination, field, a, b) => {
        const first = ethernet(0x0800, ipv4({ protocol: UDP, source, destination, fragment: 0x2000 }, ports(a, b)));
        const later = ethernet(0x0800, ipv4({ protocol: UDP, source, destination, fragment: field }, ports(b, a)));
        const other = ethernet(0x0800, ipv4({ protocol: 47, source, destination }, ports(a, b)));
        expect(steer(later)).toBe(steer(first));
        expect(steer(other)).toBe(steer(first));
        expect(steer(first)).toBeLessThan(QUEUES);
      }),
    );
  });

  test("addresses spread over queues", () => {
    const queues = new Set<number>();
    for (let host = 1; host <= 64; host += 1) {
      const source = Uint8Array.of(10, 0, 0, host);
      queues.add(steer(ethernet(0x0800, ipv4({ protocol: 47, source }, ports(0, 0)))));
    }
    expect(queues.size).toBe(QUEUES);
  });

  test("ARP replies and announcements go to the queue after the kernels', requests to queue 0", () => {
    const arp = (operation: number, sender: number, target: number): Uint8Array => {
      const packet = new Uint8Array(28);
      packet[7] = operation;
      packet[17] = sender;
      packet[27] = target;
      return ethernet(0x0806, packet);
    };
    expect(steer(arp(1, 1, 2))).toBe(0);
    expect(steer(arp(2, 1, 2))).toBe(QUEUES);
    expect(steer(arp(1, 7, 7))).toBe(QUEUES);
  });

  test("VLAN and what is too short for its own claim go to queue 0", () => {
    expect(steer(ethernet(0x0806, new Uint8Array(7)))).toBe(0);
    expect(steer(ethernet(0x8100, new Uint8Array(28)))).toBe(0);
    const whole = ethernet(0x0800, ipv4({ protocol: TCP }, ports(1, 2).subarray(0, 4)));
    for (let bytes = 0; bytes < whole.length; bytes += 1) expect(steer(whole.subarray(0, bytes))).toBe(0);
    expect(steer(whole)).not.toBe(0);
  });

  test("any bytes give a queue", () => {
    const etherType = fc.constantFrom(0x0800, 0x86dd, 0x0806);
    fc.assert(
      fc.property(etherType, fc.uint8Array({ maxLength: 120 }), (type, bytes) => {
        expect(steer(ethernet(type, bytes))).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});

describe("first placement of the flow groups", () => {
  const share = (groups: readonly number[], queues: number): number[] => {
    const counts = new Array<number>(queues).fill(0);
    for (const group of groups)
      counts[initialQueue(group, queues)] = (counts[initialQueue(group, queues)] as number) + 1;
    return counts;
  };

  test.each([1, 2, 3, 4, 7, 16, 64])("%i queues have equal shares, to one group", (queues) => {
    const all = Array.from({ length: FLOW_GROUPS }, (_, group) => group);
    const counts = share(all, queues);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
  });

  test.each([2, 4])("%i queues share what a client uses: ports in steps of 1, 2 or 4", (queues) => {
    for (const step of [1, 2, 4]) {
      for (const first of [0, 1, 1000, 4000]) {
        const used = Array.from({ length: 64 }, (_, index) => (first + index * step) % FLOW_GROUPS);
        expect(Math.min(...share(used, queues)), `${step} ${first}`).toBeGreaterThan(64 / queues / 2);
      }
    }
  });
});

describe("exact filters", () => {
  const GROUP_QUEUE = 2;
  const FILTER_QUEUE = 3;
  const HAS_FILTERS = 0x10000;
  /** What the program would do with a filter for `key`: addresses and ports in words. */
  const steerWith = (packet: Uint8Array, key: readonly number[], inGroup: number): number => {
    const result = runBpf(program, packet, (word, map, [second, third]) => {
      if (map === 5) return GROUP_QUEUE | inGroup;
      return word === key[0] && second === key[1] && third === key[2] ? FILTER_QUEUE : undefined;
    });
    return Number(result & 0xffffn);
  };
  const word = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);

  test("one TCP flow over IPv4 goes to the filter's queue, the others by their group", () => {
    fc.assert(
      fc.property(
        address4,
        address4,
        port,
        port,
        optionWords,
        protocol,
        (source, destination, from, to, words, number) => {
          const packet = ethernet(0x0800, ipv4({ protocol: number, source, destination, words }, ports(from, to)));
          const key = [word(source), word(destination), ((from << 16) | to) >>> 0];
          expect(steerWith(packet, key, HAS_FILTERS)).toBe(number === TCP ? FILTER_QUEUE : GROUP_QUEUE);
          expect(steerWith(packet, [key[0] as number, key[1] as number, -1], HAS_FILTERS)).toBe(GROUP_QUEUE);
          // The entry of the group says that there are none: nobody looks.
          expect(steerWith(packet, key, 0)).toBe(GROUP_QUEUE);
        },
      ),
    );
  });
});

test("the assembler refuses a jump to nowhere", () => {
  expect(() => new BpfAssembler().jump("nowhere").assemble()).toThrow(RangeError);
});
