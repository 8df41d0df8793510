/**
 * The control path of addresses and groups, in the kernel that owns the device: it runs DHCP, autoconfiguration and the
 * reports of groups on this kernel's sockets and control queue. What they decide goes to all kernels
 * (ip/networkChange.ts), this one among them.
 */
import { addressFamily, formatAddress } from "../ip/address.ts";
import { Autoconfiguration } from "../ip/autoconfiguration.ts";
import { parseControl } from "../ip/controlPackets.ts";
import { DhcpClient, type Lease } from "../ip/dhcpClient.ts";
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT } from "../ip/dhcpMessage.ts";
import { parseGroupQuery } from "../ip/groupPackets.ts";
import { GroupReports } from "../ip/groupReports.ts";
import { ownAddress } from "../ip/ownAddresses.ts";
import type { NetworkChange } from "../ip/networkChange.ts";
import { secretOf } from "../ip/stableAddress.ts";
import { ADDRESS_ANY_V4, ADDRESSES_MAX } from "../layout/config.ts";
import { RESULT_BASE, SCRATCH_BASE, SCRATCH_SIZE_BYTES } from "../layout/kernelMemory.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import type { KernelExports } from "../wasm/exports.ts";
import type { KernelConfig } from "./config.ts";
import { firstNsOf } from "./deadline.ts";
import type { Handles } from "./handles.ts";
import { NO_CONTROL } from "./networkPlan.ts";
import type { PortRandom } from "./seed.ts";

const NS_PER_MS = 1e6;
/** Packets of ours are smaller than 1 KiB; the upper half of the scratch page is that of other calls. */
const PACKET_AT = SCRATCH_BASE;
const PACKET_BYTES_MAX = SCRATCH_SIZE_BYTES / 4;
const ADDRESS_AT = SCRATCH_BASE + PACKET_BYTES_MAX;
/** 64 groups: the upper half of the scratch page, which nobody uses across calls. */
const GROUPS_AT = SCRATCH_BASE + SCRATCH_SIZE_BYTES / 2;
const RANDOM_RANGE = 2 ** 30;
const NO_ADDRESS = new Uint8Array(16);

/** What it needs of its kernel (host.ts). */
export interface NetworkHost {
  readonly kernelId: number;
  readonly config: KernelConfig;
  readonly memory: KernelMemory;
  readonly exports: KernelExports;
  readonly handles: Handles;
  /** In the owner's kernel. */
  network: NetworkControl | undefined;
}

export type NetworkControlOptions = {
  readonly host: NetworkHost;
  readonly random: PortRandom;
  readonly change: (change: NetworkChange) => void;
  /** Another station has this address. */
  readonly conflict: (address: string) => void;
};

function mapped(v4: Uint8Array): Uint8Array {
  const address = new Uint8Array(16);
  address.set([0xff, 0xff], 10);
  address.set(v4, 12);
  return address;
}

export class NetworkControl {
  readonly #options: NetworkControlOptions;
  readonly #dhcp: DhcpClient | undefined;
  readonly #autoconfiguration: Autoconfiguration | undefined;
  /** Of both families, once a socket is in a group. */
  #groups: readonly GroupReports[] = [];
  #groupsRevision = 0;
  #socket = -1;
  /** Routes of the present lease. */
  #leaseRoutes: NetworkChange[] = [];
  #leased: Uint8Array | undefined;

  constructor(options: NetworkControlOptions) {
    this.#options = options;
    const { config, exports } = options.host;
    const { dhcp, slaac, linkLocal } = config.network ?? NO_CONTROL;
    const random = () => options.random.draw(0, RANDOM_RANGE - 1) / RANDOM_RANGE;
    if (linkLocal) {
      exports.controlOpen();
      this.#autoconfiguration = new Autoconfiguration({
        mac: config.mac,
        secret: secretOf(config.stackSeed ?? config.seed),
        addresses: config.addresses,
        linkLocal,
        slaac,
        mtuBytes: config.mtuBytes,
        random,
        send: (packet) => this.#sendPacket(packet),
        change: options.change,
        conflict: (address) => options.conflict(formatAddress(address)),
      });
    }
    if (dhcp) this.#dhcp = this.#createDhcp(config.mac, random);
  }

  /** When turn() has something to do, ns; Infinity: never. */
  get nextTurnNs(): number {
    const dhcpMs = this.#dhcp?.deadlineMs ?? Number.POSITIVE_INFINITY;
    let deadlineMs = Math.min(dhcpMs, this.#autoconfiguration?.deadlineMs ?? Number.POSITIVE_INFINITY);
    for (const groups of this.#groups) deadlineMs = Math.min(deadlineMs, groups.deadlineMs);
    return firstNsOf(deadlineMs);
  }

  /** Takes what has come and does what is due. After poll, before flush. */
  turn(nowNs: number): void {
    const nowMs = nowNs / NS_PER_MS;
    const { exports } = this.#options.host;
    if (exports.multicastRevision() !== this.#groupsRevision) this.#updateGroups(nowMs);
    if (this.#autoconfiguration || this.#groups.length > 0) {
      for (let packet = this.#takePacket(); packet; packet = this.#takePacket()) this.#input(packet, nowMs);
      this.#autoconfiguration?.turn(nowMs);
      for (const groups of this.#groups) if (nowMs >= groups.deadlineMs) groups.turn(nowMs);
    }
    if (this.#dhcp) {
      this.#receive(this.#dhcp, nowMs);
      this.#dhcp.turn(nowMs);
    }
  }

  /** Gives back what was lent. @param release false: another kernel goes on with it. */
  close(release: boolean): void {
    if (release) for (const groups of this.#groups) groups.close();
    if (release) this.#dhcp?.close();
    if (this.#socket >= 0) this.#options.host.exports.udpClose(this.#socket);
    this.#socket = -1;
  }

  /** The oldest packet of the kernel's control queue. */
  #takePacket(): Uint8Array | undefined {
    const { memory, exports } = this.#options.host;
    const at = exports.controlPeek() >>> 0;
    if (at === 0) return undefined;
    const packet = memory.bytes.slice(at, at + memory.loadU32(RESULT_BASE));
    exports.controlConsume();
    return packet;
  }

  #input(packet: Uint8Array, nowMs: number): void {
    const query = parseGroupQuery(packet);
    if (query) for (const groups of this.#groups) if (groups.family === query.family) groups.input(query, nowMs);
    const message = this.#autoconfiguration && parseControl(packet);
    if (message) this.#autoconfiguration?.input(message, nowMs);
  }

  /** Sockets have joined or left groups. */
  #updateGroups(nowMs: number): void {
    const { host, random } = this.#options;
    const { exports, memory } = host;
    this.#groupsRevision = exports.multicastRevision();
    if (this.#groups.length === 0) {
      exports.controlOpen();
      this.#groups = ([4, 6] as const).map(
        (family) =>
          new GroupReports({
            family,
            source: () => this.#sourceOf(family),
            random: () => random.draw(0, RANDOM_RANGE - 1) / RANDOM_RANGE,
            send: (packet) => this.#sendPacket(packet),
          }),
      );
    }
    const joined = Array.from({ length: exports.multicastList(GROUPS_AT) }, (_, index) =>
      memory.bytes.slice(GROUPS_AT + 16 * index, GROUPS_AT + 16 * index + 16),
    );
    for (const groups of this.#groups) groups.update(joined, nowMs);
  }

  /** First own address of IPv4, the link-local one of IPv6 (RFC 3810 5.2.13); all zero: there is none. */
  #sourceOf(family: 4 | 6): Uint8Array {
    const { memory } = this.#options.host;
    for (let index = 0; index < ADDRESSES_MAX; index++) {
      const own = ownAddress(memory, index);
      if (!own || addressFamily(own) !== family) continue;
      if (family === 4 ? own[12] !== 127 : own[0] === 0xfe && ((own[1] as number) & 0xc0) === 0x80) return own;
    }
    return NO_ADDRESS;
  }

  #createDhcp(mac: Uint8Array, random: () => number): DhcpClient {
    const { exports } = this.#options.host;
    this.#socket = exports.udpBind(ADDRESS_ANY_V4, DHCP_CLIENT_PORT);
    return new DhcpClient({
      mac,
      random,
      send: (message, to) => this.#sendDatagram(message, to ?? Uint8Array.of(255, 255, 255, 255)),
      probe: (address) => {
        this.#options.host.memory.bytes.set(mapped(address), ADDRESS_AT);
        exports.arpProbe(ADDRESS_AT);
      },
      isProbeAnswered: () => exports.arpProbeAnswered() === 1,
      bound: (lease) => this.#bound(lease),
      lost: (lease) => this.#lost(lease),
    });
  }

  #receive(dhcp: DhcpClient, nowMs: number): void {
    const { handles } = this.#options.host;
    for (let at = handles.udpPeek(this.#socket); at > 0; at = handles.udpPeek(this.#socket)) {
      const bytes = handles.bytes.slice(at, at + handles.available);
      handles.udpConsume(this.#socket);
      dhcp.input(bytes, nowMs);
    }
  }

  #sendPacket(packet: Uint8Array): void {
    if (packet.length > PACKET_BYTES_MAX) return;
    const { memory, exports } = this.#options.host;
    memory.bytes.set(packet, PACKET_AT);
    exports.packetSend(PACKET_AT, packet.length);
  }

  #sendDatagram(message: Uint8Array, to: Uint8Array): void {
    const { memory, exports } = this.#options.host;
    memory.bytes.set(message, PACKET_AT);
    memory.bytes.set(mapped(to), ADDRESS_AT);
    exports.udpSendTo(this.#socket, PACKET_AT, message.length, ADDRESS_AT, DHCP_SERVER_PORT);
  }

  #bound({ address, prefixLength, router, routes }: Lease): void {
    const { change, host } = this.#options;
    host.exports.arpProbe(0);
    if (this.#leased) this.#undoRoutes();
    else change({ type: "addressAdd", address: mapped(address), prefixLength });
    this.#leased = address;
    // RFC 3442: with classless routes the router option does not count.
    const wanted =
      routes.length > 0 ? routes : router ? [{ prefix: NO_ADDRESS.slice(0, 4), prefixLength: 0, gateway: router }] : [];
    for (const { prefix, prefixLength: length, gateway } of wanted) {
      // A gateway of 0.0.0.0: the prefix is on the link.
      const isDirect = gateway.every((byte) => byte === 0);
      const route: NetworkChange = {
        type: "routeSet",
        prefix: mapped(prefix),
        prefixLength: length,
        gateway: isDirect ? NO_ADDRESS : mapped(gateway),
      };
      this.#leaseRoutes.push(route);
      change(route);
    }
  }

  #lost({ address }: Lease): void {
    this.#leased = undefined;
    this.#undoRoutes();
    this.#options.change({ type: "addressRemove", address: mapped(address) });
  }

  #undoRoutes(): void {
    for (const route of this.#leaseRoutes) {
      if (route.type !== "routeSet") continue;
      this.#options.change({ type: "routeRemove", prefix: route.prefix, prefixLength: route.prefixLength });
    }
    this.#leaseRoutes = [];
  }
}

/** Starts the control path in the kernel that owns the device, and ends it in one that no longer does. */
export function controlNetwork(
  host: NetworkHost,
  owner: number,
  random: PortRandom,
  tell: Pick<NetworkControlOptions, "change" | "conflict">,
): void {
  if (owner !== host.kernelId) {
    host.network?.close(false);
    host.network = undefined;
  } else if (!host.network) {
    host.network = new NetworkControl({ host, random, ...tell });
  }
}
