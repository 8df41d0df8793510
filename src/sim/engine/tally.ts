/** What a run counts beside its clients and its cores' time: packets, losses, and parts of time for the report. */
import { ZERO } from "./doubles.ts";

export class Tally {
  /** Received or sent by the server since the start. */
  simulatedPackets = 0;
  // In the measured span.
  ringFull = 0;
  backlogFull = 0;
  connectionsReset = 0;
  /** Packets for connections that a process has, and those of them that came to the process's core. */
  packets = 0;
  localPackets = 0;
  /** Time spent in softirqs, and in looking listeners up, all cores together. */
  softirqNs = ZERO;
  lookUpNs = ZERO;

  startMeasuring(): void {
    this.ringFull = 0;
    this.backlogFull = 0;
    this.connectionsReset = 0;
    this.packets = 0;
    this.localPackets = 0;
    this.softirqNs = 0;
    this.lookUpNs = 0;
  }
}
