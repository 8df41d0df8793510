/** Names of ICMP types and codes in scripts. Numbers: RFC 792, RFC 1812, RFC 4443 (IANA's registries). */
import type { AddressFamily } from "../ip/address.ts";

export const ICMP_V4_UNREACHABLE = 3;
export const ICMP_V6_PACKET_TOO_BIG = 2;

type IcmpType = { readonly number: number; readonly codes: Readonly<Record<string, number>> };

const V4: Readonly<Record<string, IcmpType>> = {
  echo_reply: { number: 0, codes: {} },
  unreachable: {
    number: ICMP_V4_UNREACHABLE,
    codes: {
      net_unreachable: 0,
      host_unreachable: 1,
      protocol_unreachable: 2,
      port_unreachable: 3,
      frag_needed: 4,
      source_route_failed: 5,
      net_unknown: 6,
      host_unknown: 7,
      source_host_isolated: 8,
      net_prohibited: 9,
      host_prohibited: 10,
      net_unreachable_for_tos: 11,
      host_unreachable_for_tos: 12,
      packet_filtered: 13,
      precedence_violation: 14,
      precedence_cutoff: 15,
    },
  },
  source_quench: { number: 4, codes: {} },
  redirect: { number: 5, codes: {} },
  echo_request: { number: 8, codes: {} },
  // The codes are FreeBSD's dialect.
  time_exceeded: { number: 11, codes: { ttl_exceeded_in_transit: 0, frag_reass_exceeded: 1 } },
  parameter_problem: { number: 12, codes: {} },
  timestamp_request: { number: 13, codes: {} },
  timestamp_reply: { number: 14, codes: {} },
  information_request: { number: 15, codes: {} },
  information_reply: { number: 16, codes: {} },
  address_mask_request: { number: 17, codes: {} },
  address_mask_reply: { number: 18, codes: {} },
};

const V6: Readonly<Record<string, IcmpType>> = {
  unreachable: {
    number: 1,
    codes: {
      no_route: 0,
      net_unreachable: 0,
      admin_prohibited: 1,
      not_neighbour: 2,
      address_unreachable: 3,
      port_unreachable: 4,
    },
  },
  packet_too_big: { number: ICMP_V6_PACKET_TOO_BIG, codes: {} },
  time_exceeded: { number: 3, codes: { exceeded_hop_limit: 0, exceeded_frag_time: 1 } },
  parameter_problem: { number: 4, codes: { header_field: 0, unknown_next_header: 1, unknown_option: 2 } },
  echo_request: { number: 128, codes: {} },
  echo_reply: { number: 129, codes: {} },
};

/** @returns undefined when the family has no such type, or the type no such code. */
export function icmpNumbers(
  family: AddressFamily,
  type: string,
  code: string | undefined,
): { type: number; code: number } | undefined {
  const found = (family === 4 ? V4 : V6)[type];
  if (!found) return undefined;
  const number = code === undefined ? 0 : /^\d+$/.test(code) ? Number(code) : found.codes[code];
  return number === undefined ? undefined : { type: found.number, code: number };
}

/** The names, or the numbers where there are none. */
export function icmpNames(family: AddressFamily, type: number, code: number): { type: string; code?: string } {
  const [name, found] = Object.entries(family === 4 ? V4 : V6).find(([, entry]) => entry.number === type) ?? [];
  if (name === undefined || found === undefined) return { type: String(type), code: String(code) };
  const codeName = Object.entries(found.codes).find(([, number]) => number === code)?.[0];
  if (codeName !== undefined) return { type: name, code: codeName };
  return code === 0 ? { type: name } : { type: name, code: String(code) };
}
