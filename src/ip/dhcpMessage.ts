/** DHCP messages (RFC 2131 2, RFC 2132) to bytes and back. IPv4 addresses are 4 bytes here. */

export const DHCP_CLIENT_PORT = 68;
export const DHCP_SERVER_PORT = 67;

export const DISCOVER = 1;
export const OFFER = 2;
export const REQUEST = 3;
export const DECLINE = 4;
export const ACK = 5;
export const NAK = 6;
export const RELEASE = 7;

const OPTIONS_AT = 240;
/** RFC 2131 2: what a BOOTP relay may insist on. */
const MESSAGE_BYTES_MIN = 300;
const COOKIE = 0x63825363;
const OPTION_PAD = 0;
const OPTION_SUBNET_MASK = 1;
const OPTION_ROUTER = 3;
const OPTION_REQUESTED = 50;
const OPTION_LEASE_TIME = 51;
const OPTION_OVERLOAD = 52;
const OPTION_TYPE = 53;
const OPTION_SERVER = 54;
const OPTION_PARAMETERS = 55;
const OPTION_RENEWAL_TIME = 58;
const OPTION_REBINDING_TIME = 59;
const OPTION_CLIENT_ID = 61;
const OPTION_CLASSLESS_ROUTES = 121;
const OPTION_END = 255;

export type DhcpRequest = {
  readonly type: number;
  readonly transaction: number;
  /** Seconds since the client began. */
  readonly elapsedS: number;
  readonly mac: Uint8Array;
  /** The client's address when it has one that works; 4 bytes. */
  readonly clientAddress?: Uint8Array;
  readonly requestedAddress?: Uint8Array;
  readonly server?: Uint8Array;
};

export type ClasslessRoute = {
  readonly prefix: Uint8Array;
  readonly prefixLength: number;
  readonly gateway: Uint8Array;
};

export type DhcpReply = {
  readonly type: number;
  readonly transaction: number;
  readonly yourAddress: Uint8Array;
  readonly server: Uint8Array | undefined;
  readonly prefixLength: number | undefined;
  readonly router: Uint8Array | undefined;
  /** Seconds; Infinity: for ever. */
  readonly leaseS: number | undefined;
  readonly renewalS: number | undefined;
  readonly rebindingS: number | undefined;
  /** RFC 3442; when there are any, the router option does not count. */
  readonly routes: readonly ClasslessRoute[];
};

export function writeRequest(request: DhcpRequest): Uint8Array {
  const { type, transaction, elapsedS, mac, clientAddress, requestedAddress, server } = request;
  const header = new Uint8Array(OPTIONS_AT);
  const view = new DataView(header.buffer);
  // BOOTREQUEST, Ethernet.
  header.set([1, 1, 6, 0]);
  view.setUint32(4, transaction);
  view.setUint16(8, Math.min(elapsedS, 0xffff));
  // Without an address we hear only what is sent to everybody.
  if (!clientAddress) view.setUint16(10, 0x8000);
  if (clientAddress) header.set(clientAddress, 12);
  header.set(mac, 28);
  view.setUint32(236, COOKIE);
  const options: number[] = [OPTION_TYPE, 1, type, OPTION_CLIENT_ID, 7, 1, ...mac];
  if (requestedAddress) options.push(OPTION_REQUESTED, 4, ...requestedAddress);
  if (server) options.push(OPTION_SERVER, 4, ...server);
  if (type === DISCOVER || type === REQUEST) {
    options.push(OPTION_PARAMETERS, 6, OPTION_SUBNET_MASK, OPTION_CLASSLESS_ROUTES, OPTION_ROUTER, OPTION_LEASE_TIME);
    options.push(OPTION_RENEWAL_TIME, OPTION_REBINDING_TIME);
  }
  options.push(OPTION_END);
  const message = new Uint8Array(Math.max(MESSAGE_BYTES_MIN, OPTIONS_AT + options.length));
  message.set(header);
  message.set(options, OPTIONS_AT);
  return message;
}

/** Values by option; parts of one that is split count as one (RFC 3396). @returns false when a length lies. */
function readOptions(bytes: Uint8Array, from: number, to: number, options: Map<number, number[]>): boolean {
  for (let at = from; at < to; ) {
    const option = bytes[at] as number;
    if (option === OPTION_END) return true;
    if (option === OPTION_PAD) {
      at++;
      continue;
    }
    const length = bytes[at + 1];
    if (at + 1 >= to || length === undefined || at + 2 + length > to) return false;
    const value = options.get(option) ?? [];
    value.push(...bytes.subarray(at + 2, at + 2 + length));
    options.set(option, value);
    at += 2 + length;
  }
  return true;
}

function seconds(value: readonly number[] | undefined): number | undefined {
  if (value?.length !== 4) return undefined;
  const number = value.reduce((sum, byte) => sum * 256 + byte, 0);
  return number === 0xffff_ffff ? Number.POSITIVE_INFINITY : number;
}

/** Ones without a gap, or undefined. */
function prefixLengthOf(mask: readonly number[] | undefined): number | undefined {
  if (mask?.length !== 4) return undefined;
  const bits = mask.map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return /^1*0*$/.test(bits) ? bits.replaceAll("0", "").length : undefined;
}

function firstAddress(value: readonly number[] | undefined): Uint8Array | undefined {
  return value && value.length >= 4 ? Uint8Array.from(value.slice(0, 4)) : undefined;
}

/** RFC 3442: prefix length, as many bytes of the prefix as it has, gateway. What is cut off is left out. */
function readRoutes(value: readonly number[] | undefined): ClasslessRoute[] {
  const routes: ClasslessRoute[] = [];
  for (let at = 0; value && at < value.length; ) {
    const prefixLength = value[at] as number;
    const bytes = Math.ceil(prefixLength / 8);
    if (prefixLength > 32 || at + 5 + bytes > value.length) break;
    const prefix = new Uint8Array(4);
    prefix.set(value.slice(at + 1, at + 1 + bytes));
    routes.push({ prefix, prefixLength, gateway: Uint8Array.from(value.slice(at + 1 + bytes, at + 5 + bytes)) });
    at += 5 + bytes;
  }
  return routes;
}

/** @returns what a server says to the station `mac`; undefined: nothing that is to it, or not DHCP. */
export function parseReply(bytes: Uint8Array, mac: Uint8Array): DhcpReply | undefined {
  if (bytes.length < OPTIONS_AT) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes[0] !== 2 || bytes[1] !== 1 || bytes[2] !== 6 || view.getUint32(236) !== COOKIE) return undefined;
  if (!mac.every((byte, index) => byte === bytes[28 + index])) return undefined;
  const options = new Map<number, number[]>();
  if (!readOptions(bytes, OPTIONS_AT, bytes.length, options)) return undefined;
  // RFC 2132 9.3: options go on in the file field, then in the server's name.
  const overload = options.get(OPTION_OVERLOAD)?.[0] ?? 0;
  if (overload & 1 && !readOptions(bytes, 108, 236, options)) return undefined;
  if (overload & 2 && !readOptions(bytes, 44, 108, options)) return undefined;
  const type = options.get(OPTION_TYPE);
  if (type?.length !== 1) return undefined;
  return {
    type: type[0] as number,
    transaction: view.getUint32(4),
    yourAddress: bytes.slice(16, 20),
    server: firstAddress(options.get(OPTION_SERVER)),
    prefixLength: prefixLengthOf(options.get(OPTION_SUBNET_MASK)),
    router: firstAddress(options.get(OPTION_ROUTER)),
    leaseS: seconds(options.get(OPTION_LEASE_TIME)),
    renewalS: seconds(options.get(OPTION_RENEWAL_TIME)),
    rebindingS: seconds(options.get(OPTION_REBINDING_TIME)),
    routes: readRoutes(options.get(OPTION_CLASSLESS_ROUTES)),
  };
}
