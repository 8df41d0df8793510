/**
 * Contents of streams and datagrams: each byte is a function of its place in the stream, so that bytes which go astray
 * are noticed on either side.
 */

/** The byte at offset `index` of a stream; differs from its neighbours and from bytes a power of two away. */
function byteAt(index: number): number {
  return (index * 31 + (index >>> 8) * 7 + (index >>> 16) * 3 + 1) & 0xff;
}

/** @param offset modulo 2^32. */
export function streamBytes(offset: number, bytes: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: bytes }, (_, i) => byteAt((offset + i) >>> 0));
}

/** @returns index of the first byte that is not what it should be; -1: all are. */
export function findWrongByte(offset: number, bytes: Uint8Array): number {
  return bytes.findIndex((byte, i) => byte !== byteAt((offset + i) >>> 0));
}
