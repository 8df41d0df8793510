import { describe, expect, test } from "vitest";
import { Connections } from "../../../../src/sim/engine/connections.ts";
import { TransmitSteering } from "../../../../src/sim/engine/transmitSteering.ts";
import { parsePoint } from "../../../../src/sim/point.ts";
import { runPoint } from "../../../../src/sim/run.ts";
import { machineNamed } from "../../../../src/sim/machines/index.ts";
import { type Machine, parseMachine } from "../../../../src/sim/machines/machine.ts";

function steering(rings = 4, filtersMax = 100): { connections: Connections; steered: TransmitSteering } {
  const connections = new Connections(100, 0);
  for (let slot = 0; slot < 100; slot++) connections.begin(slot);
  return { connections, steered: new TransmitSteering(connections, 8, rings, 20, filtersMax) };
}

describe("a driver that steers by what cores send", () => {
  test("takes every SYN and every twentieth packet of a core, whichever connection it is of", () => {
    const { steered } = steering();
    expect(steered.sent(1, 0, 1, true)).toBe(true);
    expect(steered.queueOf(0)).toBe(1);
    for (let i = 0; i < 19; i++) expect(steered.sent(2, i % 5, 1, false)).toBe(false);
    // Another core's packets are counted apart, and FINs write nothing.
    expect(steered.sent(3, 0, 19, false)).toBe(false);
    steered.sentLast(3, 5);
    expect(steered.sent(2, 0, 1, false)).toBe(true);
    expect(steered.queueOf(0)).toBe(2);
    expect(steered.sent(3, 7, 1, false)).toBe(true);
    expect(steered.queueOf(7)).toBe(3);
    expect(steered.queueOf(8)).toBe(-1);
  });

  test("has no queue for cores beyond the rings, and forgets a connection with its slot", () => {
    const { connections, steered } = steering(2);
    expect(steered.sent(2, 0, 1, true)).toBe(false);
    expect(steered.queueOf(0)).toBe(-1);
    steered.sent(1, 0, 1, true);
    connections.begin(0);
    expect(steered.queueOf(0)).toBe(-1);
  });

  test("empties its table when 64 places are left", () => {
    const { steered } = steering(4, 74);
    for (let slot = 0; slot < 9; slot++) steered.sent(1, slot, 1, true);
    // A filter that is there already takes no place.
    steered.sent(2, 3, 1, true);
    expect(steered.queueOf(0)).toBe(1);
    expect(steered.queueOf(3)).toBe(2);
    steered.sent(1, 50, 1, true);
    expect(steered.queueOf(0)).toBe(-1);
    expect(steered.queueOf(3)).toBe(-1);
  });
});

/** The machine with one constant replaced. */
function unsteered(name: string): Machine {
  const machine = machineNamed(name);
  const constant = { ...machine.constants.steerSamplePackets, value: 0 };
  return parseMachine({ ...machine, constants: { ...machine.constants, steerSamplePackets: constant } });
}

test("long connections of a shared listener come to their processes' cores, short ones do not", async () => {
  const share = async (requestsPerConn: number, machine: string | Machine) => {
    const load = { workload: "rpc", procsPerCore: 1, timeWaitS: 0, concurrency: 200, durationS: 0.05 } as const;
    const result = await runPoint(parsePoint({ design: "linux", cores: 4, machine, requestsPerConn, ...load }));
    expect(result.failedConnections).toBe(0);
    return result.localPacketShare;
  };
  expect(await share(128, "e5-2690")).toBeGreaterThan(0.7);
  expect(await share(128, unsteered("e5-2690"))).toBeLessThan(0.4);
  expect(await share(1, "e5-2690")).toBeLessThan(0.45);
});
