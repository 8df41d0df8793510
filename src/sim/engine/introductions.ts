/** Before time begins, every kernel of the server learns where the clients and the back ends are (ARP, RFC 826). */
import { parseAddress } from "../../ip/address.ts";
import { FRAME_LENGTH, FRAME_OFFSET } from "../../layout/frameRing.ts";
import { FrameQueue } from "./frameQueue.ts";
import type { ServerKernel } from "./serverKernel.ts";

const ARP_BYTES = 42;
const RECORD_BYTES = 64;
/** EtherType, Ethernet and IPv4 with their address lengths, request. */
const ARP_REQUEST_HEADER = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
/** Of an IPv4 address in its 16 bytes. */
const V4_AT = 12;

/** A record of a frame ring: who has `target`? Tell `sender`, which is at `mac`. */
function requestFor(target: string, sender: string, mac: Uint8Array): Int32Array {
  const record = new Uint8Array(RECORD_BYTES);
  const frame = record.subarray(FRAME_OFFSET);
  new DataView(record.buffer).setInt32(FRAME_LENGTH, ARP_BYTES, true);
  frame.fill(0xff, 0, 6);
  frame.set(mac, 6);
  frame.set(ARP_REQUEST_HEADER, 12);
  frame.set(mac, 22);
  frame.set(parseAddress(sender).subarray(V4_AT), 28);
  frame.set(parseAddress(target).subarray(V4_AT), 38);
  return new Int32Array(record.buffer);
}

/**
 * A kernel that had to ask for them would hold back a few frames for each and drop the others: with thousands of
 * connections begun at once, nearly all would wait for the retransmission of a SYN.
 */
export function introduce(
  kernels: readonly ServerKernel[],
  own: string,
  others: readonly string[],
  mac: Uint8Array,
): void {
  const requests = others.map((other) => requestFor(own, other, mac));
  const queue = new FrameQueue();
  for (const kernel of kernels) {
    for (const request of requests) {
      queue.push(request, 0, 0, 0);
      kernel.stage(queue);
    }
    kernel.poll(1e9, requests.length);
    for (let run = kernel.tx.peekRun(); run !== 0; run = kernel.tx.peekRun()) kernel.tx.consume(kernel.tx.runBytes);
  }
}
