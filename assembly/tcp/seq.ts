/** Sequence number arithmetic modulo 2^32 (RFC 9293 3.4). Sequence numbers are compared here and nowhere else. */

export function seqLt(a: u32, b: u32): bool {
  return <i32>(a - b) < 0;
}

export function seqLeq(a: u32, b: u32): bool {
  return <i32>(a - b) <= 0;
}

export function seqGt(a: u32, b: u32): bool {
  return <i32>(a - b) > 0;
}

export function seqGeq(a: u32, b: u32): bool {
  return <i32>(a - b) >= 0;
}

/** The later of two. */
export function seqMax(a: u32, b: u32): u32 {
  return <i32>(a - b) >= 0 ? a : b;
}

/** The earlier of two. */
export function seqMin(a: u32, b: u32): u32 {
  return <i32>(a - b) <= 0 ? a : b;
}
