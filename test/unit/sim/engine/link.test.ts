import { describe, expect, test } from "vitest";
import { Link } from "../../../../src/sim/engine/link.ts";

// 1 Gbit/s: 8 ns a byte. 1,000,000 packets per second: 1 µs each.
const costs = { linkGbps: 1, nicPacketsPerSec: 1e6, wireUs: 5, clientUs: 2 };

describe("the link", () => {
  test("to a client: card, bytes on the wire, way, and the client's own time", () => {
    // 100 bytes, frame check sequence, preamble and gap: 124.
    expect(new Link(costs).toClient(1e6, 100)).toBe(1e6 + 1000 + 124 * 8 + 5000 + 2000);
  });

  test("a frame takes the 84 bytes of the shortest one at least", () => {
    expect(new Link(costs).toClient(0, 40)).toBe(1000 + 84 * 8 + 7000);
  });

  test("frames wait for each other on the link", () => {
    const link = new Link(costs);
    const first = link.toClient(0, 1514);
    expect(link.toClient(0, 1514) - first).toBe((1514 + 24) * 8);
  });

  test("both directions wait for each other in the card, and those from clients not for the link", () => {
    const link = new Link(costs);
    expect(link.toServer(0)).toBe(1000 + 5000);
    expect(link.toClient(0, 40)).toBe(2000 + 84 * 8 + 7000);
    expect(link.toServer(0)).toBe(3000 + 5000);
  });
});
