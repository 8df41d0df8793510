/** Telling the application: events of a connection, gathered until they are told (socket/ready.ts). */
import * as E from "../../src/layout/event.ts";
import { readyPush } from "../socket/ready.ts";
import * as T from "./tcb.ts";
import { Tcb } from "./tcb.ts";

/** Tells the application. Before accept the events wait; after tcpClose only the end is told. */
export function eventPost(tcb: Tcb, mask: u32): void {
  const allowed = tcb.flags & T.F_APP_CLOSED ? mask & (E.EVENT_CLOSED | E.EVENT_ERROR) : mask;
  if (allowed == 0) return;
  tcb.events |= <u8>allowed;
  if ((tcb.flags & (T.F_APP | T.F_READY)) != T.F_APP) return;
  tcb.flags |= T.F_READY;
  readyPush(T.tcbIndex(tcb));
}
