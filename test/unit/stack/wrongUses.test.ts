/**
 * Wrong uses of the public API, one per row: each is told at once by an Error with a code and one line that says what
 * to do, and leaves everything else as it was. The compiler would refuse most of them; JavaScript has none.
 */
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import * as api from "../../../src/index.ts";
import type { Card, Connection, Segment, Stack } from "../../../src/index.ts";
import { createDgram } from "../../../src/dgram/index.ts";
import { createNet } from "../../../src/net/index.ts";
import { redirectNode } from "../../../src/redirect/index.ts";
import { readAll } from "../../helpers/stacks.ts";

/** JavaScript: nothing has a type. */
// biome-ignore lint/suspicious/noExplicitAny: that is the point of these tests.
type Any = any;
const { createFrameDevice, createSegment, createStack, openTap, parseAddress, parseCidr, parseMac, steerInSoftware } =
  api as Any;
const tuning = { memoryBytes: 32 << 20, connectionsMax: 256 };
const ADDRESS = "10.7.0.9/24";
/** Long enough for a busy machine; what hangs is caught by it. */
const PENDING_MS = 30_000;

let segment: Segment;
/** Two kernels on two queues. */
let stack: Any;
/** A stack on the same segment on which nothing listens. */
let other: Any;
let closed: Any;
let closedDevices: { card: Card; segment: Segment };

const card = (options?: object): Any => segment.createCard(options);

beforeAll(async () => {
  segment = await createSegment({ shared: false, portsMax: 32 });
  stack = await createStack({ device: card({ queues: 2 }), address: "10.7.0.1/24", tuning });
  other = await createStack({ device: card(), address: "10.7.0.2/24", tuning });
  const spare: Segment = await createSegment({ shared: false });
  closed = await createStack({ device: spare.createCard(), address: ADDRESS, tuning });
  await closed.close({ drainMs: 0 });
  const last = spare.createCard();
  await spare.close();
  await last.close();
  closedDevices = { card: last, segment: spare };
});

afterAll(async () => {
  await Promise.all([stack.close({ drainMs: 0 }), other.close({ drainMs: 0 })]);
  await segment.close();
});

type Row = readonly [name: string, use: () => unknown, code: string, says?: RegExp];

/** A stack with these options besides the needed ones. One card serves all: none of them comes so far as to open it. */
let unused: Any;
const stackWith = (options: object) => () => {
  unused ??= card();
  return createStack({ device: unused, address: ADDRESS, tuning, ...options });
};
const twoQueues = () => card({ queues: 2 });

const CREATE: readonly Row[] = [
  ["no options", () => createStack(), "ERR_INVALID_ARG_TYPE", /options of createStack must be an object/],
  ["null", () => createStack(null), "ERR_INVALID_ARG_TYPE"],
  ["no device", () => createStack({ address: ADDRESS }), "ERR_INVALID_ARG_TYPE", /openTap\(\)/],
  ["a device that is text", stackWith({ device: "tap0" }), "ERR_INVALID_ARG_TYPE", /createCard\(\)/],
  ["a segment for a device", () => stackWith({ device: segment })(), "ERR_INVALID_ARG_TYPE", /createCard\(\)/],
  ["no address", stackWith({ address: undefined }), "ERR_INVALID_ARG_TYPE", /address/],
  ["an address that is a number", stackWith({ address: 10 }), "ERR_INVALID_ARG_TYPE", /address/],
  ["no address in the array", stackWith({ address: [] }), "ERR_OPTION_RANGE", /address/],
  ["an address without a prefix", stackWith({ address: "10.7.0.9" }), "ERR_ADDRESS_FORMAT", /10\.7\.0\.2\/24/],
  ["a prefix of 33", stackWith({ address: "10.7.0.9/33" }), "ERR_ADDRESS_FORMAT", /0\.\.32/],
  ["a gateway that is a number", stackWith({ gateway: 5 }), "ERR_INVALID_ARG_TYPE", /gateway/],
  ["a gateway that is a name", stackWith({ gateway: "router" }), "ERR_ADDRESS_FORMAT"],
  ["one route, not in an array", stackWith({ routes: { to: "10.8.0.0/16" } }), "ERR_INVALID_ARG_TYPE", /array/],
  ["a route that is null", stackWith({ routes: [null] }), "ERR_INVALID_ARG_TYPE", /array of objects/],
  ["a route by gateway", stackWith({ routes: [{ to: "10.8.0.0/16", gateway: "x" }] }), "ERR_OPTION_UNKNOWN", /via/],
  ["a MAC of two bytes", stackWith({ mac: "02:00" }), "ERR_ADDRESS_FORMAT", /02:00:5e:10:00:01/],
  ["a short RSS key", stackWith({ rssKey: [1, 2, 3] }), "ERR_RSS_KEY", /40 or 52/],
  ["an RSS key that is text", stackWith({ rssKey: "abc" }), "ERR_INVALID_ARG_TYPE", /Uint8Array/],
  ["no kernels", stackWith({ kernels: 0 }), "ERR_OPTION_RANGE", /1 to 64/],
  ["kernels as text", stackWith({ kernels: "2" }), "ERR_OPTION_RANGE", /1 to 64/],
  ["more kernels than queues", stackWith({ kernels: 4 }), "ERR_OPTION_COMBINATION", /steerInSoftware/],
  ["kernelsMax below kernels", stackWith({ kernels: 4, kernelsMax: 2 }), "ERR_OPTION_RANGE", /kernelsMax/],
  ["an unknown mode", stackWith({ mode: "process" }), "ERR_OPTION_RANGE", /"inline" or "threads"/],
  ["an unknown drive", stackWith({ drive: "hand" }), "ERR_OPTION_RANGE", /"auto" or "manual"/],
  ["threads without an application", stackWith({ mode: "threads" }), "ERR_OPTION_COMBINATION", /option app/],
  ["threads by hand", stackWith({ mode: "threads", app: "x", drive: "manual" }), "ERR_OPTION_COMBINATION"],
  [
    "arguments that no thread can have",
    stackWith({ mode: "threads", app: "x", appArguments: { call() {} } }),
    "ERR_INVALID_ARG_TYPE",
    /appArguments/,
  ],
  ["a clock without nowNs", stackWith({ clock: {} }), "ERR_INVALID_ARG_TYPE", /nowNs/],
  ["a seed that is an object", stackWith({ seed: {} }), "ERR_INVALID_ARG_TYPE", /integer, text/],
  ["a seed that is no number", stackWith({ seed: Number.NaN }), "ERR_OPTION_RANGE", /seed/],
  ["an unknown policy", stackWith({ balancer: "fast" }), "ERR_OPTION_RANGE", /angel/],
  ["restart: true", stackWith({ restart: true }), "ERR_INVALID_ARG_TYPE", /restart/],
  ["an unknown option of restart", stackWith({ restart: { delay: 1 } }), "ERR_OPTION_UNKNOWN", /delayMs/],
  ["a signal that is none", stackWith({ signal: {} }), "ERR_INVALID_ARG_TYPE", /AbortSignal/],
  ["a flag as text", stackWith({ timestamps: "no" }), "ERR_INVALID_ARG_TYPE", /true or false/],
  ["an application that is a number", stackWith({ app: 5 }), "ERR_INVALID_ARG_TYPE", /path or a URL/],
  ["an application that is not there", stackWith({ app: "/nowhere.js" }), "ERR_APP_LOAD", /nowhere/],
  ["an option that there is not", stackWith({ kernel: 2 }), "ERR_OPTION_UNKNOWN", /no option kernel; it has .*kernels/],
  ["tuning: null", stackWith({ tuning: null }), "ERR_INVALID_ARG_TYPE", /tuning/],
  ["tuning that there is not", stackWith({ tuning: { rto: 1 } }), "ERR_OPTION_UNKNOWN", /docs\/api\.md/],
  ["tuning out of range", stackWith({ tuning: { rtoMinUs: 0 } }), "ERR_OPTION_RANGE", /1000 to 60000000/],
  [
    "a memory too small for its connections",
    () => createStack({ device: card(), address: ADDRESS, tuning: { memoryBytes: 4 << 20, connectionsMax: 1e6 } }),
    "ENOMEM",
    /raise memoryBytes/,
  ],
];

const DEVICES: readonly Row[] = [
  ["a card with no queue", () => card({ queues: 0 }), "ERR_OPTION_RANGE", /1\.\.128/],
  ["a card's option that there is not", () => card({ queue: 2 }), "ERR_OPTION_UNKNOWN", /queues/],
  ["a card of another maker", () => card({ preset: "e1000" }), "ERR_OPTION_RANGE", /82599/],
  [
    "an impairment that there is not",
    () => createSegment({ impairments: { loss: 2 } }),
    "ERR_OPTION_UNKNOWN",
    /lossPpm/,
  ],
  ["an impairment out of range", () => createSegment({ impairments: { lossPpm: -1 } }), "ERR_OPTION_RANGE", /lossPpm/],
  ["a segment with an MTU", () => createSegment({ mtuBytes: 1500 }), "ERR_OPTION_UNKNOWN", /portsMax/],
  ["an overflow that there is not", () => createSegment({ overflow: "wait" }), "ERR_OPTION_RANGE", /"pause" or "drop"/],
  ["a card of a closed segment", () => closedDevices.segment.createCard(), "EBADF", /create another/],
  ["a closed card", () => createStack({ device: closedDevices.card, address: ADDRESS, tuning }), "EBADF", /closed/],
  [
    "a device that another stack has",
    () => createStack({ device: segment.cards[1], address: ADDRESS, tuning }),
    "EBUSY",
  ],
  ["frames without options", () => createFrameDevice(), "ERR_INVALID_ARG_TYPE"],
  ["frames without transmit", () => createFrameDevice({}), "ERR_OPTION_RANGE", /transmit must be a function/],
  ["a frame that is text", () => createFrameDevice({ transmit() {} }).receive("x"), "EINVAL", /Uint8Array/],
  ["steering of nothing", () => steerInSoftware(), "ERR_INVALID_ARG_TYPE", /openTap\(\)/],
  ["steering without options", () => steerInSoftware(card()), "ERR_INVALID_ARG_TYPE", /options of steerInSoftware/],
  ["steering of two queues", () => steerInSoftware(twoQueues(), { queues: 4 }), "ERR_OPTION_COMBINATION", /queues: 1/],
  ["a TAP without options", () => openTap(), "ERR_INVALID_ARG_TYPE", /openTap/],
  ["a TAP without a name", () => openTap({ queues: 1 }), "ERR_INVALID_ARG_TYPE", /name/],
  ["a TAP's option that there is not", () => openTap({ name: "px0", queue: 1 }), "ERR_OPTION_UNKNOWN", /queues/],
];

const opened: { close(): unknown }[] = [];
/** The second of two that exclude each other. */
const twice = (open: () => Promise<Any>) => async () => {
  opened.push(await open());
  opened.push(await open());
};
const udpCall = (call: (socket: Any) => unknown) => async () => {
  const socket = await stack.bindUdp(0);
  opened.push(socket);
  await call(socket);
};
const to = (options: object) => () => stack.connect({ address: "10.7.0.2", port: 80, ...options });

const STACK: readonly Row[] = [
  ["listen()", () => stack.listen(), "ERR_INVALID_ARG_TYPE", /a port or/],
  ["a port as text", () => stack.listen("80"), "ERR_INVALID_ARG_TYPE", /a port or/],
  ["a negative port", () => stack.listen(-1), "ERR_OPTION_RANGE", /0 to 65535/],
  ["port 70000", () => stack.listen(70000), "ERR_OPTION_RANGE", /0 to 65535/],
  ["a listener's option that there is not", () => stack.listen(81, { backlogs: 5 }), "ERR_OPTION_UNKNOWN", /backlog/],
  ["a backlog of 0", () => stack.listen(81, { backlog: 0 }), "ERR_OPTION_RANGE", /backlog/],
  ["an address of another host", () => stack.listen(81, { address: "10.9.9.9" }), "EADDRNOTAVAIL", /stack's addresses/],
  ["onConnection that is no function", () => stack.listen(81, { onConnection: 1 }), "ERR_INVALID_ARG_TYPE", /function/],
  ["a signal that is none", () => stack.listen(81, { signal: {} }), "ERR_INVALID_ARG_TYPE", /AbortSignal/],
  [
    "a socket option that there is not",
    () => stack.listen(81, { socketOptions: { TCP_X: 1 } }),
    "ERR_OPTION_UNKNOWN",
    /TCP_NODELAY/,
  ],
  ["a socket option as text", () => stack.listen(81, { socketOptions: { TCP_NODELAY: "on" } }), "ERR_OPTION_RANGE"],
  ["listening twice", twice(() => stack.listen(82)), "EADDRINUSE", /close the other socket/],
  ["connect()", () => stack.connect(), "ERR_INVALID_ARG_TYPE", /options of connect/],
  ["connecting to a port", () => stack.connect(80), "ERR_INVALID_ARG_TYPE", /options of connect/],
  ["connecting to port 0", to({ port: 0 }), "ERR_OPTION_RANGE", /1 to 65535/],
  ["connecting to a name", to({ address: "example.org" }), "ERR_ADDRESS_FORMAT", /10\.7\.0\.2/],
  ["connecting to nobody", to({ address: undefined }), "ERR_ADDRESS_FORMAT", /undefined/],
  ["connecting without a route", to({ address: "8.8.8.8" }), "ENETUNREACH", /add a gateway/],
  ["connecting from another's address", to({ localAddress: "1.2.3.4" }), "EADDRNOTAVAIL"],
  ["connecting from port 70000", to({ localPort: 70000 }), "ERR_OPTION_RANGE", /localPort/],
  ["connecting with a time-out", to({ timeout: 5 }), "ERR_OPTION_UNKNOWN", /signal/],
  ["first bytes as text", to({ fastOpen: "GET" }), "ERR_INVALID_ARG_TYPE", /Uint8Array/],
  ["connecting where nobody listens", to({}), "ECONNREFUSED", /nobody listens/],
  ["bindUdp()", () => stack.bindUdp(), "ERR_INVALID_ARG_TYPE", /a port or/],
  ["binding twice", twice(() => stack.bindUdp(53)), "EADDRINUSE"],
  [
    "a datagram of text",
    udpCall((socket) => socket.send("x", { address: "10.7.0.2", port: 9 })),
    "ERR_INVALID_ARG_TYPE",
  ],
  [
    "a datagram to nobody",
    udpCall((socket) => socket.send(new Uint8Array(1))),
    "ERR_INVALID_ARG_TYPE",
    /address, port/,
  ],
  [
    "a datagram of 70,000 bytes",
    udpCall((socket) => socket.send(new Uint8Array(70_000), { address: "10.7.0.2", port: 9 })),
    "EMSGSIZE",
  ],
  ["a group that is none", udpCall((socket) => socket.addMembership("10.7.0.3")), "EINVAL"],
  ["ping()", () => stack.ping(), "ERR_ADDRESS_FORMAT"],
  ["a ping of no time", () => stack.ping("10.7.0.2", { timeoutMs: 0 }), "ERR_OPTION_RANGE", /timeoutMs/],
  ["a kernel beyond the queues", () => stack.addKernel(), "ERR_KERNELS_MAX", /kernelsMax/],
  ["removing kernel 9", () => stack.removeKernel(9), "ERR_NO_SUCH_KERNEL", /statuses/],
  ["removing the last kernel", () => other.removeKernel(0), "ERR_LAST_KERNEL", /close the stack/],
  ["killing no kernel", () => stack.killKernel(), "ERR_NO_SUCH_KERNEL"],
  ["moving group 5000", () => stack.migrate(5000, 0), "ERR_OPTION_RANGE", /0 to 4095/],
  ["moving to kernel 9", () => stack.migrate(5, 9), "ERR_OPTION_RANGE", /toKernel/],
  ["a turn at no time", () => stack.turn(Number.NaN), "ERR_OPTION_RANGE", /nanoseconds/],
  ["a listener of events that is none", () => stack.on("error", "x"), "ERR_INVALID_ARG_TYPE", /function/],
  ["closing with a bad time", () => stack.close({ drainMs: "x" }), "ERR_OPTION_RANGE", /drainMs/],
  ["an address that is a number", () => parseAddress(5), "ERR_ADDRESS_FORMAT"],
  ["no CIDR", () => parseCidr(), "ERR_ADDRESS_FORMAT"],
  ["no MAC", () => parseMac(), "ERR_ADDRESS_FORMAT"],
  ["createNet of nothing", () => createNet(undefined as Any), "ERR_INVALID_ARG_TYPE", /createStack/],
  ["createNet of something else", () => createNet({} as Any), "ERR_INVALID_ARG_TYPE", /createStack/],
  ["createDgram of nothing", () => createDgram(undefined as Any), "ERR_INVALID_ARG_TYPE", /createStack/],
  ["redirecting to nothing", () => redirectNode(undefined as Any), "ERR_INVALID_ARG_TYPE", /createStack/],
];

const failed = (emitter: Any) => new Promise((_, reject) => emitter.on("error", reject));

const CLOSED: readonly Row[] = [
  ["listen", () => closed.listen(80), "ERR_STACK_CLOSED", /create another/],
  ["connect", () => closed.connect({ address: "10.7.0.2", port: 80 }), "ERR_STACK_CLOSED"],
  ["bindUdp", () => closed.bindUdp(53), "ERR_STACK_CLOSED"],
  ["ping", () => closed.ping("10.7.0.2"), "ERR_STACK_CLOSED"],
  ["addKernel", () => closed.addKernel(), "ERR_STACK_CLOSED"],
  ["removeKernel", () => closed.removeKernel(0), "ERR_STACK_CLOSED"],
  ["killKernel", () => closed.killKernel(0), "ERR_STACK_CLOSED"],
  ["migrate", () => closed.migrate(1, 0), "ERR_STACK_CLOSED"],
  ["net.connect", () => failed(createNet(closed).connect(80, "10.7.0.2")), "ERR_STACK_CLOSED"],
  ["net.listen", () => failed(createNet(closed).createServer().listen(80)), "ERR_STACK_CLOSED"],
  ["dgram.bind", () => failed(createDgram(closed).createSocket("udp4").bind(5)), "ERR_STACK_CLOSED"],
];

async function refusalOf(use: () => unknown): Promise<Any> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve("nothing has happened"), PENDING_MS);
  });
  const outcome = Promise.resolve()
    .then(use)
    .then(
      (result) => {
        if (result && typeof (result as Any).close === "function") opened.push(result as Any);
        return "no error";
      },
      (error) => error,
    );
  const first = await Promise.race([outcome, late]);
  clearTimeout(timer);
  for (const socket of opened.splice(0)) await socket.close();
  return first;
}

describe.each([
  { where: "createStack", rows: CREATE },
  { where: "devices", rows: DEVICES },
  { where: "a stack", rows: STACK },
  { where: "a closed stack", rows: CLOSED },
])("wrong uses of $where", ({ rows }) => {
  it.each(rows.map(([name, use, code, says = /\w/]) => ({ name, use, code, says })))("$name", async (row) => {
    const { use, code, says } = row;
    const refusal = await refusalOf(use);
    expect(refusal).toBeInstanceOf(Error);
    expect(refusal).toMatchObject({ code });
    expect(refusal.message).toMatch(says);
    expect(refusal.message).not.toContain("\n");
  });

  it("leave the stacks as they were", async () => {
    onTestFinished(() => listener.close());
    const listener = await other.listen({ port: 7, onConnection: (it: Connection) => it.readable.pipeTo(it.writable) });
    const connection: Connection = await (stack as Stack).connect({ address: "10.7.0.2", port: 7 });
    const writer = connection.writable.getWriter();
    await writer.write(new Uint8Array([1, 2, 3]));
    await writer.close();
    expect(await readAll(connection.readable)).toEqual(new Uint8Array([1, 2, 3]));
  });
});

describe("a connection that is closed", () => {
  const CALLS: readonly (readonly [string, (connection: Any) => unknown, string])[] = [
    ["info", (connection) => connection.info(), "EBADF"],
    ["tcpInfo", (connection) => connection.tcpInfo(), "EBADF"],
    ["setNoDelay", (connection) => connection.setNoDelay(), "EBADF"],
    ["setOptions", (connection) => connection.setOptions({ TCP_CORK: true }), "EBADF"],
    ["setOptions(null)", (connection) => connection.setOptions(null), "ERR_INVALID_ARG_TYPE"],
    ["write", (connection) => connection.writable.getWriter().write(new Uint8Array(1)), "EPIPE"],
  ];
  it.each(CALLS)("%s", async (_name, call, code) => {
    onTestFinished(() => listener.close());
    const listener = await other.listen(7);
    const connection = await stack.connect({ address: "10.7.0.2", port: 7 });
    void connection.close();
    expect(await refusalOf(() => call(connection))).toMatchObject({ code });
  });

  it("has a readable that has ended, also when it is asked for only now", async () => {
    onTestFinished(() => listener.close());
    const listener = await other.listen(7);
    const connection: Connection = await stack.connect({ address: "10.7.0.2", port: 7 });
    void connection.close();
    expect(await connection.readable.getReader().read()).toEqual({ done: true, value: undefined });
  });
});
