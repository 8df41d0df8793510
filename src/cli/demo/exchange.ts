/**
 * What a client and the server of the demo say to each other on one connection: one request, one response, both of
 * seeded content, so that a byte that is lost, added, moved or changed anywhere on the way is seen.
 *
 * ```
 * request   +0 u16 bytes in all   +2 u16 bytes of the response   +4 u8 who closes first   +5 three bytes, 0
 *           +8 u32 seed           +12 bytes drawn from the seed
 * response  byte i = request[i % request bytes] ^ 0xa5 + 7 i, modulo 256
 * ```
 * Integers are big-endian.
 */

export const REQUEST_HEADER_BYTES = 12;
export const MESSAGE_BYTES_MIN = 64;
export const MESSAGE_BYTES_MAX = 1500;

const SERVER_CLOSES = 0;
const CLIENT_CLOSES = 1;

export type RequestHeader = {
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly serverCloses: boolean;
};

/** Next state of a 32-bit xorshift generator; never 0 for a state that is not 0. */
function nextState(state: number): number {
  let next = state ^ (state << 13);
  next ^= next >>> 17;
  return (next ^ (next << 5)) >>> 0;
}

/** A well-mixed seed, never 0, for connection `connection` of host `host`: the finalizer of MurmurHash3. */
export function exchangeSeed(seed: number, host: number, connection: number): number {
  let mixed = seed ^ Math.imul(host + 1, 0x9e3779b1) ^ Math.imul(connection + 1, 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0 || 1;
}

/**
 * Writes the request of the exchange `seed` to `target` from `start` on, where MESSAGE_BYTES_MAX + 3 bytes are free.
 * @returns its bytes.
 */
export function writeRequest(target: Uint8Array, start: number, seed: number): number {
  let state = nextState(seed);
  const span = MESSAGE_BYTES_MAX - MESSAGE_BYTES_MIN + 1;
  const requestBytes = MESSAGE_BYTES_MIN + (state % span);
  state = nextState(state);
  const responseBytes = MESSAGE_BYTES_MIN + (state % span);
  state = nextState(state);
  target[start] = requestBytes >> 8;
  target[start + 1] = requestBytes;
  target[start + 2] = responseBytes >> 8;
  target[start + 3] = responseBytes;
  target[start + 4] = state & 0x10000 ? SERVER_CLOSES : CLIENT_CLOSES;
  target.fill(0, start + 5, start + 8);
  target[start + 8] = seed >>> 24;
  target[start + 9] = seed >>> 16;
  target[start + 10] = seed >>> 8;
  target[start + 11] = seed;
  const end = start + requestBytes;
  for (let at = start + REQUEST_HEADER_BYTES; at < end; at += 4) {
    state = nextState(state);
    // Up to three bytes more than the request may be written: the room is there.
    target[at] = state;
    target[at + 1] = state >>> 8;
    target[at + 2] = state >>> 16;
    target[at + 3] = state >>> 24;
  }
  return requestBytes;
}

/**
 * @param bytes the first REQUEST_HEADER_BYTES of a request, at `at`.
 * @returns undefined when no client of the demo has written them.
 */
export function readRequestHeader(bytes: Uint8Array, at = 0): RequestHeader | undefined {
  const requestBytes = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  const responseBytes = ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
  const closer = bytes[at + 4];
  const isLength = (length: number) => length >= MESSAGE_BYTES_MIN && length <= MESSAGE_BYTES_MAX;
  if (!isLength(requestBytes) || !isLength(responseBytes)) return undefined;
  if (closer !== SERVER_CLOSES && closer !== CLIENT_CLOSES) return undefined;
  return { requestBytes, responseBytes, serverCloses: closer === SERVER_CLOSES };
}

/** Where a message lies: `bytes` of `memory` from `at` on. */
export type Place = { readonly memory: Uint8Array; readonly at: number; readonly bytes: number };

/** Writes the response to `request`. */
export function writeResponse(response: Place, request: Place): void {
  const target = response.memory;
  const source = request.memory;
  const end = request.at + request.bytes;
  let from = request.at;
  for (let index = 0; index < response.bytes; index++) {
    target[response.at + index] = ((source[from] as number) ^ 0xa5) + index * 7;
    if (++from === end) from = request.at;
  }
}

/** Bytes of `actual` that differ from those of `expected` from `expectedAt` on. */
export function countDifferences(expected: Uint8Array, expectedAt: number, actual: Place): number {
  let differences = 0;
  for (let index = 0; index < actual.bytes; index++) {
    if (expected[expectedAt + index] !== actual.memory[actual.at + index]) differences++;
  }
  return differences;
}
