import { describe, expect, it } from "vitest";
import { PortRegistry } from "../../../src/control/ports.ts";
import { EADDRINUSE } from "../../../src/layout/status.ts";

const http = { protocol: "tcp", address: "0.0.0.0", port: 80 } as const;
const any = { protocol: "tcp", address: "0.0.0.0", port: 0 } as const;

function createRegistry(): PortRegistry {
  let next = 40000;
  return new PortRegistry(() => next++);
}

describe("PortRegistry", () => {
  it("lets every kernel have a replica of one listener, and no kernel two", () => {
    const registry = createRegistry();
    expect(registry.claim([0], http)).toBe(80);
    expect(registry.claim([1], http)).toBe(80);
    expect(registry.claim([0], http)).toBe(EADDRINUSE);
  });

  it("claims for all kernels or for none", () => {
    const registry = createRegistry();
    registry.claim([1], http);
    expect(registry.claim([0, 1], http)).toBe(EADDRINUSE);
    expect(registry.claim([0], http)).toBe(80);
  });

  it("keeps protocols and addresses apart", () => {
    const registry = createRegistry();
    registry.claim([0], http);
    expect(registry.claim([0], { ...http, protocol: "udp" })).toBe(80);
    expect(registry.claim([0], { ...http, address: "10.7.0.2" })).toBe(80);
  });

  it("gives a released port again", () => {
    const registry = createRegistry();
    registry.claim([0, 1], http);
    registry.release([0], http);
    expect(registry.claim([0], http)).toBe(80);
    expect(registry.claim([1], http)).toBe(EADDRINUSE);
    registry.releaseAll(1);
    expect(registry.claim([1], http)).toBe(80);
  });

  it("draws for port 0, the same port for the n-th request of every kernel", () => {
    const registry = createRegistry();
    const first = registry.claim([0], any);
    const second = registry.claim([0], any);
    expect(second).not.toBe(first);
    expect(registry.claim([1], any)).toBe(first);
    expect(registry.claim([1], any)).toBe(second);
  });

  it("draws no port that somebody has, and gives up when all are taken", () => {
    const registry = new PortRegistry(() => 40000);
    registry.claim([0], { ...any, port: 40000 });
    expect(registry.claim([0], any)).toBe(EADDRINUSE);
  });

  it("gives a restarted kernel the drawn ports of the others", () => {
    const registry = createRegistry();
    const port = registry.claim([0], any);
    registry.claim([1], any);
    registry.releaseAll(1);
    expect(registry.claim([1], any)).toBe(port);
  });
});
