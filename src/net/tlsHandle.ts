/**
 * What node:tls asks the handle below it for: addresses, setNoDelay(), setKeepAlive(), ref(), unref(). Below a
 * TLSSocket on a socket of the stack is Node's handle for streams in JavaScript (JSStream), which has none of these:
 * a request of node:https would not know whom it is from. It gets them here, answered by the stream's socket.
 */
import type net from "node:net";
import { Duplex } from "node:stream";

type Out = { address?: string | undefined; port?: number | undefined; family?: string | undefined };

/** Method of a socket of the stack: it is below such a handle from now on. */
export const UNDER_STREAM_HANDLE = Symbol("under stream handle");

/** A socket of the stack. */
type Below = net.Socket & { [UNDER_STREAM_HANDLE](): void };

/** JSStreamSocket: the socket that Node makes of a stream. */
type StreamSocket = { readonly stream?: unknown; readStart(): number };

/** Node passes seconds. */
type HandleMethods = {
  getpeername(out: Out): number;
  getsockname(out: Out): number;
  setNoDelay(on: boolean): number;
  setKeepAlive(on: boolean, delaySeconds: number): number;
  ref(): void;
  unref(): void;
};

/** Node's list of its modules that are loaded, which only grows. */
const { moduleLoadList = [] } = process as unknown as { readonly moduleLoadList?: readonly string[] };
/** node:tls's sockets: of Node 24, and of those before. */
const TLS_MODULES = ["NativeModule internal/tls/wrap", "NativeModule _tls_wrap"];
let modulesSeen = 0;
let isExtended = false;

/**
 * Cheap to call for each socket: looks again only when modules have been loaded since.
 * @param isOurs whether it is a socket of the stack: other streams keep what they have.
 */
export function extendStreamHandle(isOurs: (stream: unknown) => stream is Below): void {
  if (isExtended || moduleLoadList.length === modulesSeen) return;
  modulesSeen = moduleLoadList.length;
  if (!TLS_MODULES.some((name) => moduleLoadList.includes(name))) return;
  isExtended = true;
  const found = findStreamHandle();
  if (!found) return;
  const { prototype, ownerPrototype, ownerOf } = found;
  const { readStart } = ownerPrototype;
  ownerPrototype.readStart = function readStartBelow() {
    if (isOurs(this.stream)) this.stream[UNDER_STREAM_HANDLE]();
    return readStart.call(this);
  };
  const on = <Args extends unknown[], Result>(call: (socket: net.Socket, ...args: Args) => Result) =>
    function method(this: object, ...args: Args): Result | undefined {
      const socket = ownerOf(this)?.stream;
      return isOurs(socket) ? call(socket, ...args) : undefined;
    };
  const methods: { [name in keyof HandleMethods]: unknown } = {
    getpeername: on(({ remoteAddress, remotePort, remoteFamily }, out: Out) => {
      Object.assign(out, { address: remoteAddress, port: remotePort, family: remoteFamily });
      return remoteAddress === undefined ? -1 : 0;
    }),
    getsockname: on(({ localAddress, localPort, localFamily }, out: Out) => {
      Object.assign(out, { address: localAddress, port: localPort, family: localFamily });
      return 0;
    }),
    setNoDelay: on((socket, isOn: boolean) => void socket.setNoDelay(isOn)),
    setKeepAlive: on((socket, isOn: boolean, seconds: number) => void socket.setKeepAlive(isOn, seconds * 1000)),
    ref: on((socket) => void socket.ref()),
    unref: on((socket) => void socket.unref()),
  };
  for (const [name, value] of Object.entries(methods)) {
    if (!(name in prototype)) Object.defineProperty(prototype, name, { value, configurable: true, writable: true });
  }
}

/** The prototype of JSStream, of which only instances are to be had. Undefined: this Node has it otherwise. */
function findStreamHandle() {
  const tls = process.getBuiltinModule("node:tls");
  const probe = new tls.TLSSocket(new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() }));
  const handle = (probe as unknown as { _handle?: { _parent?: object } })._handle?._parent;
  probe.on("error", () => {}).destroy();
  const owner =
    handle && Object.getOwnPropertySymbols(handle).find(({ description }) => description === "owner_symbol");
  if (!handle || !owner) return undefined;
  const ownerOf = (from: object) => (from as { [owner]?: StreamSocket })[owner];
  const ownerPrototype = Object.getPrototypeOf(ownerOf(handle)) as StreamSocket;
  if (typeof ownerPrototype?.readStart !== "function") return undefined;
  return { prototype: Object.getPrototypeOf(handle) as object, ownerPrototype, ownerOf };
}
