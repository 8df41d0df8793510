/** poll and epoll. */
import type { Expression } from "./ast.ts";
import { type Args, type Attempt, type CallContext, done } from "./callContext.ts";
import { Unsupported } from "./errors.ts";
import { Epoll, type Result, type Watch } from "./sockets.ts";
import { EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLET, EPOLLONESHOT, fieldOf, numberOf, POLLERR, POLLHUP } from "./symbols.ts";

const POLLNVAL = 32;
/** Reported whether asked for or not. */
const ALWAYS = POLLERR | POLLHUP;

function bitsText(bits: number): string {
  return `0x${bits.toString(16)}`;
}

/** @param timeoutMs negative: for ever. */
function waiting(context: CallContext, timeoutMs: number, check: () => number, verify: () => void): Attempt {
  const deadlineUs = timeoutMs < 0 ? Number.POSITIVE_INFINITY : context.machine.nowUs + timeoutMs * 1000;
  return {
    deadlineUs,
    poll(): Result | undefined {
      const count = check();
      if (count === 0 && context.machine.nowUs < deadlineUs) return undefined;
      verify();
      return count;
    },
  };
}

/** `poll([{fd=4, events=POLLIN, revents=POLLIN}], 1, 100) = 1` */
export function poll(context: CallContext, args: Args): Attempt {
  const list = args.expression(0);
  if (list.kind !== "list") throw new Unsupported("poll without a list", args.line);
  const entries = list.items.map((item) => ({
    fd: fieldNumber(args, item, "fd"),
    events: fieldNumber(args, item, "events"),
    expected: numberOf(fieldOf(item, "revents") ?? { kind: "number", value: 0, text: "0" }),
    actual: 0,
  }));
  const check = () => {
    for (const entry of entries) {
      const descriptor = context.fds.get(entry.fd);
      const bits = descriptor ? (descriptor.kind === "epoll" ? 0 : descriptor.readiness()) : POLLNVAL;
      entry.actual = bits & (entry.events | ALWAYS | POLLNVAL);
    }
    return entries.filter((entry) => entry.actual !== 0).length;
  };
  return waiting(context, args.number(2), check, () => {
    for (const { fd, expected, actual } of entries) {
      if (expected !== actual) args.fail(`revents of ${fd} is ${bitsText(actual)}, expected ${bitsText(expected)}`);
    }
  });
}

function fieldNumber(args: Args, structure: Expression, name: string): number {
  const field = fieldOf(structure, name);
  if (!field) return args.fail(`${name} is missing`);
  return numberOf(field);
}

export function epollCreate(context: CallContext, args: Args): Attempt {
  return done(context.add(args.call, args.line, new Epoll()));
}

const DATA_FIELDS = ["fd", "ptr", "u32", "u64"] as const;

/** The user's data of an event, whatever member of the union it is. */
function dataOf(event: Expression): number | undefined {
  for (const name of DATA_FIELDS) {
    const field = fieldOf(event, name);
    if (field) return numberOf(field);
  }
  return undefined;
}

/** `epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN, fd=4}) = 0` */
export function epollCtl(context: CallContext, args: Args): Attempt {
  const epoll = context.fds.get(args.number(0));
  const fd = args.number(2);
  if (!epoll || !context.fds.has(fd)) return done("EBADF");
  if (epoll.kind !== "epoll") return done("EINVAL");
  const operation = args.number(1);
  const present = epoll.watches.get(fd);
  if (operation === EPOLL_CTL_ADD ? present : !present) return done(present ? "EEXIST" : "ENOENT");
  if (operation === EPOLL_CTL_DEL) {
    epoll.watches.delete(fd);
    return done(0);
  }
  const event = args.expression(3);
  const events = fieldNumber(args, event, "events");
  const data = dataOf(event) ?? 0;
  epoll.watches.set(fd, { fd, events, data, seenEdges: -1, seenBits: 0, isDisarmed: false });
  return done(0);
}

/** `epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1`; no event: `{events=0, ptr=0}`. */
export function epollWait(context: CallContext, args: Args): Attempt {
  const epoll = context.fds.get(args.number(0));
  if (!epoll) return done("EBADF");
  if (epoll.kind !== "epoll") return done("EINVAL");
  const given = args.expression(1);
  const expected = given.kind === "list" ? given.items : [given];
  const eventsMax = args.number(2);
  let found: { watch: Watch; bits: number }[] = [];
  const check = () => {
    found = [...epoll.watches.values()]
      .map((watch) => ({ watch, bits: pendingBits(context, watch) }))
      .filter(({ bits }) => bits !== 0)
      .slice(0, eventsMax);
    return found.length;
  };
  return waiting(context, args.number(3), check, () => {
    for (const [index, { watch, bits }] of found.entries()) {
      report(context, watch, bits);
      const event = expected[index];
      if (!event || given.kind === "ellipsis") continue;
      const events = fieldNumber(args, event, "events");
      if (events !== bits) args.fail(`events of ${watch.fd} are ${bitsText(bits)}, expected ${bitsText(events)}`);
      const data = dataOf(event);
      if (data !== undefined && data !== watch.data) args.fail(`the event's data is ${watch.data}, expected ${data}`);
    }
  });
}

/** What the watch has to tell now. */
function pendingBits(context: CallContext, watch: Watch): number {
  const descriptor = context.fds.get(watch.fd);
  if (!descriptor || descriptor.kind === "epoll" || watch.isDisarmed) return 0;
  const wanted = watch.events & ~EPOLLONESHOT & 0x7fffffff;
  const bits = descriptor.readiness() & (wanted | ALWAYS);
  if (!isEdgeTriggered(watch)) return bits;
  const isNew = descriptor.edges !== watch.seenEdges || (bits & ~watch.seenBits) !== 0;
  return isNew ? bits : 0;
}

/** Bit 31, which makes the mask negative in 32-bit operations. */
function isEdgeTriggered(watch: Watch): boolean {
  return watch.events >= EPOLLET;
}

function report(context: CallContext, watch: Watch, bits: number): void {
  const descriptor = context.fds.get(watch.fd);
  if (descriptor && descriptor.kind !== "epoll") watch.seenEdges = descriptor.edges;
  watch.seenBits = bits;
  if (watch.events & EPOLLONESHOT) watch.isDisarmed = true;
}
