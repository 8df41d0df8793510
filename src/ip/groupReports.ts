/**
 * The host's side of IGMP (RFC 3376, with RFC 2236 and RFC 1112 where a router speaks them) or of MLD (RFC 3810, RFC
 * 2710): tells routers and switches which groups this host's sockets are in. A state machine without clock, randomness
 * or wire of its own, so that a test can be its network.
 *
 * Sources are not filtered: a socket hears of everybody who sends to its group, so all states are "exclude nobody".
 * Deviates: an answer that another host gives first does not keep back ours (RFC 2236 3, in older versions), nor does
 * it keep us from telling that we leave: switches that snoop want to hear of every host.
 */
import { type AddressFamily, formatAddress } from "./address.ts";
import { type GroupQuery, type GroupRecord, groupReport, type GroupVersion, olderReport } from "./groupPackets.ts";

/** RFC 3376 8.1, 8.11: changes are told this often, the second time within this time. */
const ROBUSTNESS = 2;
const UNSOLICITED_MS = 1000;
/** RFC 2236 8.10. */
const UNSOLICITED_OLDER_MS = 10_000;
/** RFC 3376 8.12: 2 query intervals of 125 s and a response of 10 s; so long a router of an older version is there. */
const OLDER_ROUTER_MS = 260_000;
/** Deviates: no answer comes sooner, however urgently it is asked for, so that a flood of queries makes no flood. */
const RESPONSE_MS_MIN = 100;
/** What fits a packet of the control path. */
const RECORDS_MAX = 40;
const NEVER = Number.POSITIVE_INFINITY;

export type GroupReportsOptions = {
  readonly family: AddressFamily;
  /** Own address to speak from, 16 bytes; all zero: none yet. */
  readonly source: () => Uint8Array;
  /** 0 <= result < 1. */
  readonly random: () => number;
  readonly send: (packet: Uint8Array) => void;
};

type Group = {
  readonly address: Uint8Array;
  isIn: boolean;
  /** How often the last change is still to be told, and when. */
  changesLeft: number;
  changeMs: number;
  /** When a query is to be answered. */
  answerMs: number;
};

export class GroupReports {
  readonly #options: GroupReportsOptions;
  readonly #groups = new Map<string, Group>();
  /** Until when routers of older versions are there. */
  readonly #olderUntilMs = { first: 0, previous: 0 };
  #nowMs = 0;

  constructor(options: GroupReportsOptions) {
    this.#options = options;
  }

  get family(): AddressFamily {
    return this.#options.family;
  }

  /** When turn() has something to do; Infinity: never. */
  get deadlineMs(): number {
    let next = NEVER;
    for (const { changeMs, answerMs } of this.#groups.values()) next = Math.min(next, changeMs, answerMs);
    return next;
  }

  /** By which version routers are spoken to now (RFC 3376 7.2.1). */
  get version(): GroupVersion {
    if (this.#nowMs < this.#olderUntilMs.first) return "first";
    return this.#nowMs < this.#olderUntilMs.previous ? "previous" : "current";
  }

  /** Sockets are in these groups now, 16 bytes each; those of another family are passed over. */
  update(addresses: readonly Uint8Array[], nowMs: number): void {
    this.#nowMs = nowMs;
    const wanted = new Set(addresses.filter((address) => this.#isReported(address)).map(formatAddress));
    for (const address of addresses) {
      const name = formatAddress(address);
      if (!wanted.has(name) || this.#groups.get(name)?.isIn) continue;
      this.#groups.set(name, { address: address.slice(), isIn: true, ...this.#change() });
    }
    for (const [name, group] of this.#groups) {
      if (group.isIn && !wanted.has(name)) Object.assign(group, { isIn: false, ...this.#change() });
    }
    this.turn(nowMs);
  }

  input({ version, group, responseMs }: GroupQuery, nowMs: number): void {
    this.#nowMs = nowMs;
    if (version !== "current") this.#olderUntilMs[version] = nowMs + OLDER_ROUTER_MS;
    const limitMs = Math.max(responseMs, RESPONSE_MS_MIN);
    // One time for all where one report tells of all.
    const shared = this.#options.random();
    for (const own of this.#groups.values()) {
      if (!own.isIn || (group && !group.every((byte, i) => byte === own.address[i]))) continue;
      const part = this.version === "current" ? shared : this.#options.random();
      own.answerMs = Math.min(own.answerMs, nowMs + RESPONSE_MS_MIN + part * (limitMs - RESPONSE_MS_MIN));
    }
  }

  turn(nowMs: number): void {
    this.#nowMs = nowMs;
    const records: GroupRecord[] = [];
    for (const [name, group] of this.#groups) {
      if (nowMs >= group.changeMs) {
        records.push({ type: group.isIn ? "joined" : "left", group: group.address });
        group.changesLeft--;
        const again = this.version === "current" ? UNSOLICITED_MS : UNSOLICITED_OLDER_MS;
        group.changeMs = group.changesLeft > 0 ? nowMs + this.#options.random() * again : NEVER;
        if (!group.isIn && group.changesLeft === 0) this.#groups.delete(name);
      }
      if (nowMs < group.answerMs) continue;
      group.answerMs = NEVER;
      if (group.isIn) records.push({ type: "is", group: group.address });
    }
    this.#send(records);
  }

  /** The host goes away: routers need not wait for an answer. */
  close(): void {
    const records: GroupRecord[] = [];
    for (const { address } of this.#groups.values()) records.push({ type: "left", group: address });
    this.#groups.clear();
    this.#send(records);
  }

  /** A change, to be told at once and once more. */
  #change(): Pick<Group, "changesLeft" | "changeMs" | "answerMs"> {
    return { changesLeft: ROBUSTNESS, changeMs: this.#nowMs, answerMs: NEVER };
  }

  /** All hosts are in the group of all hosts, and groups within the host are nobody's business (RFC 3376 5, 3810 6). */
  #isReported(address: Uint8Array): boolean {
    const text = formatAddress(address);
    if (this.#options.family === 4) return text.includes(".") && text !== "224.0.0.1";
    return text.startsWith("ff") && text !== "ff02::1" && ((address[1] as number) & 15) >= 2;
  }

  #send(records: readonly GroupRecord[]): void {
    const { family, send } = this.#options;
    const { version } = this;
    const source = this.#options.source();
    if (version === "current") {
      for (let at = 0; at < records.length; at += RECORDS_MAX) {
        send(groupReport(family, source, records.slice(at, at + RECORDS_MAX)));
      }
      return;
    }
    for (const record of records) {
      const packet = olderReport(family, version, source, record);
      if (packet) send(packet);
    }
  }
}
