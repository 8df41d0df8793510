import { describe, expect, test } from "vitest";
import { parsePoint } from "../../../../src/sim/point.ts";
import { canonicalJson, planCells, pointName, taskKey } from "../../../../src/sim/sweep/plan.ts";

const point = parsePoint({ design: "linux", cores: 4, workload: "web-epoll" });

describe("keys", () => {
  test("are the same for the same simulation, however its fields are ordered", () => {
    const turned = Object.fromEntries(Object.entries(point).reverse()) as typeof point;
    expect(Object.keys(turned)).not.toEqual(Object.keys(point));
    expect(taskKey(turned, "build")).toBe(taskKey(point, "build"));
    expect(canonicalJson({ b: [2, { d: 1, c: 2 }], a: 1 })).toBe('{"a":1,"b":[2,{"c":2,"d":1}]}');
  });

  test("differ for another point and another build", () => {
    const keys = [
      taskKey(point, "build"),
      taskKey(point, "other"),
      taskKey({ ...point, seed: 2 }, "build"),
      taskKey({ ...point, scale: { clockGhz: 1.3 } }, "build"),
      taskKey({ ...point, traceMs: 2 }, "build"),
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });

  test("can be identities of jobs: no colon, no integer", () => {
    expect(taskKey(point, "build")).toMatch(/^p[0-9a-f]{32}$/);
  });
});

test("a cell has a task for each repeat, with its own seed; the first is the user's", () => {
  const [cell] = planCells([{ ...point, seed: 0xffffffff }], 3, "build");
  const seeds = cell?.tasks.map((task) => task.point.seed) ?? [];
  expect(seeds[0]).toBe(0xffffffff);
  expect(new Set(seeds).size).toBe(3);
  for (const seed of seeds) expect(() => parsePoint({ ...point, seed })).not.toThrow();
  expect(planCells([point], 3, "build")).toEqual(planCells([point], 3, "build"));
});

test("names read well", () => {
  expect(pointName(point)).toBe("linux at 4 cores");
  expect(pointName({ ...point, cores: 1 })).toBe("linux at 1 core");
});
