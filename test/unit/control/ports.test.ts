import { describe, expect, it } from "vitest";
import { decodePortMessage, encodeClaimed } from "../../../src/control/portMessages.ts";
import { type OwnerLine, PortProxy } from "../../../src/control/portProxy.ts";
import { HOLDER_STACK, PortRegistry, type PortRequest } from "../../../src/control/ports.ts";
import { MESSAGE_TYPE_HOLDS } from "../../../src/layout/message.ts";
import { EADDRINUSE, ENOBUFS } from "../../../src/layout/status.ts";

const http = { protocol: "tcp", address: "0.0.0.0", port: 80 } as const;
const any = { protocol: "tcp", address: "0.0.0.0", port: 0 } as const;

function createRegistry(): PortRegistry {
  let next = 40000;
  return new PortRegistry(() => next++);
}

const claim = (registry: PortRegistry, holder: number, request: PortRequest) => registry.claim(holder, request).result;

describe("PortRegistry", () => {
  it("lets every kernel have a replica of one listener, and no kernel two", () => {
    const registry = createRegistry();
    expect(claim(registry, 0, http)).toBe(80);
    expect(claim(registry, 1, http)).toBe(80);
    expect(claim(registry, 0, http)).toBe(EADDRINUSE);
  });

  it("claims for all kernels or for none", () => {
    const registry = createRegistry();
    claim(registry, 1, http);
    expect(claim(registry, HOLDER_STACK, http)).toBe(EADDRINUSE);
    expect(claim(registry, 0, http)).toBe(80);
  });

  it("keeps protocols and addresses apart", () => {
    const registry = createRegistry();
    claim(registry, 0, http);
    expect(claim(registry, 0, { ...http, protocol: "udp" })).toBe(80);
    expect(claim(registry, 0, { ...http, address: "10.7.0.2" })).toBe(80);
  });

  it("has one wildcard for each family: one of both is a rival of either", () => {
    const registry = createRegistry();
    const both = { ...http, address: "::" };
    const only = { ...both, ipv6Only: true };
    expect(claim(registry, 0, http)).toBe(80);
    expect(claim(registry, 0, only)).toBe(80);
    // In whichever kernel: the card may bring a connection to either.
    for (const holder of [0, 1]) expect(claim(registry, holder, both)).toBe(EADDRINUSE);
    registry.release(0, http);
    expect(claim(registry, 1, both)).toBe(EADDRINUSE);
    registry.release(0, only);
    expect(claim(registry, 1, both)).toBe(80);
    for (const request of [http, only]) expect(claim(registry, 0, request)).toBe(EADDRINUSE);
    expect(claim(registry, 0, { ...http, address: "10.7.0.2" })).toBe(80);
    expect(claim(registry, 0, both)).toBe(80);
  });

  it("draws no port that a rival wildcard has", () => {
    const ports = [40001, 40001, 40003];
    const registry = new PortRegistry(() => ports.shift() as number);
    expect(claim(registry, 0, any)).toBe(40001);
    expect(claim(registry, 0, { ...any, address: "::" })).toBe(40003);
  });

  it("tells whether a rival may pass: one that only other kernels have", () => {
    const registry = createRegistry();
    const both = { ...http, address: "::" };
    registry.claim(0, http);
    expect(registry.claim(1, both)).toMatchObject({ result: EADDRINUSE, mayPass: true });
    expect(registry.claim(0, both)).toMatchObject({ result: EADDRINUSE, mayPass: false });
    expect(registry.claim(HOLDER_STACK, both)).toMatchObject({ result: EADDRINUSE, mayPass: false });
  });

  it("gives kernels that look for a free port all the same, also for the other wildcard", () => {
    const registry = createRegistry();
    const drawn = { ...any, address: "::" };
    const port = claim(registry, 0, drawn);
    registry.release(0, { ...drawn, port });
    expect(claim(registry, 0, { ...any, port })).toBe(port);
    // This one comes when the first has changed already.
    expect(claim(registry, 1, drawn)).toBe(port);
    registry.release(1, { ...drawn, port });
    expect(claim(registry, 1, { ...any, port })).toBe(port);
  });

  it("draws another for all who come when a drawn port has got a rival", () => {
    const registry = createRegistry();
    const drawn = { ...any, address: "::" };
    const port = claim(registry, 0, drawn);
    registry.release(0, { ...drawn, port });
    expect(claim(registry, 2, { ...any, port })).toBe(port);
    const other = claim(registry, 1, drawn);
    expect(other).toBeGreaterThan(port);
    expect(claim(registry, 3, drawn)).toBe(other);
  });

  it("gives a released port again", () => {
    const registry = createRegistry();
    claim(registry, 0, http);
    claim(registry, 1, http);
    registry.release(0, http);
    expect(claim(registry, 0, http)).toBe(80);
    expect(claim(registry, 1, http)).toBe(EADDRINUSE);
    registry.releaseAll(1);
    expect(claim(registry, 1, http)).toBe(80);
    registry.releaseAll(0);
    registry.releaseAll(1);
    expect(registry.size).toBe(0);
    expect(claim(registry, HOLDER_STACK, http)).toBe(80);
    expect(claim(registry, 0, http)).toBe(EADDRINUSE);
  });

  it("gives nobody a port that one could not open, until that one can or is gone", () => {
    const registry = createRegistry();
    claim(registry, 0, http);
    claim(registry, 1, http);
    registry.fail(1, http, ENOBUFS);
    expect(registry.size).toBe(0);
    expect(claim(registry, 0, http)).toBe(ENOBUFS);
    expect(claim(registry, 1, http)).toBe(80);
    expect(claim(registry, 0, http)).toBe(80);
    registry.fail(1, http, ENOBUFS);
    registry.releaseAll(1);
    expect(claim(registry, 0, http)).toBe(80);
  });

  it("can be made again from what the holders know", () => {
    const registry = createRegistry();
    const first = registry.claim(0, any);
    const second = registry.claim(0, any);
    expect([first.turn, second.turn]).toEqual([0, 1]);
    const again = new PortRegistry(() => 50000);
    again.noteDrawn(0, { ...any, port: second.result }, 1);
    again.noteDrawn(0, { ...any, port: first.result }, 0);
    again.restore(0, { ...any, port: second.result });
    again.restore(1, http);
    expect(claim(again, 1, http)).toBe(EADDRINUSE);
    expect(claim(again, 1, any)).toBe(first.result);
    expect(claim(again, 1, any)).toBe(second.result);
    expect(claim(again, 0, any)).toBe(50000);
  });

  it("draws for port 0, the same port for the n-th request of every kernel", () => {
    const registry = createRegistry();
    const first = claim(registry, 0, any);
    const second = claim(registry, 0, any);
    expect(second).not.toBe(first);
    expect(claim(registry, 1, any)).toBe(first);
    expect(claim(registry, 1, any)).toBe(second);
  });

  it("draws no port that somebody has, and gives up when all are taken", () => {
    const registry = new PortRegistry(() => 40000);
    claim(registry, 0, { ...any, port: 40000 });
    expect(claim(registry, 0, any)).toBe(EADDRINUSE);
  });

  it("gives a restarted kernel the drawn ports of the others", () => {
    const registry = createRegistry();
    const port = claim(registry, 0, any);
    claim(registry, 1, any);
    registry.releaseAll(1);
    expect(claim(registry, 1, any)).toBe(port);
  });
});

describe("PortProxy", () => {
  function createProxy() {
    const told: [type: number, port: number | undefined][] = [];
    let answer: (payload: Uint8Array) => void = () => {};
    const line: OwnerLine = {
      tell: (type, payload) => told.push([type, decodePortMessage(payload)?.port]),
      ask: (_type, _payload, onAnswer) => {
        answer = onAnswer;
        return 1;
      },
      forget: () => {},
    };
    const proxy = new PortProxy(0);
    proxy.attach(line, false);
    return { proxy, told, grant: (port: number) => answer(encodeClaimed(port, 0)) };
  }

  it("refuses what is granted and revoked in one turn: nobody has opened it yet", async () => {
    const { proxy, grant } = createProxy();
    const claimed = proxy.claim(http);
    grant(80);
    proxy.revoke(http, ENOBUFS);
    expect((await claimed).result).toBe(ENOBUFS);
  });

  it("keeps what the kernel itself has opened, and says so, when another kernel cannot", () => {
    const { proxy, told } = createProxy();
    const revoked: PortRequest[] = [];
    proxy.onRevoked = (request) => revoked.push(request);
    proxy.hold(http);
    proxy.revoke(http, ENOBUFS);
    expect(revoked).toEqual([]);
    expect(told).toEqual([
      [MESSAGE_TYPE_HOLDS, 80],
      [MESSAGE_TYPE_HOLDS, 80],
    ]);
  });
});
