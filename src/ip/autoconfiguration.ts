/**
 * Stateless address autoconfiguration (RFC 4862) and what belongs to it: duplicate address detection, router and prefix
 * discovery (RFC 4861 6.3), listener reports for our groups (RFC 3810). A state machine without clock, randomness or
 * wire of its own, so that a test can be its network.
 */
import type { Cidr } from "./address.ts";
import { AdvertisedLink } from "./advertisedLink.ts";
import {
  type AdvertisedPrefix,
  type ControlMessage,
  duplicateProbe,
  LISTENER_QUERY,
  listenerReport,
  NEIGHBOR_ADVERTISEMENT,
  NEIGHBOR_SOLICITATION,
  ROUTER_ADVERTISEMENT,
  routerSolicitation,
  solicitedNodeGroup,
  UNSPECIFIED,
} from "./controlPackets.ts";
import type { NetworkChange } from "./networkChange.ts";
import { stableAddress } from "./stableAddress.ts";

/** RFC 4861 10. */
const SOLICITATIONS_MAX = 3;
const SOLICITATION_INTERVAL_MS = 4000;
const SOLICITATION_DELAY_MS = 1000;
/** RFC 4862 5.1 RetransTimer: how long a probe waits for its answer. DupAddrDetectTransmits is 1. */
const PROBE_MS = 1000;
/** RFC 7217 6 IDGEN_RETRIES. */
const ATTEMPTS_MAX = 3;
/** RFC 4862 5.5.3 (e): advertisements that nobody signs cannot shorten a lifetime below two hours. */
const TWO_HOURS_S = 7200;
/** RFC 3810 9.1 robustness: each report is sent twice. */
const REPORT_AGAIN_MS = 1000;
/** So that no router can have us keep more than the kernel holds. */
const PREFIXES_MAX = 8;
const ROUTERS_MAX = 4;
const S = 1000;

export type AutoconfigurationOptions = {
  readonly mac: Uint8Array;
  /** 16 bytes (RFC 7217). */
  readonly secret: Uint8Array;
  /** Own addresses of the configuration, in use from the start. */
  readonly addresses: readonly Cidr[];
  /** Which of them is our link-local one: it may be exchanged for another when somebody has it. */
  readonly linkLocal: Uint8Array;
  /** Ask routers and take what they advertise. */
  readonly slaac: boolean;
  /** Of the device. */
  readonly mtuBytes: number;
  /** 0 <= result < 1. */
  readonly random: () => number;
  readonly send: (packet: Uint8Array) => void;
  readonly change: (change: NetworkChange) => void;
  /** Another station has this address. @param given it is one that the user gave: we go on using it. */
  readonly conflict: (address: Uint8Array, given: boolean) => void;
};

/** An address of ours, in use or still being probed. */
type OwnAddress = {
  readonly address: Uint8Array;
  /** By which prefix it was made; undefined: given. */
  readonly prefix: Uint8Array | undefined;
  readonly attempt: number;
  inUse: boolean;
  deprecated: boolean;
  /** End of the probe; Infinity: passed. */
  probeMs: number;
  preferredUntilMs: number;
  validUntilMs: number;
};

type OnLinkPrefix = { readonly prefix: Uint8Array; readonly prefixLength: number; untilMs: number };
type Router = { readonly address: Uint8Array; preference: number; untilMs: number };

const LINK_LOCAL = (address: Uint8Array): boolean => address[0] === 0xfe && ((address[1] as number) & 0xc0) === 0x80;

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, index) => byte === b[index]);
}

export class Autoconfiguration {
  readonly #options: AutoconfigurationOptions;
  readonly #own: OwnAddress[] = [];
  readonly #prefixes: OnLinkPrefix[] = [];
  readonly #routers: Router[] = [];
  readonly #link: AdvertisedLink;
  #gateway: Router | undefined;
  #others: readonly Router[] = [];
  #solicitations = 0;
  #solicitMs = Number.POSITIVE_INFINITY;
  #reportMs = Number.POSITIVE_INFINITY;
  #reportsLeft = 0;
  #started = false;

  constructor(options: AutoconfigurationOptions) {
    this.#options = options;
    const { mtuBytes, random, change } = options;
    this.#link = new AdvertisedLink({ mtuBytes, random, change: (link) => change({ type: "linkSet", ...link }) });
  }

  /** A router has answered, or there is nothing to wait for. */
  get isConfigured(): boolean {
    return (
      !this.#options.slaac ||
      this.#own.some(({ prefix, inUse }) => inUse && prefix !== undefined && !LINK_LOCAL(prefix))
    );
  }

  start(nowMs: number): void {
    this.#started = true;
    const { addresses, slaac, random } = this.#options;
    for (const { address, family } of addresses) {
      if (family !== 6) continue;
      const isLinkLocal = same(address, this.#options.linkLocal);
      // Deviates: in use while it is probed, in the manner of RFC 4429: a second less until a stack answers.
      this.#probe(this.#remember(address, isLinkLocal ? address : undefined, 0, true), nowMs);
    }
    this.#report(nowMs);
    if (slaac) this.#solicitMs = nowMs + random() * SOLICITATION_DELAY_MS;
  }

  /** When turn() has something to do; Infinity: never. */
  get deadlineMs(): number {
    if (!this.#started) return 0;
    let next = Math.min(this.#solicitMs, this.#reportMs, this.#link.deadlineMs);
    for (const { probeMs, preferredUntilMs, validUntilMs, deprecated } of this.#own) {
      next = Math.min(next, probeMs, validUntilMs, deprecated ? Number.POSITIVE_INFINITY : preferredUntilMs);
    }
    for (const { untilMs } of this.#prefixes) next = Math.min(next, untilMs);
    for (const { untilMs } of this.#routers) next = Math.min(next, untilMs);
    return next;
  }

  turn(nowMs: number): void {
    if (!this.#started) this.start(nowMs);
    if (nowMs >= this.#solicitMs) this.#solicit(nowMs);
    if (nowMs >= this.#reportMs) this.#sendReport(nowMs);
    for (const own of [...this.#own]) this.#age(own, nowMs);
    for (const prefix of this.#prefixes.filter(({ untilMs }) => nowMs >= untilMs)) this.#dropPrefix(prefix);
    for (const router of this.#routers.filter(({ untilMs }) => nowMs >= untilMs)) {
      this.#routers.splice(this.#routers.indexOf(router), 1);
    }
    this.#link.turn(nowMs);
    this.#chooseRouter();
  }

  input(message: ControlMessage, nowMs: number): void {
    switch (message.type) {
      case ROUTER_ADVERTISEMENT:
        if (this.#options.slaac) this.#advertised(message, nowMs);
        break;
      case NEIGHBOR_SOLICITATION:
        this.#claimed(message.target, false, nowMs);
        break;
      case NEIGHBOR_ADVERTISEMENT:
        this.#claimed(message.target, true, nowMs);
        // RFC 4861 7.2.5: it says itself that it is no router any more.
        if (!message.isRouter) this.#hearRouter(message.target, 0, 0, false);
        this.#chooseRouter();
        break;
      case LISTENER_QUERY:
        this.#reportsLeft = Math.max(this.#reportsLeft, 1);
        this.#reportMs = Math.min(this.#reportMs, nowMs + this.#options.random() * message.responseMs);
        break;
    }
  }

  // Addresses.

  #remember(address: Uint8Array, prefix: Uint8Array | undefined, attempt: number, inUse: boolean): OwnAddress {
    const forever = Number.POSITIVE_INFINITY;
    const own: OwnAddress = {
      address,
      prefix,
      attempt,
      inUse,
      deprecated: false,
      probeMs: forever,
      preferredUntilMs: forever,
      validUntilMs: forever,
    };
    this.#own.push(own);
    return own;
  }

  #probe(own: OwnAddress, nowMs: number): void {
    own.probeMs = nowMs + (this.#link.retransMs || PROBE_MS);
    this.#options.send(duplicateProbe(own.address));
  }

  #age(own: OwnAddress, nowMs: number): void {
    const { change } = this.#options;
    if (nowMs >= own.probeMs) {
      own.probeMs = Number.POSITIVE_INFINITY;
      if (!own.inUse) change({ type: "addressAdd", address: own.address, prefixLength: 128 });
      own.inUse = true;
    }
    if (nowMs >= own.validUntilMs) {
      this.#forget(own);
    } else if (own.deprecated !== nowMs >= own.preferredUntilMs) {
      own.deprecated = !own.deprecated;
      if (own.inUse) change({ type: "addressDeprecate", address: own.address, deprecated: own.deprecated });
    }
  }

  #forget(own: OwnAddress): void {
    this.#own.splice(this.#own.indexOf(own), 1);
    if (own.inUse) this.#options.change({ type: "addressRemove", address: own.address });
  }

  /** Somebody else has, or wants, this address. */
  #claimed(target: Uint8Array, isTaken: boolean, nowMs: number): void {
    const own = this.#own.find(({ address }) => same(address, target));
    if (!own) return;
    const isProbed = own.probeMs !== Number.POSITIVE_INFINITY;
    // A probe for an address that we have is answered by the kernel; nobody has taken it yet.
    if (!isProbed && !isTaken) return;
    this.#options.conflict(target, own.prefix === undefined);
    if (own.prefix === undefined || !isProbed) {
      own.probeMs = Number.POSITIVE_INFINITY;
      return;
    }
    this.#forget(own);
    const { prefix, attempt } = own;
    if (attempt + 1 < ATTEMPTS_MAX) this.#make(prefix, attempt + 1, own, nowMs);
  }

  /** An address of ours with this prefix. */
  #make(prefix: Uint8Array, attempt: number, lifetimes: Lifetimes, nowMs: number): void {
    const { mac, secret } = this.#options;
    const address = stableAddress(prefix, mac, secret, attempt);
    const own = this.#remember(address, prefix, attempt, false);
    own.preferredUntilMs = lifetimes.preferredUntilMs;
    own.validUntilMs = lifetimes.validUntilMs;
    this.#report(nowMs);
    this.#probe(own, nowMs);
  }

  // Routers and prefixes.

  #solicit(nowMs: number): void {
    const source = this.#own.find(({ address, inUse }) => inUse && LINK_LOCAL(address));
    if (source) this.#options.send(routerSolicitation(source.address, this.#options.mac));
    this.#solicitations++;
    // Deviates: RFC 4861 6.3.7 gives up after three; a router that comes later advertises by itself.
    const isOver = this.#solicitations >= SOLICITATIONS_MAX;
    this.#solicitMs = isOver ? Number.POSITIVE_INFINITY : nowMs + SOLICITATION_INTERVAL_MS;
  }

  #advertised(message: ControlMessage & { type: typeof ROUTER_ADVERTISEMENT }, nowMs: number): void {
    this.#solicitMs = Number.POSITIVE_INFINITY;
    this.#hearRouter(message.source, message.preference, nowMs + message.routerS * S, message.routerS > 0);
    this.#link.input(message.link, nowMs);
    for (const prefix of message.prefixes) {
      // RFC 4862 5.5.3 (b), (c); RFC 4861 6.3.4: link-local prefixes are none, preference cannot outlive validity.
      if (LINK_LOCAL(prefix.prefix) || prefix.prefix[0] === 0xff || prefix.preferredS > prefix.validS) continue;
      if (prefix.prefixLength > 128) continue;
      if (prefix.onLink) this.#hearOnLink(prefix, nowMs);
      if (prefix.autonomous && prefix.prefixLength === 64) this.#hearAutonomous(prefix, nowMs);
    }
    this.#chooseRouter();
  }

  #hearRouter(address: Uint8Array, preference: number, untilMs: number, isRouter: boolean): void {
    const known = this.#routers.find((router) => same(router.address, address));
    if (known) {
      known.preference = preference;
      known.untilMs = untilMs;
      if (!isRouter) this.#routers.splice(this.#routers.indexOf(known), 1);
    } else if (isRouter && this.#routers.length < ROUTERS_MAX) {
      this.#routers.push({ address, preference, untilMs });
    }
  }

  /** The most preferred router (RFC 4191 3.2), of equals the one known longest. */
  #chooseRouter(): void {
    let best: Router | undefined;
    for (const router of this.#routers) if (!best || router.preference > best.preference) best = router;
    const { change } = this.#options;
    // The others are used while the best one does not answer (RFC 4861 6.3.6).
    const others = this.#routers.filter((router) => router !== best);
    for (const { address } of this.#others.filter((router) => !others.includes(router))) {
      change({ type: "gatewayRemove", address });
    }
    for (const { address } of others.filter((router) => !this.#others.includes(router))) {
      change({ type: "gatewayAdd", address });
    }
    this.#others = others;
    if (best === this.#gateway) return;
    this.#gateway = best;
    if (best) change({ type: "routeSet", prefix: UNSPECIFIED, prefixLength: 0, gateway: best.address });
    else change({ type: "routeRemove", prefix: UNSPECIFIED, prefixLength: 0 });
  }

  #hearOnLink({ prefix, prefixLength, validS }: AdvertisedPrefix, nowMs: number): void {
    const isKnown = (entry: OnLinkPrefix) => entry.prefixLength === prefixLength && same(entry.prefix, prefix);
    const known = this.#prefixes.find(isKnown);
    if (known) {
      known.untilMs = nowMs + validS * S;
      if (validS === 0) this.#dropPrefix(known);
    } else if (validS > 0 && this.#prefixes.length < PREFIXES_MAX) {
      this.#prefixes.push({ prefix, prefixLength, untilMs: nowMs + validS * S });
      this.#options.change({ type: "routeSet", prefix, prefixLength, gateway: UNSPECIFIED });
    }
  }

  #dropPrefix(entry: OnLinkPrefix): void {
    this.#prefixes.splice(this.#prefixes.indexOf(entry), 1);
    this.#options.change({ type: "routeRemove", prefix: entry.prefix, prefixLength: entry.prefixLength });
  }

  #hearAutonomous({ prefix, validS, preferredS }: AdvertisedPrefix, nowMs: number): void {
    const known = this.#own.find((own) => own.prefix && !LINK_LOCAL(own.prefix) && same(own.prefix, prefix));
    const preferredUntilMs = nowMs + preferredS * S;
    if (known) {
      known.preferredUntilMs = preferredUntilMs;
      const leftS = (known.validUntilMs - nowMs) / S;
      if (validS > TWO_HOURS_S || validS > leftS) known.validUntilMs = nowMs + validS * S;
      else if (leftS > TWO_HOURS_S) known.validUntilMs = nowMs + TWO_HOURS_S * S;
      this.#age(known, nowMs);
      return;
    }
    const made = this.#own.filter((own) => own.prefix && !LINK_LOCAL(own.prefix)).length;
    if (validS === 0 || made >= PREFIXES_MAX) return;
    this.#make(prefix, 0, { preferredUntilMs, validUntilMs: nowMs + validS * S }, nowMs);
  }

  // Groups.

  /** Tells listeners of multicast (switches that snoop) which groups we are in, now and once more. */
  #report(nowMs: number): void {
    this.#reportsLeft = 2;
    this.#sendReport(nowMs);
  }

  #sendReport(nowMs: number): void {
    const groups: Uint8Array[] = [];
    for (const { address } of this.#own) {
      const group = solicitedNodeGroup(address);
      if (!groups.some((other) => same(other, group))) groups.push(group);
    }
    // RFC 3590: from :: while our link-local address is still being probed.
    const source = this.#own.find(
      ({ address, inUse, probeMs }) => inUse && LINK_LOCAL(address) && probeMs === Number.POSITIVE_INFINITY,
    );
    if (groups.length > 0) this.#options.send(listenerReport(source?.address ?? UNSPECIFIED, groups));
    this.#reportsLeft--;
    this.#reportMs = this.#reportsLeft > 0 ? nowMs + REPORT_AGAIN_MS : Number.POSITIVE_INFINITY;
  }
}

type Lifetimes = Pick<OwnAddress, "preferredUntilMs" | "validUntilMs">;
