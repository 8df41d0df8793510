/** Test and benchmark entry: exports inner functions that no product module exports. Never shipped. */
import { clearBytes, copyBytes } from "./mem/copy.ts";
import { nowMs, nowTick, nowUs, setNow } from "./time.ts";
import {
  copyAndSumBatch,
  parseBatch,
  sumBatch,
  toeplitzBitwiseBatch,
  toeplitzV4Batch,
  toeplitzV6Batch,
} from "./probe/batches.ts";
import {
  toeplitzBitwise,
  toeplitzBuild,
  toeplitzV4,
  toeplitzV4Addresses,
  toeplitzV6,
  toeplitzV6Addresses,
} from "./rss/toeplitz.ts";
import { checksumOf, copyAndSum, pseudoHeaderSumV4, sumAdd, sumBytes, sumSwap } from "./wire/checksum.ts";

// asc resolves "./x.ts" in imports, but not in `export … from`.
export { checksumOf, copyAndSum, pseudoHeaderSumV4, sumAdd, sumBytes, sumSwap };
export { toeplitzBitwise, toeplitzBuild, toeplitzV4, toeplitzV4Addresses, toeplitzV6, toeplitzV6Addresses };
export { copyAndSumBatch, parseBatch, sumBatch, toeplitzBitwiseBatch, toeplitzV4Batch, toeplitzV6Batch };
export { clearBytes, copyBytes };

export function setNowNs(ns: f64): void {
  setNow(<u64>ns);
}

export function nowUsValue(): u32 {
  return nowUs;
}

export function nowMsValue(): u32 {
  return nowMs;
}

export function nowTickValue(): u32 {
  return nowTick;
}
