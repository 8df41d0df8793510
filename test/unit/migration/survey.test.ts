/** Counting a group's connections among very many takes several turns, so that no turn takes long. */
import { expect, it } from "vitest";
import type { KernelHost } from "../../../src/kernel/host.ts";
import { MAP_BASE, MAP_TCB_HIGH_WATER, MAP_TCBS } from "../../../src/layout/kernelMemory.ts";
import { TCB_FLAG_APP, TCB_FLAG_IN_FLOW_TABLE, TCB_FLAGS, TCB_PORTS, TCB_SIZE_BYTES } from "../../../src/layout/tcb.ts";
import { EOPNOTSUPP, OK } from "../../../src/layout/status.ts";
import { MigrationAgent } from "../../../src/migration/agent.ts";
import type { Carrier } from "../../../src/migration/carrier.ts";
import type { MigrationAnswer } from "../../../src/migration/request.ts";
import { WALK_BUDGET } from "../../../src/migration/survey.ts";

const TCBS_AT = 4096;
const GROUP = 7;
const GROUPS = 4096;

/** A kernel with so many TCBs in use, one in each group in turn. */
class FakeKernel {
  readonly bytes: Uint8Array;
  readonly agent: MigrationAgent;
  readonly view: DataView;
  turns = 0;

  constructor(tcbs: number) {
    this.bytes = new Uint8Array(TCBS_AT + tcbs * TCB_SIZE_BYTES);
    this.view = new DataView(this.bytes.buffer);
    this.view.setUint32(MAP_BASE + MAP_TCBS, TCBS_AT, true);
    this.view.setUint32(MAP_BASE + MAP_TCB_HIGH_WATER, tcbs, true);
    for (let index = 0; index < tcbs; index++) {
      this.view.setUint32(this.at(index) + TCB_FLAGS, TCB_FLAG_IN_FLOW_TABLE, true);
      this.view.setUint16(this.at(index) + TCB_PORTS, index % GROUPS);
      this.view.setUint16(this.at(index) + TCB_PORTS + 2, 80);
    }
    const host = {
      memory: { bytes: this.bytes, loadU32: (at: number) => this.view.getUint32(at, true) },
      groupRule: { first: 1, last: 0, groups: GROUPS },
      sinkOf: () => undefined,
      handles: { handOver: undefined },
      requestTurn: () => {},
      nowNs: 1,
    };
    this.agent = new MigrationAgent(host as unknown as KernelHost, { sameThread: false } as unknown as Carrier);
  }

  at(index: number): number {
    return TCBS_AT + index * TCB_SIZE_BYTES;
  }

  survey(): MigrationAnswer | undefined {
    let answer: MigrationAnswer | undefined;
    this.agent.handle({ ask: "survey", group: GROUP }, (reply) => {
      answer = reply;
    });
    for (this.turns = 1; !answer && this.turns < 100; this.turns++) {
      expect(this.agent.deadlineNs).toBe(1);
      this.agent.turn(1, true);
    }
    expect(this.agent.deadlineNs).toBe(Number.POSITIVE_INFINITY);
    return answer;
  }
}

it.each([
  { tcbs: WALK_BUDGET, turns: 1 },
  { tcbs: WALK_BUDGET + 1, turns: 2 },
  { tcbs: 3 * WALK_BUDGET, turns: 3 },
])("$tcbs TCBs are looked at in $turns turns", ({ tcbs, turns }) => {
  const kernel = new FakeKernel(tcbs);
  expect(kernel.survey()).toEqual({ status: OK, connections: Math.ceil((tcbs - GROUP) / GROUPS) });
  expect(kernel.turns).toBe(turns);
});

it("one that cannot go is found wherever it is", () => {
  const kernel = new FakeKernel(2 * WALK_BUDGET + GROUP + 1);
  kernel.view.setUint32(kernel.at(2 * WALK_BUDGET + GROUP) + TCB_FLAGS, TCB_FLAG_IN_FLOW_TABLE | TCB_FLAG_APP, true);
  expect(kernel.survey()?.status).toBe(EOPNOTSUPP);
});

it("a survey that is begun anew counts from the beginning, and the one before says nothing", () => {
  const kernel = new FakeKernel(2 * WALK_BUDGET);
  let stale = 0;
  kernel.agent.handle({ ask: "survey", group: GROUP }, () => stale++);
  expect(kernel.survey()?.connections).toBe((2 * WALK_BUDGET) / GROUPS);
  expect(stale).toBe(0);
});
