/** UDP sockets in groups, and what a socket says about its datagrams and hears about those that come. */
import { afterEach, describe, expect, test } from "vitest";
import { EADDRINUSE, EADDRNOTAVAIL, EBADF, EINVAL, ENOBUFS } from "../../../src/layout/status.ts";
import {
  OPTION_HOP_LIMIT,
  OPTION_MULTICAST_HOP_LIMIT,
  OPTION_MULTICAST_LOOP,
  OPTION_TOS,
} from "../../../src/layout/option.ts";
import { RESULT_BASE, SCRATCH_BASE } from "../../../src/layout/kernelMemory.ts";
import { formatAddress, parseAddress } from "../../../src/ip/address.ts";
import type { UdpSocket } from "../../../src/socket/udp.ts";
import { KERNEL_BUILDS, KernelBench, OWN, OWN_MAC, PEER, PEER_MAC } from "../../helpers/kernelBench.ts";
import {
  ethernet,
  fragmentIpv4,
  ipv4,
  parseEthernet,
  parseIpv4,
  pattern,
  udp,
  udpPacket,
} from "../../helpers/packets.ts";
import { createStackPair, type StackPair } from "../../helpers/stacks.ts";

const GROUP = "239.1.2.3";
const GROUP_MAC = "01:00:5e:01:02:03";
const at = (text: string, bench: KernelBench): number => {
  bench.bytes.set(parseAddress(text), SCRATCH_BASE + 64);
  return SCRATCH_BASE + 64;
};

describe.each(KERNEL_BUILDS)("groups of a kernel, %s build", (build) => {
  const fields = (destination: string, port = 5353) => ({
    source: PEER,
    destination,
    sourcePort: 5353,
    destinationPort: port,
  });
  const fromPeer = { destination: GROUP_MAC, source: PEER_MAC };
  function create() {
    const bench = new KernelBench({ build });
    const handle = bench.wasm.udpBind(-1, 5353);
    return { bench, handle };
  }
  const receive = (bench: KernelBench, handle: number) => {
    const place = bench.wasm.udpRecvPeek(handle);
    if (place <= 0) return undefined;
    const word = (offset: number) => bench.memory.loadU32(RESULT_BASE + offset);
    const datagram = {
      payload: bench.bytes.slice(place, place + word(0)),
      remote: formatAddress(bench.bytes.slice(RESULT_BASE + 8, RESULT_BASE + 24)),
      local: formatAddress(bench.bytes.slice(RESULT_BASE + 24, RESULT_BASE + 40)),
      tos: word(40),
      ttl: word(44),
    };
    bench.wasm.udpRecvConsume(handle);
    return datagram;
  };

  test("a datagram to a group comes to a socket that has joined, and to no other", () => {
    const { bench, handle } = create();
    const other = bench.wasm.udpBind(-1, 5454);
    const deliver = (port = 5353) => {
      bench.inject(ethernet(fromPeer, udpPacket(fields(GROUP, port), pattern(10), { ttl: 7, tos: 0x28 })));
      bench.turn();
    };
    // Nobody is in it: the packet is not ours.
    expect(bench.counted(() => deliver())).toMatchObject({ dropBroadcast: 1 });
    expect(bench.wasm.udpJoin(handle, at(GROUP, bench))).toBe(0);
    deliver();
    expect(receive(bench, handle)).toEqual({ payload: pattern(10), remote: PEER, local: GROUP, tos: 0x28, ttl: 7 });
    expect(bench.counted(() => deliver(5454))).toMatchObject({ dropUdpNoSocket: 1 });
    expect(receive(bench, other)).toBeUndefined();
    // RFC 1122 3.2.2: no error about what was sent to many.
    expect(bench.counters()).toMatchObject({ icmpErrorsSent: 0 });
    expect(bench.wasm.udpLeave(handle, at(GROUP, bench))).toBe(0);
    expect(bench.counted(() => deliver())).toMatchObject({ dropBroadcast: 1 });
  });

  test("in fragments", () => {
    const { bench, handle } = create();
    bench.wasm.udpJoin(handle, at(GROUP, bench));
    const ip = { source: PEER, destination: GROUP, protocol: 17, identification: 9 };
    for (const piece of fragmentIpv4(ip, udp(fields(GROUP), pattern(4000)), 1024))
      bench.inject(ethernet(fromPeer, piece));
    bench.turn();
    expect(receive(bench, handle)?.payload).toEqual(pattern(4000));
  });

  test("the group of all hosts is every host's (RFC 1112 4)", () => {
    const { bench, handle } = create();
    bench.inject(
      ethernet({ ...fromPeer, destination: "01:00:5e:00:00:01" }, udpPacket(fields("224.0.0.1"), pattern(3))),
    );
    bench.turn();
    expect(receive(bench, handle)).toMatchObject({ local: "224.0.0.1" });
  });

  test("the destination tells which address of ours was meant (RFC 1122 4.1.4)", () => {
    const bench = new KernelBench({ build, addresses: [`${OWN}/24`, "10.0.0.9/24"] });
    const handle = bench.wasm.udpBind(-1, 5353);
    for (const to of [OWN, "10.0.0.9"])
      bench.inject(ethernet({ destination: OWN_MAC, source: PEER_MAC }, udpPacket(fields(to), pattern(3))));
    bench.inject(
      ethernet({ destination: "ff:ff:ff:ff:ff:ff", source: PEER_MAC }, udpPacket(fields("10.0.0.255"), pattern(3))),
    );
    bench.turn();
    expect([1, 2, 3].map(() => receive(bench, handle)?.local)).toEqual([OWN, "10.0.0.9", "10.0.0.255"]);
  });

  test("refusals, and limits", () => {
    const { bench, handle } = create();
    const join = (group: string, socket = handle) => bench.wasm.udpJoin(socket, at(group, bench));
    expect(join("10.0.0.1")).toBe(EINVAL);
    expect(join("fd00::1")).toBe(EINVAL);
    expect(join(GROUP)).toBe(0);
    expect(join(GROUP)).toBe(EADDRINUSE);
    expect(join(GROUP, 0)).toBe(EBADF);
    expect(bench.wasm.udpLeave(handle, at("239.9.9.9", bench))).toBe(EADDRNOTAVAIL);
    for (let i = 1; i < 20; i++) expect(join(`239.0.0.${i}`)).toBe(0);
    expect(join("239.0.0.20")).toBe(ENOBUFS);
    // What a socket has joined ends with it.
    expect(bench.wasm.multicastList(bench.area)).toBe(20);
    bench.wasm.udpClose(handle);
    expect(bench.wasm.multicastList(bench.area)).toBe(0);
    // 64 groups in all, however many sockets.
    const sockets = Array.from({ length: 5 }, (_, i) => bench.wasm.udpBind(-1, 6000 + i));
    const joined = Array.from({ length: 80 }, (_, i) => join(`239.0.1.${i}`, sockets[i >> 4]));
    expect(joined.filter((status) => status === 0)).toHaveLength(64);
    expect(joined.slice(64)).toEqual(Array(16).fill(ENOBUFS));
    for (const [option, value] of [
      [OPTION_TOS, 256],
      [OPTION_HOP_LIMIT, -1],
      [OPTION_MULTICAST_LOOP, 2],
      [1, 1],
    ] as const) {
      expect(bench.wasm.udpSetOption(sockets[0] as number, option, value)).toBe(EINVAL);
    }
    expect(bench.wasm.udpSetOption(handle, OPTION_TOS, 1)).toBe(EBADF);
  });

  test("256 memberships in all, however few groups; what ends makes room", () => {
    const { bench } = create();
    const join = (group: string, socket: number) => bench.wasm.udpJoin(socket, at(group, bench));
    const sockets = Array.from({ length: 13 }, (_, i) => bench.wasm.udpBind(-1, 7000 + i));
    const joined = sockets.flatMap((socket) => Array.from({ length: 20 }, (_, i) => join(`239.0.2.${i}`, socket)));
    expect(joined).toEqual([...Array(256).fill(0), ...Array(4).fill(ENOBUFS)]);
    expect(bench.wasm.multicastList(bench.area)).toBe(20);
    bench.wasm.udpClose(sockets[0] as number);
    expect(join("239.0.2.19", sockets[12] as number)).toBe(0);
  });

  test("TOS and TTL of what is sent; to groups a TTL of its own, at first 1", () => {
    const { bench, handle } = create();
    const send = (to: string, bytes = 10) => {
      bench.bytes.set(parseAddress(to), SCRATCH_BASE + 64);
      expect(bench.wasm.udpSendTo(handle, bench.area, bytes, SCRATCH_BASE + 64, 9)).toBe(bytes);
      bench.settle();
      return bench.otherFrames.splice(0).map((frame) => {
        const { destination, payload } = parseEthernet(frame);
        const { tos, ttl } = parseIpv4(payload);
        return { destination, tos, ttl };
      });
    };
    const toPeer = { destination: PEER_MAC, tos: 0, ttl: 64 };
    expect(send(PEER)).toEqual([toPeer]);
    expect(send(GROUP)).toEqual([{ destination: GROUP_MAC, tos: 0, ttl: 1 }]);
    const set = (option: number, value: number) => expect(bench.wasm.udpSetOption(handle, option, value)).toBe(0);
    set(OPTION_TOS, 0xb8);
    set(OPTION_HOP_LIMIT, 9);
    set(OPTION_MULTICAST_HOP_LIMIT, 33);
    const marked = { ...toPeer, tos: 0xb8, ttl: 9 };
    expect(send(PEER)).toEqual([marked]);
    expect(send(PEER, 3000)).toEqual([marked, marked, marked]);
    const toGroup = { destination: GROUP_MAC, tos: 0xb8, ttl: 33 };
    expect(send(GROUP)).toEqual([toGroup]);
    expect(send(GROUP, 3000)).toEqual([toGroup, toGroup, toGroup]);
    // RFC 1112 6.1: 0 does not leave the host.
    set(OPTION_MULTICAST_HOP_LIMIT, 0);
    expect(send(GROUP)).toEqual([]);
  });

  test("IGMP that is damaged, short or no query is counted and dropped", () => {
    const { bench } = create();
    const inject = (payload: Uint8Array) => {
      const packet = ipv4({ source: PEER, destination: "224.0.0.1", protocol: 2, ttl: 1 }, payload);
      bench.inject(ethernet({ ...fromPeer, destination: "01:00:5e:00:00:01" }, packet));
      bench.turn();
    };
    inject(Uint8Array.of(0x11, 100, 0, 0, 0, 0, 0, 0));
    inject(Uint8Array.of(0x16, 0, 0xe9, 0xff, 0, 0, 0, 0));
    expect(bench.counters()).toMatchObject({ dropIgmp: 2, igmpQueries: 0 });
    inject(Uint8Array.of(0x11, 100, 0xee, 0x9b, 0, 0, 0, 0));
    expect(bench.counters()).toMatchObject({ dropIgmp: 2, igmpQueries: 1 });
  });
});

describe.each([1, 3])("groups of a stack with %i kernels", (kernels) => {
  let pair: StackPair | undefined;
  afterEach(async () => {
    await pair?.close();
    pair = undefined;
  });
  const create = async () => {
    pair = await createStackPair({
      clientKernels: kernels,
      serverKernels: kernels,
      segment: { portsMax: 8 },
      client: { address: ["10.7.0.1/24", "fd07::1/64"] },
      server: { address: ["10.7.0.2/24", "fd07::2/64"] },
    });
    return pair;
  };
  const next = async (socket: UdpSocket) => {
    const datagram = await socket.receive();
    return (
      datagram && { text: Buffer.from(datagram.data).toString(), address: datagram.localAddress, ttl: datagram.ttl }
    );
  };

  test.each(["239.7.7.7", "ff02::4321"])(
    "a datagram to %s comes once, also to the stack that has sent it",
    async (group) => {
      const { client, server } = await create();
      const to = await server.bindUdp(7000);
      const from = await client.bindUdp(7000);
      for (const socket of [to, from]) socket.addMembership(group);
      from.send(Buffer.from("first"), { address: group, port: 7000 });
      const first = { text: "first", address: group, ttl: 1 };
      expect(await next(to)).toEqual(first);
      expect(await next(from)).toEqual(first);
      from.setMulticastLoopback(false);
      from.setMulticastTTL(5);
      from.send(Buffer.from("second"), { address: group, port: 7000 });
      to.send(Buffer.from("third"), { address: group, port: 7000 });
      expect(await next(to)).toEqual({ text: "second", address: group, ttl: 5 });
      // Not the second: it does not come back.
      expect(await next(from)).toMatchObject({ text: "third" });
      to.dropMembership(group);
      expect(() => to.dropMembership(group)).toThrow(expect.objectContaining({ code: "EADDRNOTAVAIL" }));
    },
  );

  test("routers are told twice of a group that is joined, and of its end", async () => {
    const { client, server } = await create();
    // The client is in no group that reports go to: it drops them, and counts.
    const socket = await server.bindUdp(7000);
    socket.addMembership("239.7.7.7");
    await expect.poll(async () => (await client.stats()).total.dropBroadcast ?? 0).toBeGreaterThanOrEqual(2);
    await socket.close();
    await expect.poll(async () => (await client.stats()).total.dropBroadcast ?? 0).toBeGreaterThanOrEqual(4);
  });

  test("wrong use", async () => {
    const { server } = await create();
    const socket = await server.bindUdp(7000);
    expect(() => socket.addMembership("10.1.1.1")).toThrow(expect.objectContaining({ code: "EINVAL" }));
    socket.addMembership("239.7.7.7");
    expect(() => socket.addMembership("239.7.7.7")).toThrow(expect.objectContaining({ code: "EADDRINUSE" }));
    expect(() => socket.setTTL(0)).toThrow(expect.objectContaining({ code: "ERR_OPTION_RANGE" }));
    expect(() => socket.setTOS(256)).toThrow(expect.objectContaining({ code: "ERR_OPTION_RANGE" }));
    await socket.close();
    expect(() => socket.addMembership("239.7.7.7")).toThrow(expect.objectContaining({ code: "EBADF" }));
  });
});
