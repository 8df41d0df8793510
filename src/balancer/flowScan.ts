/**
 * SYNs that lie in a kernel's RX lanes: the device has steered them already, but the kernel does not know of them yet.
 * A group that moves at this moment would leave such a connection torn between two kernels.
 */
import type { ReplyTuple } from "../device/replySteering.ts";
import { FRAME_LENGTH, FRAME_OFFSET } from "../layout/frameRing.ts";
import { type FrameRing, recordBytes } from "../views/frameRing.ts";

const ETHER_BYTES = 14;
const ETHERTYPE_AT = 12;
const PROTOCOL_TCP = 6;
const FLAG_SYN = 2;
const FLAG_ACK = 16;
/** Ethernet, IPv4 and TCP up to the flags. */
const HEADERS_BYTES_MIN = ETHER_BYTES + 20 + 14;

/**
 * Calls `visit` for each waiting SYN over IPv4. The kernel and its device may be at work meanwhile: what is consumed
 * during the walk may be read as something else, so a caller must be able to live with a SYN that is none.
 */
export function forEachWaitingSyn(lane: FrameRing, visit: (tuple: ReplyTuple) => void): void {
  if (!lane.ready) return;
  const { tail } = lane;
  let at = lane.head;
  for (let left = (tail - at) >>> 0; left > 0 && left <= lane.sizeBytes; left = (tail - at) >>> 0) {
    const record = lane.addressOf(at);
    const length = lane.words[(record + FRAME_LENGTH) >> 2] as number;
    const size = length < 0 ? -length : recordBytes(length);
    if (size <= 0 || size > left) return;
    if (length >= HEADERS_BYTES_MIN) visitSyn(lane.bytes, record + FRAME_OFFSET, length, visit);
    at = (at + size) >>> 0;
  }
}

function visitSyn(bytes: Uint8Array, frame: number, length: number, visit: (tuple: ReplyTuple) => void): void {
  if (bytes[frame + ETHERTYPE_AT] !== 0x08 || bytes[frame + ETHERTYPE_AT + 1] !== 0) return;
  const packet = frame + ETHER_BYTES;
  const versionAndLength = bytes[packet] as number;
  const headerBytes = (versionAndLength & 15) * 4;
  if (versionAndLength >> 4 !== 4 || headerBytes < 20 || bytes[packet + 9] !== PROTOCOL_TCP) return;
  if (length < ETHER_BYTES + headerBytes + 14) return;
  const segment = packet + headerBytes;
  if (((bytes[segment + 13] as number) & (FLAG_SYN | FLAG_ACK)) !== FLAG_SYN) return;
  visit({
    remote: mapped(bytes, packet + 12),
    remotePort: portAt(bytes, segment),
    local: mapped(bytes, packet + 16),
    localPort: portAt(bytes, segment + 2),
  });
}

function portAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

/** The IPv4 address at `at` as ::ffff:a.b.c.d. */
function mapped(bytes: Uint8Array, at: number): Uint8Array {
  const address = new Uint8Array(16);
  address[10] = 0xff;
  address[11] = 0xff;
  address.set(bytes.subarray(at, at + 4), 12);
  return address;
}
