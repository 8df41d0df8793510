/**
 * Text forms of addresses. Inside NetPopcorn every IP address is 16 bytes in network order, IPv4 as ::ffff:a.b.c.d
 * (RFC 4291 2.5.5.2). Parsing is strict: what is ambiguous elsewhere (leading zeros, short IPv4 forms) is refused.
 */
import { NetPopcornError } from "../errors.ts";

export const ADDRESS_BYTES = 16;
const MAC_BYTES = 6;

export type AddressFamily = 4 | 6;

export type Cidr = {
  /** 16 bytes, with the host bits as they were written. */
  readonly address: Uint8Array;
  /** In the family's own bits: 0..32 for IPv4, 0..128 for IPv6. */
  readonly prefixLength: number;
  readonly family: AddressFamily;
};

/** Bits before the IPv4 address in an IPv4-mapped one. */
const MAPPED_PREFIX_BITS = 96;

/**
 * @param text "10.7.0.2", "2001:db8::1" or "::ffff:10.7.0.2".
 * @returns 16 bytes, IPv4 as ::ffff:a.b.c.d.
 * @throws NetPopcornError ERR_ADDRESS_FORMAT.
 */
export function parseAddress(text: string): Uint8Array<ArrayBuffer> {
  const isColonForm = typeof text === "string" && text.includes(":");
  const address = isColonForm ? findAddressV6(text) : findMappedV4(text);
  if (address === undefined) {
    throw addressFormatError(text, "an IP address", "10.7.0.2 or fd07::2");
  }
  return address;
}

/** @returns "10.7.0.2" for IPv4-mapped addresses, otherwise the canonical form of RFC 5952. */
export function formatAddress(address: Uint8Array): string {
  if (address.length !== ADDRESS_BYTES) {
    throw new NetPopcornError("EINVAL", `an address has ${ADDRESS_BYTES} bytes, this one has ${address.length}`);
  }
  if (addressFamily(address) === 4) return address.subarray(12).join(".");
  const groups: number[] = [];
  for (let at = 0; at < ADDRESS_BYTES; at += 2) groups.push(((address[at] ?? 0) << 8) | (address[at + 1] ?? 0));
  const zeros = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (zeros.count < 2) return hex.join(":"); // RFC 5952 4.2.2: one zero group alone is not shortened.
  return `${hex.slice(0, zeros.first).join(":")}::${hex.slice(zeros.first + zeros.count).join(":")}`;
}

/** 4 for IPv4-mapped addresses, otherwise 6. */
export function addressFamily(address: Uint8Array): AddressFamily {
  for (let at = 0; at < 10; at++) if (address[at] !== 0) return 6;
  return address[10] === 0xff && address[11] === 0xff ? 4 : 6;
}

/**
 * @param text address and prefix length: "10.7.0.2/24", "fd07::2/64".
 * @throws NetPopcornError ERR_ADDRESS_FORMAT.
 */
export function parseCidr(text: string): Cidr {
  const slash = typeof text === "string" ? text.indexOf("/") : -1;
  const prefixText = slash < 0 ? "" : text.slice(slash + 1);
  const addressText = slash < 0 ? "" : text.slice(0, slash);
  const isColonForm = addressText.includes(":");
  const address = isColonForm ? findAddressV6(addressText) : findMappedV4(addressText);
  if (address === undefined || !/^(0|[1-9][0-9]{0,2})$/.test(prefixText)) {
    throw addressFormatError(text, "an address with its prefix length", "10.7.0.2/24 or fd07::2/64");
  }
  const family = addressFamily(address);
  // ::ffff:10.7.0.2/120 counts its prefix in IPv6 bits.
  const prefixLength = Number(prefixText) - (family === 4 && isColonForm ? MAPPED_PREFIX_BITS : 0);
  const prefixLengthMax = family === 4 ? 32 : 128;
  if (prefixLength < 0 || prefixLength > prefixLengthMax) {
    throw addressFormatError(
      text,
      `an IPv${family} prefix length of 0..${prefixLengthMax}`,
      "10.7.0.2/24 or fd07::2/64",
    );
  }
  return { address, prefixLength, family };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatAddress(cidr.address)}/${cidr.prefixLength}`;
}

/**
 * @param text "02:00:5e:10:00:01", also with "-".
 * @returns 6 bytes.
 * @throws NetPopcornError ERR_ADDRESS_FORMAT.
 */
export function parseMac(text: string): Uint8Array<ArrayBuffer> {
  if (!/^[0-9a-f]{2}([:-])[0-9a-f]{2}(\1[0-9a-f]{2}){4}$/i.test(text)) {
    throw addressFormatError(text, "an Ethernet address", "02:00:5e:10:00:01");
  }
  return Uint8Array.from(text.split(/[:-]/), (byte) => Number.parseInt(byte, 16));
}

/** @returns "02:00:5e:10:00:01". @param mac 6 bytes. @throws NetPopcornError EINVAL. */
export function formatMac(mac: Uint8Array): string {
  if (mac.length !== MAC_BYTES) {
    throw new NetPopcornError("EINVAL", `an Ethernet address has ${MAC_BYTES} bytes, this one has ${mac.length}`);
  }
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function addressFormatError(given: unknown, expected: string, example: string): NetPopcornError {
  // What was given may be anything: keep the message one line of bounded length.
  const text = String(given);
  const cut = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  const shown = typeof given === "string" ? JSON.stringify(cut) : cut;
  return new NetPopcornError("ERR_ADDRESS_FORMAT", `${shown} is not ${expected}; write it like ${example}`);
}

/** Four decimal bytes without leading zeros, which some programs read as octal. */
function findBytesV4(text: string): number[] | undefined {
  const parts = typeof text === "string" ? text.split(".") : [];
  if (parts.length !== 4) return undefined;
  const bytes: number[] = [];
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    bytes.push(Number(part));
  }
  return bytes;
}

function findMappedV4(text: string): Uint8Array<ArrayBuffer> | undefined {
  const bytes = findBytesV4(text);
  if (bytes === undefined) return undefined;
  const address = new Uint8Array(ADDRESS_BYTES);
  address[10] = 0xff;
  address[11] = 0xff;
  address.set(bytes, 12);
  return address;
}

/** RFC 4291 2.2: eight groups, one "::" for a run of zero groups, the last two groups perhaps as IPv4. No zone. */
function findAddressV6(text: string): Uint8Array<ArrayBuffer> | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const front = findGroups(halves[0] ?? "", halves.length === 1);
  const back = halves.length === 2 ? findGroups(halves[1] ?? "", true) : [];
  if (front === undefined || back === undefined) return undefined;
  const missing = 8 - front.length - back.length;
  // Without "::" all eight are there; with it, it stands for at least one group.
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...front, ...new Array<number>(missing).fill(0), ...back];
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}

/** The 16-bit groups of one side of "::"; `isLast`: an IPv4 address may stand at its end. */
function findGroups(text: string, isLast: boolean): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [index, part] of parts.entries()) {
    if (isLast && index === parts.length - 1 && part.includes(".")) {
      const v4 = findBytesV4(part);
      if (v4 === undefined) return undefined;
      groups.push(((v4[0] ?? 0) << 8) | (v4[1] ?? 0), ((v4[2] ?? 0) << 8) | (v4[3] ?? 0));
    } else if (/^[0-9a-f]{1,4}$/i.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return groups;
}

/** The longest run of zero groups, the first of them when there are two (RFC 5952 4.2.3). */
function longestZeroRun(groups: readonly number[]): { first: number; count: number } {
  let best = { first: 0, count: 0 };
  let count = 0;
  for (const [index, group] of groups.entries()) {
    count = group === 0 ? count + 1 : 0;
    if (count > best.count) best = { first: index - count + 1, count };
  }
  return best;
}
