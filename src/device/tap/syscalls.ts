/**
 * System calls of Linux, called from JavaScript through koffi: no compiler, no native addon of our own.
 *
 * koffi is an optional dependency and is loaded on first use. A call costs about 30 ns over the bare system call.
 * Every wrapper returns what the kernel would: a count or file descriptor, or the negative errno.
 * Structures are laid out by hand; they are those of x86-64 and arm64, both little-endian.
 */
import { createRequire } from "node:module";
import { NetPopcornError } from "../../errors.ts";

export const O_RDWR = 2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;

export const EPERM = 1;
export const ENOENT = 2;
export const ENXIO = 6;
export const EAGAIN = 11;
export const EACCES = 13;
export const EEXIST = 17;
export const EBUSY = 16;
export const ENODEV = 19;
export const EINVAL = 22;
export const EBADFD = 77;

export const EPOLLIN = 1;
export const EPOLLOUT = 4;
export const EPOLLONESHOT = 1 << 30;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;

const EFD_NONBLOCK = O_NONBLOCK;
const EFD_CLOEXEC = O_CLOEXEC;
const EPOLL_CLOEXEC = O_CLOEXEC;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = O_CLOEXEC;
const CLONE_NEWNET = 0x40000000;

/** `struct epoll_event` is packed on x86-64 and nowhere else. */
const EPOLL_EVENT_SIZE_BYTES = process.arch === "x64" ? 12 : 16;
const EPOLL_EVENT_DATA = EPOLL_EVENT_SIZE_BYTES - 8;
const BPF_SYSCALL_NUMBERS: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };

export type Syscalls = {
  open(path: string, flags: number): number;
  close(fd: number): number;
  /** @param address of the buffer, as from addressOf() plus an offset. The caller keeps the buffer alive. */
  read(fd: number, address: number, bytes: number): number;
  write(fd: number, address: number, bytes: number): number;
  /** ioctl with a structure. */
  ioctl(fd: number, request: number, structure: Uint8Array): number;
  /** ioctl with a number in place of a pointer. */
  ioctlValue(fd: number, request: number, value: number): number;
  /** Datagram socket of an address family, for interface ioctls only. */
  socket(family: number): number;
  eventfd(): number;
  /** Adds one to an eventfd. */
  eventfdSignal(fd: number): void;
  /** Sets an eventfd back to zero. */
  eventfdClear(fd: number): void;
  epollCreate(): number;
  /** @param token u32, handed back by epollWait. */
  epollControl(epollFd: number, operation: number, fd: number, events: number, token: number): number;
  /** Blocks this thread until something is ready. @returns number of tokens in `tokens`, 0 after the time-out. */
  epollWait(epollFd: number, tokens: Uint32Array, timeoutMs: number): number;
  /** @returns as bpf(2); -ENOSYS on a processor whose system call number is not known here. */
  bpf(command: number, attributes: Uint8Array): number;
  /** Moves this thread into the network namespace that `fd` stands for. */
  setNetworkNamespace(fd: number): number;
  /** Address of a view's first byte, in memory that cannot move: a WebAssembly memory or a `new ArrayBuffer()`. */
  addressOf(view: Uint8Array): number;
};

let loaded: Syscalls | undefined;

/**
 * The bindings of this thread, loaded on the first call.
 * @throws NetPopcornError ERR_PLATFORM where this is not Linux on x86-64 or arm64; ERR_KOFFI_MISSING without koffi.
 */
export function loadSyscalls(): Syscalls {
  loaded ??= bindSyscalls();
  return loaded;
}

function requireKoffi(): typeof import("koffi") {
  if (process.platform !== "linux" || BPF_SYSCALL_NUMBERS[process.arch] === undefined) {
    throw new NetPopcornError(
      "ERR_PLATFORM",
      `a TAP device needs Linux on x64 or arm64, this is ${process.platform} on ${process.arch}; ` +
        "use the in-memory segment (createSegment) here",
    );
  }
  try {
    return createRequire(import.meta.url)("koffi") as typeof import("koffi");
  } catch (cause) {
    throw new NetPopcornError(
      "ERR_KOFFI_MISSING",
      "a TAP device needs the optional package koffi, which is not installed; run `npm install koffi`",
      { cause },
    );
  }
}

function bindSyscalls(): Syscalls {
  const koffi = requireKoffi();
  const libc = koffi.load(null);
  const errno = koffi.errno as () => number;
  const open = libc.func("int open(const char *path, int flags)") as (path: string, flags: number) => number;
  const close = libc.func("int close(int fd)") as (fd: number) => number;
  type Transfer = (fd: number, address: number, bytes: number) => number;
  const read = libc.func("long read(int fd, uintptr_t buffer, size_t count)") as Transfer;
  const write = libc.func("long write(int fd, uintptr_t buffer, size_t count)") as Transfer;
  const ioctl = libc.func("int ioctl(int fd, unsigned long request, void *structure)") as Syscalls["ioctl"];
  const ioctlValue = libc.func("int ioctl(int fd, unsigned long request, uintptr_t value)") as Syscalls["ioctlValue"];
  const socket = libc.func("int socket(int family, int type, int protocol)") as (...fields: number[]) => number;
  const eventfd = libc.func("int eventfd(unsigned int initial, int flags)") as (...fields: number[]) => number;
  const epollCreate1 = libc.func("int epoll_create1(int flags)") as (flags: number) => number;
  const epollCtl = libc.func("int epoll_ctl(int epfd, int op, int fd, uintptr_t event)") as (...f: number[]) => number;
  const epollWait = libc.func("int epoll_wait(int epfd, uintptr_t events, int max, int timeout)") as (
    ...fields: number[]
  ) => number;
  const setns = libc.func("int setns(int fd, int type)") as (fd: number, type: number) => number;
  const syscall = libc.func("long syscall(long number, long a, void *b, long c)") as (
    number: number,
    a: number,
    b: Uint8Array,
    c: number,
  ) => number;

  const status = (result: number): number => (result < 0 ? -errno() : result);
  const addressOf = (view: Uint8Array): number => Number(koffi.address(view));

  // Off the JavaScript heap, so that their addresses hold.
  const eventsMax = 64;
  const events = new DataView(new ArrayBuffer(EPOLL_EVENT_SIZE_BYTES * eventsMax));
  const eventsAddress = addressOf(new Uint8Array(events.buffer));
  const control = new DataView(new ArrayBuffer(EPOLL_EVENT_SIZE_BYTES));
  const controlAddress = addressOf(new Uint8Array(control.buffer));
  const count = new DataView(new ArrayBuffer(8));
  const countAddress = addressOf(new Uint8Array(count.buffer));

  return {
    open: (path, flags) => status(open(path, flags)),
    close: (fd) => status(close(fd)),
    read: (fd, address, bytes) => status(read(fd, address, bytes)),
    write: (fd, address, bytes) => status(write(fd, address, bytes)),
    ioctl: (fd, request, structure) => status(ioctl(fd, request, structure)),
    ioctlValue: (fd, request, value) => status(ioctlValue(fd, request, value)),
    socket: (family) => status(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
    eventfd: () => status(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
    eventfdSignal: (fd) => {
      count.setBigUint64(0, 1n, true);
      write(fd, countAddress, 8);
    },
    eventfdClear: (fd) => {
      read(fd, countAddress, 8);
    },
    epollCreate: () => status(epollCreate1(EPOLL_CLOEXEC)),
    epollControl: (epollFd, operation, fd, mask, token) => {
      control.setUint32(0, mask, true);
      control.setUint32(EPOLL_EVENT_DATA, token, true);
      return status(epollCtl(epollFd, operation, fd, controlAddress));
    },
    epollWait: (epollFd, tokens, timeoutMs) => {
      const ready = epollWait(epollFd, eventsAddress, Math.min(eventsMax, tokens.length), timeoutMs);
      for (let index = 0; index < ready; index += 1) {
        tokens[index] = events.getUint32(index * EPOLL_EVENT_SIZE_BYTES + EPOLL_EVENT_DATA, true);
      }
      return status(ready);
    },
    bpf: (command, attributes) =>
      status(syscall(BPF_SYSCALL_NUMBERS[process.arch] as number, command, attributes, attributes.length)),
    setNetworkNamespace: (fd) => status(setns(fd, CLONE_NEWNET)),
    addressOf,
  };
}
