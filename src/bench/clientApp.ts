/** Client side of a workload, loaded into every client kernel of a threaded benchmark. */
import { NetPopcornError } from "../errors.ts";
import { parseAddress } from "../ip/address.ts";
import type { KernelStack } from "../types.ts";
import { AcceptClient } from "./accept.ts";
import { BulkClient } from "./bulk.ts";
import { PingClient } from "./rr.ts";
import { answerCounts, type ThreadArguments } from "./threadMessages.ts";

export default function client(stack: KernelStack, args: ThreadArguments): void {
  const { handles } = stack;
  const server = parseAddress(args.serverAddress);
  switch (args.workload) {
    case "accept": {
      const app = new AcceptClient(handles, server, args.port, 1);
      answerCounts(stack, "client", () => ({ done: app.completed, failed: app.failed }));
      app.fill(args.inFlight);
      break;
    }
    case "bulk": {
      const app = new BulkClient(handles);
      answerCounts(stack, "client", () => ({ done: 0, failed: app.failed }));
      app.open(server, args.port, args.inFlight);
      break;
    }
    case "rr": {
      const app = new PingClient(handles);
      answerCounts(stack, "client", () => ({ done: app.roundTrips, failed: app.failed }));
      app.open(server, args.port, args.inFlight);
      break;
    }
    default:
      throw new NetPopcornError("ERR_BENCH", `there is no threaded workload ${args.workload}`);
  }
  handles.flush();
}
