/** Payloads of the messages about ports (docs/messages.md). */
import type { PortProtocol, PortRequest } from "./ports.ts";

/**
 * ```
 * u8 protocol (6 TCP, 17 UDP)  u8 holder  u16 port  u16 turn  i16 status  u8 length of the address, the address as text
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
const TEXT_AT = 9;

export function encodePortMessage(message: PortRequest & Partial<PortMessage>): Uint8Array {
  const text = new TextEncoder().encode(message.address);
  const payload = new Uint8Array(TEXT_AT + text.length);
  const view = new DataView(payload.buffer);
  payload[0] = message.protocol === "tcp" ? TCP : UDP;
  payload[1] = message.holder ?? 0;
  view.setUint16(2, message.port, true);
  view.setUint16(4, message.turn ?? 0, true);
  view.setInt16(6, message.status ?? 0, true);
  payload[8] = text.length;
  payload.set(text, TEXT_AT);
  return payload;
}

/** undefined: it is no such payload. */
export function decodePortMessage(payload: Uint8Array): PortMessage | undefined {
  const protocols: Record<number, PortProtocol> = { [TCP]: "tcp", [UDP]: "udp" };
  const protocol = protocols[payload[0] ?? 0];
  const length = payload[8];
  if (protocol === undefined || length === undefined || payload.length !== TEXT_AT + length) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  return {
    protocol,
    holder: payload[1] as number,
    port: view.getUint16(2, true),
    turn: view.getUint16(4, true),
    status: view.getInt16(6, true),
    // A decoder does not take shared memory.
    address: new TextDecoder().decode(payload.slice(TEXT_AT)),
  };
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
