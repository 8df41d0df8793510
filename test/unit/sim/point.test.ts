import { describe, expect, test } from "vitest";
import { costsOf, MACHINE_NAMES, machineNamed } from "../../../src/sim/machines/index.ts";
import { CONSTANT_NAMES, parseMachine } from "../../../src/sim/machines/machine.ts";
import { parsePoint } from "../../../src/sim/point.ts";
import { DESIGNS, WORKLOADS } from "../../../src/sim/types.ts";

const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return `${(error as { code: string }).code}: ${(error as Error).message}`;
  }
  return "none";
};

describe("parsePoint", () => {
  test("every design and workload has a whole default point, which parses to itself", () => {
    for (const design of DESIGNS) {
      for (const workload of WORKLOADS) {
        const point = parsePoint({ design, cores: 4, workload });
        expect(parsePoint(JSON.parse(JSON.stringify(point)))).toEqual(point);
      }
    }
  });

  test("the release is the one that the machine's paper used", () => {
    const os = (machine: string, design: string) => parsePoint({ design, cores: 1, machine }).os;
    expect(os("e5-2697v2", "linux")).toBe("2.6.32");
    expect(os("e5-2695v2", "linux")).toBe("3.2");
    expect(os("e5-2695v2", "affinity-accept")).toBe("2.6.24");
  });

  test.each([
    [{ design: "plan9", cores: 1 }, /ERR_SIM_POINT: design is "plan9"; it must be one of linux,/],
    [{ design: "linux", cores: 0 }, /ERR_SIM_POINT: cores is 0; it must be a number from 1 to 128/],
    [{ design: "linux", cores: 1.5 }, /ERR_SIM_POINT: cores is 1.5; it must be an integer/],
    [{ design: "linux" }, /ERR_SIM_POINT: cores is undefined/],
    [{ design: "linux", cores: 1, colour: "red" }, /ERR_SIM_POINT: there is no option "colour"/],
    [{ design: "linux", cores: 1, machine: "pdp-11" }, /ERR_SIM_MACHINE: there is no machine "pdp-11"/],
    [{ design: "linux", cores: 1, scale: { speed: 2 } }, /ERR_SIM_POINT: scale: there is no constant "speed"/],
    [{ design: "linux", cores: 1, skew: 3 }, /ERR_SIM_POINT: skew must be/],
    [{ design: "linux", cores: 1, thinkMs: [-1] }, /ERR_SIM_POINT: thinkMs must be/],
    ["linux", /ERR_SIM_POINT: a point must be a JSON object/],
  ])("%j is refused", (point, why) => {
    expect(code(() => parsePoint(point))).toMatch(why);
  });
});

describe("machines", () => {
  test.each(MACHINE_NAMES)("%s has every constant, with unit, source and confidence", (name) => {
    const machine = machineNamed(name);
    expect(parseMachine(JSON.parse(JSON.stringify(machine)))).toEqual(machine);
  });

  test("a constant that is missing or has another unit is named", () => {
    const machine = JSON.parse(JSON.stringify(machineNamed("e5-2690")));
    machine.constants.clockGhz.unit = "MHz";
    expect(code(() => parseMachine(machine))).toMatch(/constant "clockGhz": "unit" must be "GHz"/);
    delete machine.constants.clockGhz;
    expect(code(() => parseMachine(machine))).toMatch(/constant "clockGhz" is missing \(GHz\)/);
  });

  test.each([
    "clockGhz",
    "sockets",
    "coresPerSocket",
    "copyBytesPerCycle",
    "linkGbps",
    "nicPacketsPerSec",
    "rssQueues",
    "nicRings",
    "nicRingSlots",
    "napiBudget",
  ])("a machine without %s is no machine", (name) => {
    const machine = JSON.parse(JSON.stringify(machineNamed("e5-2690")));
    machine.constants[name].value = 0;
    expect(code(() => parseMachine(machine))).toMatch(new RegExp(`constant "${name}": "value" must be above 0`));
  });

  test.each([
    ["coresPerSocket", 0.5],
    ["coresPerSocket", 1e9],
    ["sockets", 1.5],
    ["rssQueues", 0.5],
    ["nicRings", 1e9],
    ["nicRingSlots", 1e300],
    ["napiBudget", 0.2],
  ])("a machine whose %s is %d is no machine", (name, value) => {
    const machine = JSON.parse(JSON.stringify(machineNamed("e5-2690")));
    machine.constants[name].value = value;
    expect(code(() => parseMachine(machine))).toMatch(
      new RegExp(`constant "${name}": "value" must be (an integer from 1|a number from 0) to`),
    );
  });

  test("no constant carries the name of a design", () => {
    for (const name of CONSTANT_NAMES) {
      for (const design of DESIGNS) expect(name.toLowerCase()).not.toContain(design.replaceAll("-", ""));
    }
  });

  test("scale multiplies", () => {
    const costs = costsOf(machineNamed("e5-2690"), { synCycles: 1.3 });
    expect(costs.synCycles).toBeCloseTo(1.3 * machineNamed("e5-2690").constants.synCycles.value);
    expect(costs.childCycles).toBe(machineNamed("e5-2690").constants.childCycles.value);
  });
});
