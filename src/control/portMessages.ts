/** Payloads of the messages about ports (docs/messages.md). */
import type { ListenTerms, PortProtocol, PortRequest } from "./ports.ts";

/**
 * ```
 * u8 protocol (6 TCP, 17 UDP)  u8 holder  u16 port  u16 turn  i16 status
 * u8 flags: 1 IPv6 alone, 2 terms  u8 length of the address, the address as text
 * terms: u16 backlog, then for each option u16 number and i32 value
 * ```
 */
export type PortMessage = PortRequest & {
  /** Kernel, or HOLDER_STACK. */
  readonly holder: number;
  /** Of a draw: which of the holder's requests for port 0 of this kind it was. */
  readonly turn: number;
  /** 0 or a negative errno. */
  readonly status: number;
};

const TCP = 6;
const UDP = 17;
const FLAG_IPV6_ONLY = 1;
const FLAG_TERMS = 2;
const LENGTH_AT = 9;
const TEXT_AT = 10;
const BACKLOG_BYTES = 2;
const OPTION_BYTES = 6;

export function encodePortMessage(message: PortRequest & Partial<PortMessage>): Uint8Array {
  const { terms } = message;
  const text = new TextEncoder().encode(message.address);
  const termsBytes = terms ? BACKLOG_BYTES + OPTION_BYTES * terms.options.length : 0;
  const payload = new Uint8Array(TEXT_AT + text.length + termsBytes);
  const view = new DataView(payload.buffer);
  payload[0] = message.protocol === "tcp" ? TCP : UDP;
  payload[1] = message.holder ?? 0;
  view.setUint16(2, message.port, true);
  view.setUint16(4, message.turn ?? 0, true);
  view.setInt16(6, message.status ?? 0, true);
  payload[8] = (message.ipv6Only ? FLAG_IPV6_ONLY : 0) | (terms ? FLAG_TERMS : 0);
  payload[LENGTH_AT] = text.length;
  payload.set(text, TEXT_AT);
  if (!terms) return payload;
  let at = TEXT_AT + text.length;
  view.setUint16(at, terms.backlog, true);
  at += BACKLOG_BYTES;
  for (const [option, value] of terms.options) {
    view.setUint16(at, option, true);
    view.setInt32(at + 2, value, true);
    at += OPTION_BYTES;
  }
  return payload;
}

/** undefined: it is no such payload. */
export function decodePortMessage(payload: Uint8Array): PortMessage | undefined {
  const protocols: Record<number, PortProtocol> = { [TCP]: "tcp", [UDP]: "udp" };
  const protocol = protocols[payload[0] ?? 0];
  const length = payload[LENGTH_AT];
  if (protocol === undefined || length === undefined) return undefined;
  const flags = payload[8] as number;
  const rest = payload.length - TEXT_AT - length;
  const isWhole = (flags & FLAG_TERMS) === 0 ? rest === 0 : rest >= 2 && (rest - BACKLOG_BYTES) % OPTION_BYTES === 0;
  if (!isWhole) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  return {
    protocol,
    holder: payload[1] as number,
    port: view.getUint16(2, true),
    turn: view.getUint16(4, true),
    status: view.getInt16(6, true),
    // A decoder does not take shared memory.
    address: new TextDecoder().decode(payload.slice(TEXT_AT, TEXT_AT + length)),
    ...((flags & FLAG_IPV6_ONLY) !== 0 && { ipv6Only: true }),
    ...((flags & FLAG_TERMS) !== 0 && { terms: decodeTerms(view, TEXT_AT + length) }),
  };
}

function decodeTerms(view: DataView, at: number): ListenTerms {
  const options: [number, number][] = [];
  for (let option = at + BACKLOG_BYTES; option < view.byteLength; option += OPTION_BYTES) {
    options.push([view.getUint16(option, true), view.getInt32(option + 2, true)]);
  }
  return { backlog: view.getUint16(at, true), options };
}

/** Payload of MESSAGE_TYPE_CLAIMED: i32 port or negative status, u16 turn of a drawn one. */
export function encodeClaimed(result: number, turn: number): Uint8Array {
  const payload = new Uint8Array(6);
  const view = new DataView(payload.buffer);
  view.setInt32(0, result, true);
  view.setUint16(4, turn, true);
  return payload;
}

export function decodeClaimed(payload: Uint8Array): { readonly result: number; readonly turn: number } | undefined {
  if (payload.length !== 6) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  return { result: view.getInt32(0, true), turn: view.getUint16(4, true) };
}
