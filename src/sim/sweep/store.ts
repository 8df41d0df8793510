/**
 * Results on disk, one JSON object a line, appended as they come: a sweep that was killed reads what it has and does
 * the rest. A line that was half written when the process ended is cut off.
 */
import { appendFileSync, closeSync, openSync, readFileSync, rmSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { NetPopcornError } from "../../errors.ts";
import type { PointResult } from "../types.ts";
import { makeFolder } from "./makeFolder.ts";

const RESULTS_FILE = "results.jsonl";
const LOCK_FILE = ".lock";

export class ResultStore {
  readonly #file: string;
  readonly #lock: string;
  readonly #results: Map<string, PointResult>;
  /** Lines that were no results: written by something else, or damaged. They stay as they are. */
  readonly unreadableLines: number;

  private constructor(file: string, lock: string, results: Map<string, PointResult>, unreadableLines: number) {
    this.#file = file;
    this.#lock = lock;
    this.#results = results;
    this.unreadableLines = unreadableLines;
  }

  /**
   * @param folder made when there is none.
   * @param isKept false empties the store first.
   * @throws NetPopcornError ERR_OUT_BUSY when another sweep writes there; the errno's name when it cannot be written.
   */
  static open(folder: string, isKept: boolean): ResultStore {
    const file = join(folder, RESULTS_FILE);
    const lock = join(folder, LOCK_FILE);
    try {
      makeFolder(folder);
      takeLock(lock, folder);
      if (!isKept) rmSync(file, { force: true });
      const { results, unreadableLines } = readResults(file);
      // Fails now rather than after the first simulation when the file cannot be written.
      appendFileSync(file, "");
      return new ResultStore(file, lock, results, unreadableLines);
    } catch (cause) {
      if (cause instanceof NetPopcornError) throw cause;
      const code = (cause as NodeJS.ErrnoException).code ?? "EIO";
      throw new NetPopcornError(code, `results cannot be written to ${folder}; name another folder with --out`, {
        cause,
      });
    }
  }

  find(key: string): PointResult | undefined {
    return this.#results.get(key);
  }

  /** Once for each key; more are ignored. */
  add(key: string, result: PointResult): void {
    if (this.#results.has(key)) return;
    this.#results.set(key, result);
    appendFileSync(this.#file, `${JSON.stringify({ key, result })}\n`);
  }

  close(): void {
    rmSync(this.#lock, { force: true });
  }
}

/** A lock of a process that is gone is taken over. */
function takeLock(lock: string, folder: string): void {
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const handle = openSync(lock, "wx");
      writeSync(handle, String(process.pid));
      closeSync(handle);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      const holder = Number(readFileSync(lock, "utf8"));
      if (Number.isInteger(holder) && holder > 0 && holder !== process.pid && isAlive(holder)) {
        throw new NetPopcornError(
          "ERR_OUT_BUSY",
          `process ${holder} writes to ${folder}; wait for it, or name another folder with --out`,
        );
      }
      rmSync(lock, { force: true });
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function readResults(file: string): { results: Map<string, PointResult>; unreadableLines: number } {
  const results = new Map<string, PointResult>();
  let unreadableLines = 0;
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { results, unreadableLines };
    throw error;
  }
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  if (whole.length < text.length) truncateSync(file, Buffer.byteLength(whole));
  for (const line of whole.split("\n")) {
    if (line === "") continue;
    const record = parseRecord(line);
    if (record === undefined) unreadableLines++;
    else results.set(record.key, record.result);
  }
  return { results, unreadableLines };
}

function parseRecord(line: string): { key: string; result: PointResult } | undefined {
  try {
    const record = JSON.parse(line) as { key?: unknown; result?: { connsPerSec?: unknown } };
    const isRecord = typeof record?.key === "string" && typeof record.result?.connsPerSec === "number";
    return isRecord ? (record as { key: string; result: PointResult }) : undefined;
  } catch {
    return undefined;
  }
}
