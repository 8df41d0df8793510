import fc from "../../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { DhcpClient, type Lease } from "../../../src/ip/dhcpClient.ts";
import { ACK, DECLINE, DISCOVER, NAK, OFFER, parseReply, RELEASE, REQUEST } from "../../../src/ip/dhcpMessage.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const SERVER = [10, 0, 0, 1];
const S = 1000;

type Options = Readonly<Record<number, readonly number[]>>;
const u32 = (value: number) => [24, 16, 8, 0].map((shift) => (value / 2 ** shift) & 0xff);

/** A server's message, written by hand. */
function reply(transaction: number, yours: readonly number[], options: Options, mac = MAC): Uint8Array {
  const bytes = new Uint8Array(400);
  bytes.set([2, 1, 6, 0, ...u32(transaction)]);
  bytes.set(yours, 16);
  bytes.set(mac, 28);
  bytes.set(u32(0x63825363), 236);
  const list = Object.entries(options).flatMap(([code, value]) => [Number(code), value.length, ...value]);
  bytes.set([...list, 255], 240);
  return bytes;
}

/** What a client says, taken apart. */
function request(bytes: Uint8Array) {
  const options: Record<number, number[]> = {};
  for (let at = 240; bytes[at] !== 255; at += 2 + (bytes[at + 1] as number)) {
    options[bytes[at] as number] = [...bytes.slice(at + 2, at + 2 + (bytes[at + 1] as number))];
  }
  const view = new DataView(bytes.buffer);
  return {
    type: options[53]?.[0],
    transaction: view.getUint32(4),
    flags: view.getUint16(10),
    client: [...bytes.slice(12, 16)],
    options,
  };
}

function create() {
  const sent: { message: ReturnType<typeof request>; to: number[] | undefined }[] = [];
  const world = { sent, taken: false, probes: 0, bound: [] as Lease[], lost: 0 };
  let draws = 0;
  const client = new DhcpClient({
    mac: MAC,
    random: () => {
      draws += 0.37;
      return (draws * 0.618) % 1;
    },
    send: (bytes, to) => sent.push({ message: request(bytes), to: to && [...to] }),
    probe: () => {
      world.probes++;
    },
    isProbeAnswered: () => world.taken,
    bound: (lease) => world.bound.push(lease),
    lost: () => {
      world.lost++;
    },
  });
  const last = () => {
    const entry = sent.at(-1);
    if (!entry) throw new Error("nothing was sent");
    return entry;
  };
  /** Turns until `untilMs`, each when it is due. */
  const run = (untilMs: number) => {
    while (client.deadlineMs <= untilMs) client.turn(Math.max(client.deadlineMs, 0));
  };
  const answer = (type: number, nowMs: number, options: Options = {}, yours = [10, 0, 0, 9]) =>
    client.input(
      reply(last().message.transaction, yours, {
        53: [type],
        54: SERVER,
        51: u32(3600),
        1: [255, 255, 255, 0],
        ...options,
      }),
      nowMs,
    );
  return { client, world, last, run, answer };
}

function bind(options: Options = {}) {
  const setup = create();
  setup.run(0);
  setup.answer(OFFER, 100);
  setup.answer(ACK, 200, options);
  setup.run(200 + S);
  return setup;
}

describe("DhcpClient (RFC 2131)", () => {
  test("DISCOVER, OFFER, REQUEST, ACK, probes, bound", () => {
    const { client, world, last, run, answer } = create();
    run(0);
    expect(last()).toMatchObject({ to: undefined, message: { type: DISCOVER, flags: 0x8000, client: [0, 0, 0, 0] } });
    answer(OFFER, 100);
    expect(last().message).toMatchObject({ type: REQUEST, options: { 50: [10, 0, 0, 9], 54: SERVER } });
    answer(ACK, 200, { 3: [10, 0, 0, 1] });
    expect(client.isBound).toBe(false);
    run(900);
    expect(world.probes).toBe(2);
    expect(world.bound).toEqual([
      { address: Uint8Array.of(10, 0, 0, 9), prefixLength: 24, router: Uint8Array.from(SERVER), routes: [] },
    ]);
  });

  test("nobody answers: asked again after 4, 8, 16, 32, 64, 64 s, each within a second", () => {
    const { world, run, client } = create();
    const times: number[] = [];
    for (let i = 0; i < 7; i++) {
      times.push(Math.max(0, client.deadlineMs));
      run(client.deadlineMs);
    }
    const waits = times.slice(1).map((at, i) => at - (times[i] as number));
    [4, 8, 16, 32, 64, 64].forEach((seconds, i) => {
      expect(Math.abs((waits[i] as number) - seconds * S)).toBeLessThanOrEqual(S);
    });
    expect(world.sent.every(({ message }) => message.type === DISCOVER)).toBe(true);
  });

  test("somebody has the address: DECLINE, and a new start ten seconds later", () => {
    const { world, run, answer, last } = create();
    run(0);
    answer(OFFER, 100);
    answer(ACK, 200);
    world.taken = true;
    run(600);
    expect(last().message).toMatchObject({ type: DECLINE, options: { 50: [10, 0, 0, 9], 54: SERVER } });
    run(10_400);
    expect(last().message.type).toBe(DECLINE);
    run(10_600);
    expect(last().message.type).toBe(DISCOVER);
    expect(world.bound).toEqual([]);
  });

  test("NAK to a REQUEST starts anew; another server's does not count", () => {
    const { run, answer, last } = create();
    run(0);
    answer(OFFER, 100);
    answer(NAK, 150, { 54: [10, 0, 0, 77] });
    expect(last().message.type).toBe(REQUEST);
    answer(NAK, 160);
    run(1200);
    expect(last().message.type).toBe(DISCOVER);
  });

  test("REQUEST without an answer: four times, then from the beginning", () => {
    const { run, answer, world } = create();
    run(0);
    answer(OFFER, 100);
    run(100_000);
    const types = world.sent.map(({ message }) => message.type);
    expect(types.slice(0, 6)).toEqual([DISCOVER, REQUEST, REQUEST, REQUEST, REQUEST, DISCOVER]);
  });

  test("renewed at half the lease, from the server, by unicast", () => {
    const { client, world, run, last, answer } = bind();
    run(1799 * S);
    const before = world.sent.length;
    run(1801 * S);
    expect(world.sent.length).toBe(before + 1);
    expect(last()).toMatchObject({ to: SERVER, message: { type: REQUEST, flags: 0, client: [10, 0, 0, 9] } });
    expect(last().message.options[50]).toBeUndefined();
    answer(ACK, 1802 * S);
    expect(client.deadlineMs).toBeGreaterThan(3600 * S);
    expect(world).toMatchObject({ lost: 0 });
  });

  test("no server: rebinding at seven eighths, to everybody; at the end the address goes", () => {
    const { client, world, run, last } = bind();
    run(3149 * S);
    expect(last().to).toEqual(SERVER);
    run(3152 * S);
    expect(last().to).toEqual([255, 255, 255, 255]);
    expect(client.isBound).toBe(true);
    run(3601 * S);
    expect(world.lost).toBe(1);
    expect(client.isBound).toBe(false);
    expect(last().message.type).toBe(DISCOVER);
  });

  test("NAK while renewing: the address goes at once", () => {
    const { world, run, answer } = bind();
    run(1801 * S);
    answer(NAK, 1802 * S);
    expect(world.lost).toBe(1);
  });

  test("the server's own times count, impossible ones do not", () => {
    const early = bind({ 58: u32(100), 59: u32(200) });
    early.run(101 * S);
    expect(early.last().message.type).toBe(REQUEST);
    const absurd = bind({ 58: u32(9000), 59: u32(9999) });
    absurd.run(1700 * S);
    expect(absurd.world.sent.length).toBe(2);
  });

  test("a lease for ever is never renewed", () => {
    const { client } = bind({ 51: [255, 255, 255, 255] });
    expect(client.deadlineMs).toBe(Number.POSITIVE_INFINITY);
  });

  test("closed: RELEASE", () => {
    const { client, world, last } = bind();
    client.close();
    expect(last()).toMatchObject({ to: SERVER, message: { type: RELEASE, client: [10, 0, 0, 9] } });
    expect(world.lost).toBe(1);
    expect(client.deadlineMs).toBe(Number.POSITIVE_INFINITY);
  });

  test("classless routes (RFC 3442), options in the file field, an option in two parts", () => {
    const message = reply(7, [10, 0, 0, 9], { 53: [ACK], 52: [1], 121: [16, 10, 20, 10, 0, 0, 7, 0, 10] });
    message.set([121, 3, 0, 0, 1, 51, 4, 0, 0, 0, 60, 255], 108);
    expect(parseReply(message, MAC)).toMatchObject({
      leaseS: 60,
      routes: [
        { prefix: Uint8Array.of(10, 20, 0, 0), prefixLength: 16, gateway: Uint8Array.of(10, 0, 0, 7) },
        { prefix: Uint8Array.of(0, 0, 0, 0), prefixLength: 0, gateway: Uint8Array.of(10, 0, 0, 1) },
      ],
    });
  });

  test("messages for others, of other transactions, cut off or broken are passed over", () => {
    const { client, world, run, last } = create();
    run(0);
    const { transaction } = last().message;
    const offer = { 53: [OFFER], 54: SERVER };
    client.input(reply(transaction + 1, [10, 0, 0, 9], offer), 1);
    client.input(reply(transaction, [10, 0, 0, 9], offer, Uint8Array.of(2, 0, 0, 0, 0, 9)), 1);
    client.input(reply(transaction, [127, 0, 0, 1], offer), 1);
    client.input(reply(transaction, [10, 0, 0, 9], { 53: [OFFER] }), 1);
    client.input(reply(transaction, [10, 0, 0, 9], offer).slice(0, 245), 1);
    expect(world.sent.length).toBe(1);
  });

  test("any bytes at all: no exception, and it goes on", () => {
    const bytes = fc.uint8Array({ maxLength: 600 });
    const options = fc.dictionary(
      fc.integer({ min: 1, max: 254 }).map(String),
      fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 40 }),
      { maxKeys: 6 },
    );
    const property = fc.property(fc.array(fc.oneof(bytes, options), { maxLength: 20 }), (inputs) => {
      const { client, run, last } = create();
      let nowMs = 0;
      for (const given of inputs) {
        run(nowMs);
        const message =
          given instanceof Uint8Array
            ? given
            : reply(last().message.transaction, [10, 0, 0, 9], { 54: SERVER, 51: u32(60), ...given } as Options);
        client.input(message, nowMs);
        nowMs += 500;
      }
      expect(client.deadlineMs).toBeGreaterThanOrEqual(0);
      client.close();
    });
    fc.assert(property, { numRuns: 300 });
  });
});
