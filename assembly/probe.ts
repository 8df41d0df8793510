/** Test and benchmark entry: exports inner functions that no product module exports. Never shipped. */
import { checksumOf, copyAndSum, pseudoHeaderSumV4, sumAdd, sumBytes, sumSwap } from "./wire/checksum.ts";

// asc resolves "./x.ts" in imports, but not in `export … from`.
export { checksumOf, copyAndSum, pseudoHeaderSumV4, sumAdd, sumBytes, sumSwap };
