/**
 * SYNs that lie in a kernel's RX lanes: the device has steered them already, but the kernel does not know of them yet.
 * A group that moves at this moment would leave such a connection torn between two kernels.
 */
import type { ReplyTuple } from "../device/replySteering.ts";
import { FRAME_LENGTH, FRAME_OFFSET } from "../layout/frameRing.ts";
import { type FrameRing, recordBytes } from "../views/frameRing.ts";

const ETHER_BYTES = 14;
const ETHERTYPE_AT = 12;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const PROTOCOL_TCP = 6;
const FLAG_SYN = 2;
const FLAG_ACK = 16;
const IPV6_BYTES = 40;
/** TCP up to the flags. */
const TCP_BYTES_MIN = 14;
/** With the shorter of the IP headers. */
const HEADERS_BYTES_MIN = ETHER_BYTES + 20 + TCP_BYTES_MIN;

/**
 * Calls `visit` for each waiting SYN (over IPv6 without extension headers). The kernel and its device may be at work
 * meanwhile: what is consumed during the walk may be read as something else, so a caller must be able to live with a
 * SYN that is none.
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
  const etherType = portAt(bytes, frame + ETHERTYPE_AT);
  const packet = frame + ETHER_BYTES;
  const isV6 = etherType === ETHERTYPE_IPV6;
  if (!isV6 && etherType !== ETHERTYPE_IPV4) return;
  const version = (bytes[packet] as number) >> 4;
  const headerBytes = isV6 ? IPV6_BYTES : ((bytes[packet] as number) & 15) * 4;
  const protocol = bytes[packet + (isV6 ? 6 : 9)];
  if (version !== (isV6 ? 6 : 4) || headerBytes < 20 || protocol !== PROTOCOL_TCP) return;
  if (length < ETHER_BYTES + headerBytes + TCP_BYTES_MIN) return;
  const segment = packet + headerBytes;
  if (((bytes[segment + 13] as number) & (FLAG_SYN | FLAG_ACK)) !== FLAG_SYN) return;
  const ports = { remotePort: portAt(bytes, segment), localPort: portAt(bytes, segment + 2) };
  // A copy: what lies there is overwritten, and whoever is told may keep it.
  if (isV6)
    visit({ remote: bytes.slice(packet + 8, packet + 24), local: bytes.slice(packet + 24, packet + 40), ...ports });
  else visit({ remote: mapped(bytes, packet + 12), local: mapped(bytes, packet + 16), ...ports });
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
