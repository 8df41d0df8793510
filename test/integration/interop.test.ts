/** Linux and NetPopcorn in both roles and both directions over bad links: every byte arrives, in order. */
import { describe, expect, test } from "vitest";
import type { Impairments } from "../../src/device/card/impairment.ts";
import { missing } from "../helpers/namespace.ts";
import { type Transfer, transfer } from "../interop/transfer.ts";

const BYTES = 1 << 19;
const base = { delayNs: 5e6, rateBitsPerSecond: 100e6 };
const LINKS: readonly (readonly [string, Impairments])[] = [
  ["1 % loss", { ...base, lossPpm: 10_000 }],
  ["5 % loss", { ...base, lossPpm: 50_000 }],
  ["5 % reordered", { ...base, reorderPpm: 50_000, reorderNs: 5e6 }],
  ["2 % sent twice", { ...base, duplicatePpm: 20_000 }],
  ["1 % with a wrong bit", { ...base, corruptPpm: 10_000 }],
  ["100 ms, 20 Mbit/s, a short queue", { delayNs: 50e6, rateBitsPerSecond: 20e6, queueBytes: 32_768 }],
];
const ENDS: readonly Pick<Transfer, "client" | "server" | "role">[] = [
  { client: "linux", server: "netpopcorn", role: "get" },
  { client: "linux", server: "netpopcorn", role: "put" },
  { client: "netpopcorn", server: "linux", role: "get" },
  { client: "netpopcorn", server: "linux", role: "put" },
];

const reason = missing();

describe.for(LINKS)("%s", ([_name, impairments]) => {
  test.for(ENDS)("$client asks $server: $role", async (ends, context) => {
    if (reason !== undefined) context.skip(reason);
    const wanted = { ...ends, family: 4, bytes: BYTES, seconds: 40, impairments, seed: 5 } as const;
    expect(await transfer(wanted)).toMatchObject({ bytes: BYTES, right: true });
  });
});
