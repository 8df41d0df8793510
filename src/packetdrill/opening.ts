/** Active opens: by connect, and by a send that asks for TCP Fast Open. */
import { INFO_LOCAL_PORT } from "../layout/option.ts";
import { SCRATCH_BASE } from "../layout/kernelMemory.ts";
import type { CallContext } from "./callContext.ts";
import type { Endpoint } from "./encode.ts";
import { applyOptions } from "./socketOptions.ts";
import { errnoOf, type TcpSocket } from "./sockets.ts";

/** What `connect(3, ..., ...)` means. */
export function defaultRemote(context: CallContext): Endpoint {
  return { address: context.settings.remoteAddress, port: context.settings.connectPort };
}

/**
 * Starts the handshake.
 * @returns the name of an error; undefined: under way; "fast": the SYN takes or waits for the first bytes (RFC 7413),
 * so for the application the socket is connected.
 */
export function openConnection(context: CallContext, socket: TcpSocket, remote: Endpoint): string | undefined {
  const { machine, flows, settings } = context;
  machine.memory.bytes.set(remote.address, SCRATCH_BASE);
  const handle = machine.exports.tcpConnect(-1, socket.boundPort, SCRATCH_BASE, remote.port);
  if (handle < 0) return errnoOf(handle);
  socket.handle = handle;
  socket.remote = remote;
  context.byHandle.set(handle, socket);
  context.latest = socket;
  const port = socket.info(INFO_LOCAL_PORT) ?? 0;
  socket.boundPort = port;
  flows.open({ address: settings.localAddress, port }, remote);
  // The SYN has not left yet: what it says depends on them.
  socket.synRoom = applyOptions(context, socket);
  socket.isConnecting = socket.synRoom === 0;
  socket.isConnected = socket.synRoom > 0;
  return socket.synRoom > 0 ? "fast" : undefined;
}
