/** Runs one scenario on any implementation of node:net and writes down what its users see, socket by socket. */
import type net from "node:net";

/** What a scenario needs of an implementation, and where its server listens. */
export type Network = {
  readonly server: Pick<typeof net, "createServer">;
  readonly client: Pick<typeof net, "connect" | "Socket">;
  readonly host: string;
};

const EVENTS = ["lookup", "connect", "ready", "drain", "pause", "resume", "timeout", "end", "finish", "error", "close"];

export class Trace {
  readonly #lines = new Map<string, string[]>();

  note(who: string, what: string): void {
    const lines = this.#lines.get(who) ?? [];
    lines.push(what);
    this.#lines.set(who, lines);
  }

  /** Notes a socket's events. Bytes are noted as one text, however they were cut into pieces. */
  socket(who: string, socket: net.Socket, options: { readonly data?: boolean } = {}): net.Socket {
    for (const event of EVENTS) {
      socket.on(event, (argument: unknown) => this.note(who, `${event}${describe(argument)} ${stateOf(socket)}`));
    }
    if (options.data !== false) {
      let last = "";
      socket.on("data", (chunk: Buffer) => {
        const lines = this.#lines.get(who) ?? [];
        if (last !== "" && lines.at(-1) === last) lines.pop();
        else last = "data ";
        last += chunk.length > 100 ? `(${chunk.length}) ` : chunk.toString("latin1");
        this.note(who, last);
      });
    }
    return socket;
  }

  server(who: string, server: net.Server): net.Server {
    for (const event of ["listening", "connection", "drop", "error", "close"]) {
      server.on(event, (argument: unknown) => this.note(who, `${event}${event === "error" ? describe(argument) : ""}`));
    }
    return server;
  }

  get result(): Record<string, string[]> {
    return Object.fromEntries(this.#lines);
  }
}

function describe(argument: unknown): string {
  if (argument instanceof Error) return ` ${(argument as NodeJS.ErrnoException).code}`;
  return typeof argument === "boolean" ? ` ${argument}` : "";
}

function stateOf(socket: net.Socket): string {
  const { readyState, connecting, pending, destroyed, writable, readable, bytesRead, bytesWritten } = socket;
  const flags = Object.entries({ connecting, pending, destroyed, writable, readable }).filter(([, on]) => on);
  return `${readyState} [${flags.map(([name]) => name).join(" ")}] ${bytesRead}/${bytesWritten}`;
}

/** Listens on a free port. */
export function listening(server: net.Server, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port: 0, host }, () => {
      server.off("error", reject);
      resolve((server.address() as net.AddressInfo).port);
    });
  });
}

export function event(emitter: NodeJS.EventEmitter, name: string): Promise<unknown> {
  return new Promise((resolve) => emitter.once(name, resolve));
}

export function closed(...sockets: readonly net.Socket[]): Promise<unknown> {
  return Promise.all(sockets.map((socket) => event(socket, "close")));
}
