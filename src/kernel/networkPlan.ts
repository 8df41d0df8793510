/** The options `address`, `gateway` and `routes`, checked. */
import { checkOptions, type Shape } from "../checks.ts";
import { NetPopcornError } from "../errors.ts";
import { addressFamily, type Cidr, parseAddress, parseCidr } from "../ip/address.ts";
import type { NetworkChange } from "../ip/networkChange.ts";
import { LINK_LOCAL_PREFIX, secretOf, stableAddress } from "../ip/stableAddress.ts";

/** Instead of an address: ask a DHCP server for one, take what IPv6 routers advertise. */
export const DHCP = "dhcp";
export const SLAAC = "slaac";

export type RouteOption = {
  /** The network: "10.8.0.0/16", "2001:db8::/32". */
  readonly to: string;
  /** Gateway; none: the network is on the link. */
  readonly via?: string;
};

/** What is to be configured by others than the user. Structured-clonable. */
export type NetworkOptions = {
  readonly dhcp: boolean;
  /** Take addresses and routes that routers advertise. */
  readonly slaac: boolean;
  /** 16 bytes; undefined: the stack does not speak IPv6. */
  readonly linkLocal: Uint8Array | undefined;
  /** Static routes. */
  readonly routes: readonly NetworkChange[];
};

export const NO_CONTROL: NetworkOptions = { dhcp: false, slaac: false, linkLocal: undefined, routes: [] };

export type NetworkPlan = {
  readonly addresses: readonly Cidr[];
  /** IPv4's, 16 bytes; all zero: none. */
  readonly gateway: Uint8Array;
  readonly network: NetworkOptions;
};

const ROUTE_OPTIONS: Shape<RouteOption> = { to: "text", via: "text" };

/** Beside the first of each family, both families together (assembly/ip/gateways.ts). */
const OTHER_GATEWAYS_MAX = 8;
const NO_ADDRESS = new Uint8Array(16);

function isLinkLocal({ address, family }: Cidr): boolean {
  return family === 6 && address[0] === 0xfe && ((address[1] as number) & 0xc0) === 0x80;
}

/**
 * @param mac and @param seed make the link-local address, which every stack that speaks IPv6 has (RFC 4291 2.8).
 * @throws NetPopcornError ERR_ADDRESS_FORMAT, ERR_OPTION_COMBINATION.
 */
export function planNetwork(
  options: {
    readonly address: string | readonly string[];
    readonly gateway?: string | readonly string[];
    readonly routes?: readonly RouteOption[];
  },
  mac: Uint8Array,
  seed: Uint32Array,
): NetworkPlan {
  const texts = [options.address].flat();
  const dhcp = texts.includes(DHCP);
  const slaac = texts.includes(SLAAC);
  const addresses = texts.filter((text) => text !== DHCP && text !== SLAAC).map(parseCidr);
  const speaks = (family: 4 | 6) => addresses.some((cidr) => cidr.family === family) || (family === 4 ? dhcp : slaac);
  let linkLocal: Uint8Array | undefined;
  if (speaks(6)) {
    linkLocal = addresses.find(isLinkLocal)?.address;
    if (!linkLocal) {
      linkLocal = stableAddress(LINK_LOCAL_PREFIX, mac, secretOf(seed), 0);
      addresses.push({ address: linkLocal, prefixLength: 64, family: 6 });
    }
  }
  let gateway: Uint8Array = NO_ADDRESS;
  const routes: NetworkChange[] = [];
  const seen = new Set<number>();
  for (const text of options.gateway === undefined ? [] : [options.gateway].flat()) {
    const address = parseAddress(text);
    const family = addressFamily(address);
    if (!speaks(family)) throw combinationError(`gateway ${text} is of another address family than the own addresses`);
    if (seen.has(family)) {
      routes.push({ type: "gatewayAdd", address });
      const others = routes.filter(({ type }) => type === "gatewayAdd").length;
      if (others > OTHER_GATEWAYS_MAX) throw combinationError(`gateway ${text} is one too many`);
      continue;
    }
    seen.add(family);
    if (family === 4) gateway = address;
    else routes.push({ type: "routeSet", prefix: NO_ADDRESS, prefixLength: 0, gateway: address });
  }
  for (const route of options.routes ?? []) {
    const { to, via } = checkOptions("a route", route, ROUTE_OPTIONS);
    const { address: prefix, prefixLength, family } = parseCidr(to);
    const next = via === undefined ? NO_ADDRESS : parseAddress(via);
    if (!speaks(family) || (via !== undefined && addressFamily(next) !== family)) {
      throw combinationError(
        `the route to ${to} mixes address families, or is of one that the stack has no address of`,
      );
    }
    routes.push({ type: "routeSet", prefix, prefixLength, gateway: next });
  }
  return { addresses, gateway, network: { dhcp, slaac, linkLocal, routes } };
}

function combinationError(message: string): NetPopcornError {
  return new NetPopcornError("ERR_OPTION_COMBINATION", message);
}

/** Own addresses that say what is to be configured by others. */
export function isConfigured(network: NetworkOptions, changes: readonly NetworkChange[]): boolean {
  const has = (family: Cidr["family"]) =>
    changes.some(
      (change) =>
        change.type === "addressAdd" &&
        addressFamily(change.address) === family &&
        !(change.address[0] === 0xfe && ((change.address[1] as number) & 0xc0) === 0x80),
    );
  return (!network.dhcp || has(4)) && (!network.slaac || has(6));
}
