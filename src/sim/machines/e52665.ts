/** IX's testbed (OSDI 2014): one 8-core Xeon E5-2665, X520 (82599), one port, 18 clients. */
import { CARD_82599, constantsOf, LINUX_COSTS, MESSAGE_COSTS, USER_STACK_COSTS } from "./common.ts";
import { IVY_BRIDGE } from "./e52695v2.ts";
import type { Machine } from "./machine.ts";

export const e52665: Machine = {
  name: "e5-2665",
  description: "IX's: 8 cores at 2.4 GHz in one socket, 82599",
  constants: constantsOf(LINUX_COSTS, USER_STACK_COSTS, MESSAGE_COSTS, CARD_82599, IVY_BRIDGE, [
    ["clockGhz", 2.4, "measured", "IX, section 5.1; power management off"],
    ["sockets", 1, "measured", "IX, section 5.1"],
    ["coresPerSocket", 8, "measured", "IX, section 5.1; two hardware threads each, which are not modelled"],
    ["steerSamplePackets", 0, "prior", "the authors' script sets every packet or none (bench/prep.sh); none assumed"],
    ["clientFramesPerSecMax", 0, "prior", "18 clients; no cap is seen"],
  ]),
};
