import { createHash } from "node:crypto";

/** What the http application answers for /bytes/N: byte i is (i * 31 + (i >> 8)) & 255. */
export function contentOf(bytes: number): Buffer {
  const content = Buffer.allocUnsafe(bytes);
  for (let index = 0; index < bytes; index += 1) content[index] = (index * 31 + (index >> 8)) & 255;
  return content;
}

/** In hex. */
export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
