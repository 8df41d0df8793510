/**
 * Workload `idle`: opens connections that then do nothing, and counts the memory that the process has taken for them.
 */
import { readFileSync } from "node:fs";
import { NetPopcornError, statusError } from "../errors.ts";
import type { Handles } from "../kernel/handles.ts";
import type { EventHandler } from "../kernel/handles.ts";
import { EVENT_ACCEPTABLE, EVENT_CONNECTED, EVENT_ERROR } from "../layout/event.ts";
import { EVENT_WORDS, MASK_WORD } from "./events.ts";

/** Accepts and never answers. */
export class IdleServer {
  accepted = 0;
  readonly #handles: Handles;
  readonly #listeners: readonly number[];

  /** @param ports how many, from `firstPort` on. */
  constructor(handles: Handles, firstPort: number, ports: number, backlog: number) {
    this.#handles = handles;
    this.#listeners = Array.from({ length: ports }, (_, i) => {
      const listener = handles.listen(firstPort + i, backlog);
      if (listener < 0) throw statusError(listener, `listen ${firstPort + i}`);
      return listener;
    });
    handles.onEvents(this.#onEvents);
  }

  readonly #onEvents: EventHandler = (words, first, count) => {
    for (let at = first, end = first + count * EVENT_WORDS; at < end; at += EVENT_WORDS) {
      if (!((words[at + MASK_WORD] as number) & EVENT_ACCEPTABLE)) continue;
      for (const listener of this.#listeners) while (this.#handles.accept(listener) >= 0) this.accepted++;
    }
  };
}

/** Opens connections, `inFlightMax` at a time. */
export class IdleClient {
  connected = 0;
  failed = 0;
  #opened = 0;
  readonly #handles: Handles;
  readonly #server: Uint8Array;
  readonly #addresses: number;
  readonly #firstPort: number;
  readonly #perPair: number;

  /** @param perPair connections that one own address can have to one port. */
  constructor(handles: Handles, server: Uint8Array, firstPort: number, addresses: number, perPair: number) {
    this.#handles = handles;
    this.#server = server;
    this.#firstPort = firstPort;
    this.#addresses = addresses;
    this.#perPair = perPair;
    handles.onEvents(this.#onEvents);
  }

  open(total: number, inFlightMax: number): void {
    while (this.#opened < total && this.#opened - this.connected < inFlightMax) {
      const port = this.#firstPort + Math.floor(this.#opened / (this.#perPair * this.#addresses));
      const handle = this.#handles.connect(this.#server, port, 0, this.#opened % this.#addresses);
      if (handle < 0) throw statusError(handle, `connection ${this.#opened}`);
      this.#opened++;
    }
  }

  readonly #onEvents: EventHandler = (words, first, count) => {
    for (let at = first, end = first + count * EVENT_WORDS; at < end; at += EVENT_WORDS) {
      const mask = (words[at + MASK_WORD] as number) & 0xffff;
      if (mask & EVENT_CONNECTED) this.connected++;
      if (mask & EVENT_ERROR) this.failed++;
    }
  };
}

/**
 * Resident bytes of the one mapping of this process that is exactly `bytes` long and writable: a kernel's memory.
 * @throws NetPopcornError ERR_BENCH where the system does not tell.
 */
export function residentBytesOfMapping(bytes: number): number {
  let smaps: string;
  try {
    smaps = readFileSync("/proc/self/smaps", "utf8");
  } catch (cause) {
    throw new NetPopcornError("ERR_BENCH", "the idle workload reads /proc/self/smaps, which this system has not", {
      cause,
    });
  }
  let found = -1;
  let inside = false;
  for (const line of smaps.split("\n")) {
    const header = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line);
    if (header) inside = Number.parseInt(header[2] as string, 16) - Number.parseInt(header[1] as string, 16) === bytes;
    else if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) inside = false;
    const resident = /^Rss:\s+(\d+) kB/.exec(line);
    if (!inside || !resident) continue;
    if (found >= 0) throw new NetPopcornError("ERR_BENCH", `two mappings of ${bytes} bytes: cannot tell them apart`);
    found = Number(resident[1]) * 1024;
  }
  if (found < 0) throw new NetPopcornError("ERR_BENCH", `no mapping of ${bytes} bytes in /proc/self/smaps`);
  return found;
}
