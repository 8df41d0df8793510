/** Test and benchmark entry: exports inner functions that no product module exports. Never shipped. */
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
