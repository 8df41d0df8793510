/** Server side of a workload, loaded into every server kernel of a threaded benchmark. */
import { NetPopcornError } from "../errors.ts";
import type { KernelStack } from "../types.ts";
import { AcceptServer } from "./accept.ts";
import { BulkServer } from "./bulk.ts";
import { EchoServer } from "./rr.ts";
import { answerCounts, type ThreadArguments } from "./threadMessages.ts";

export default function server(stack: KernelStack, args: ThreadArguments): void {
  const { handles } = stack;
  switch (args.workload) {
    case "accept": {
      const app = new AcceptServer(handles, args.port, args.backlog);
      answerCounts(stack, "server", () => ({ done: app.accepted, failed: 0 }));
      return;
    }
    case "bulk": {
      const app = new BulkServer(handles, args.port, args.backlog);
      answerCounts(stack, "server", () => ({ done: (app.bytes * 8) / 1e9, failed: 0 }));
      return;
    }
    case "rr":
      new EchoServer(handles, args.port, args.backlog);
      answerCounts(stack, "server", () => ({ done: 0, failed: 0 }));
      return;
    default:
      throw new NetPopcornError("ERR_BENCH", `there is no threaded workload ${args.workload}`);
  }
}
