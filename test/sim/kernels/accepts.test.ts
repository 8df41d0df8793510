/**
 * Goal: accept takes the oldest connection of a kernel, and none is lost, doubled or accepted twice whatever moves or
 * ends at that moment. Method: acceptRun.ts, which has the model.
 */
import { runAccepts } from "./acceptRun.ts";
import { drawRun } from "./plan.ts";
import { describeSuite } from "./suite.ts";

describeSuite({
  name: "accepts",
  run: runAccepts,
  show: drawRun,
  found: [
    { seed: 14, what: "the model: what was accepted moved with its group before the model had heard of it" },
    { seed: 129, what: "the ACK of a SYN cookie came to another kernel than the SYN, which could not redeem it" },
    { seed: 246, what: "likewise, when a kernel that was back took its entries of the card's tables again" },
    { seed: 381, what: "the model: a group moved with its connections beside a steal" },
    { seed: 531, what: "likewise" },
    { seed: 545, what: "the model: a group and a stolen connection came to a kernel in one turn, of two others" },
    {
      seed: 585,
      what: "the model: what a group's move had brought to a kernel was stolen from it before the next look",
    },
    { seed: 622, what: "the model: what a cookie had opened again was stolen by a kernel without any" },
    { seed: 1002, what: "the second segment overtook the first, and another flow's cookie had taken this one's place" },
    { seed: 1145, what: "the model: two steals between the same kernels were told in one step" },
    { seed: 1218, what: "the model: what a group had brought was taken for what was stolen, and that was left over" },
    { seed: 1999, what: "a stolen connection that came back passed an older one that could not go" },
  ],
  reached: ["accepted", "visitors", "excused", "stolen", "moved with their groups", "refused filters"],
});
