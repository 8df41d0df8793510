import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { ethernet, fragmentIpv4, pattern, udp } from "../helpers/packets.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS } from "../helpers/probeIp.ts";

const SOCKETS = 3;
const fromPeer = { destination: OWN_MAC, source: "02:00:00:00:00:02" };

/** Sizes around the edges of the pool's slots (256 and 2048 bytes with a record of 32) and far beyond. */
const size = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.constantFrom(223, 224, 225, 2015, 2016, 2017, 40_000, 65_507),
  fc.integer({ min: 1000, max: 4000 }),
);
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("deliver" as const), socket: fc.nat(SOCKETS - 1), size }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("receive" as const), socket: fc.nat(SOCKETS - 1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen" as const), socket: fc.nat(SOCKETS - 1) }) },
);

describe.each(PROBE_BUILDS)("UDP receive queues equal plain queues, %s build", (build) => {
  test("no datagram is lost, repeated, changed or given to another socket, but for those counted as dropped", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const probe = new IpProbe({ build, tuning: { udpSocketsMax: SOCKETS } });
        const handles = Array.from({ length: SOCKETS }, (_, i) => probe.wasm.udpBind(-1, 100 + i));
        const queues: Uint8Array[][] = Array.from({ length: SOCKETS }, () => []);
        const receive = (socket: number) => {
          const expected = queues[socket]?.shift();
          const payload = probe.udpReceive(handles[socket] as number)?.payload;
          expect(payload?.length).toBe(expected?.length);
          if (payload && expected) expect(Buffer.compare(payload, expected)).toBe(0);
          return payload !== undefined;
        };
        steps.forEach((now, n) => {
          if (now.kind === "receive") receive(now.socket);
          else if (now.kind === "reopen") {
            probe.wasm.udpClose(handles[now.socket] as number);
            probe.events();
            handles[now.socket] = probe.wasm.udpBind(-1, 100 + now.socket);
            queues[now.socket] = [];
          } else {
            const payload = pattern(now.size, n);
            const fields = {
              source: "10.0.0.2",
              destination: "10.0.0.1",
              sourcePort: 9,
              destinationPort: 100 + now.socket,
            };
            const dropped = probe.counters().dropUdpQueueFull;
            const ip = { source: fields.source, destination: fields.destination, protocol: 17, identification: n };
            for (const piece of fragmentIpv4(ip, udp(fields, payload), 32768)) probe.input(ethernet(fromPeer, piece));
            if (probe.counters().dropUdpQueueFull === dropped) queues[now.socket]?.push(payload);
          }
        });
        for (let socket = 0; socket < SOCKETS; socket++) while (receive(socket)) {}
        expect(probe.counters()).toMatchObject({ gaugeUdpBytes: 0 });
      }),
      { numRuns: 100 },
    );
  });
});
