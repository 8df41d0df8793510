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
    { seed: 129, what: "the ACK of a SYN cookie came to another kernel than the SYN, which could not redeem it" },
    { seed: 246, what: "likewise, when a kernel that was back took its entries of the card's tables again" },
    { seed: 622, what: "the model: what a cookie had opened again was stolen by a kernel without any" },
    { seed: 1002, what: "the second segment overtook the first, and another flow's cookie had taken this one's place" },
  ],
  reached: ["accepted", "visitors", "excused", "stolen", "refused filters"],
});
