/**
 * Coverage for a compiled WebAssembly module: every function, loop, arm of an `if` and fall-through of a `br_if` gets
 * a counter byte in linear memory, and every mutable global an export, so that a kernel's whole state can be saved
 * and put back. Works on the binary (WebAssembly core specification 2.0, chapter 5): what is inserted leaves the stack
 * as it was, so it can stand between any two instructions.
 */

const SECTION_IMPORT = 2;
const SECTION_GLOBAL = 6;
const SECTION_EXPORT = 7;
const SECTION_CODE = 10;

export type Instrumented = {
  readonly module: WebAssembly.Module;
  /** Counter bytes in use. */
  readonly blocks: number;
  /** Export names of the mutable globals. */
  readonly globals: readonly string[];
};

class Reader {
  at = 0;
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  u8(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw new Error("the module ends early");
    return value;
  }

  /** Any LEB128; the value is right up to 32 bits unsigned. */
  leb(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.u8();
      if (shift < 35) value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }

  skip(bytes: number): void {
    this.at += bytes;
  }

  name(): string {
    const length = this.leb();
    this.skip(length);
    return new TextDecoder().decode(this.bytes.subarray(this.at - length, this.at));
  }
}

class Writer {
  #bytes = new Uint8Array(1 << 16);
  length = 0;

  push(piece: Uint8Array | readonly number[]): void {
    if (this.length + piece.length > this.#bytes.length) {
      const larger = new Uint8Array(2 * (this.length + piece.length));
      larger.set(this.#bytes.subarray(0, this.length));
      this.#bytes = larger;
    }
    this.#bytes.set(piece, this.length);
    this.length += piece.length;
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.length);
  }
}

function unsignedLeb(value: number): number[] {
  const bytes: number[] = [];
  do {
    bytes.push((value % 128) | (value >= 128 ? 0x80 : 0));
    value = Math.floor(value / 128);
  } while (value > 0);
  return bytes;
}

function signedLeb(value: number): number[] {
  const bytes: number[] = [];
  for (;;) {
    const byte = value & 0x7f;
    value >>= 7;
    const last = (value === 0 && byte < 0x40) || (value === -1 && byte >= 0x40);
    bytes.push(last ? byte : byte | 0x80);
    if (last) return bytes;
  }
}

/** `memory[address]++`, as bytes. */
function countBlock(address: number): number[] {
  const place = [0x41, ...signedLeb(address)];
  return [...place, ...place, 0x2d, 0, 0, 0x41, 1, 0x6a, 0x3a, 0, 0];
}

/** Skips the immediates of SIMD instructions (5.4.8). */
function skipSimd(reader: Reader): void {
  const opcode = reader.leb();
  if (opcode <= 11 || opcode === 92 || opcode === 93) skipMemoryArgument(reader);
  else if (opcode === 12 || opcode === 13) reader.skip(16);
  else if (opcode >= 21 && opcode <= 34) reader.skip(1);
  else if (opcode >= 84 && opcode <= 91) {
    skipMemoryArgument(reader);
    reader.skip(1);
  }
}

/** Skips the immediates of bulk memory and saturating conversions (5.4.6, 5.4.7). */
function skipMiscellaneous(reader: Reader): void {
  const opcode = reader.leb();
  if (opcode < 8) return;
  if (opcode === 8 || opcode === 10 || opcode === 12 || opcode === 14) reader.leb();
  reader.leb();
}

function skipMemoryArgument(reader: Reader): void {
  reader.leb();
  reader.leb();
}

/** Skips the immediates of an instruction whose opcode has been read (5.4). */
function skipImmediates(reader: Reader, opcode: number): void {
  if (opcode >= 0x45 && opcode <= 0xc4) return;
  if (opcode >= 0x28 && opcode <= 0x3e) skipMemoryArgument(reader);
  else if (opcode >= 0x02 && opcode <= 0x04) reader.leb();
  else if (opcode === 0x0c || opcode === 0x0d || opcode === 0x10) reader.leb();
  else if (opcode >= 0x20 && opcode <= 0x26) reader.leb();
  else if (opcode === 0x3f || opcode === 0x40 || opcode === 0x41 || opcode === 0x42) reader.leb();
  else if (opcode === 0x43) reader.skip(4);
  else if (opcode === 0x44) reader.skip(8);
  else if (opcode === 0x0e) for (let left = reader.leb(); left >= 0; left--) reader.leb();
  else if (opcode === 0x11) skipMemoryArgument(reader);
  else if (opcode === 0x1c) for (let left = reader.leb(); left > 0; left--) reader.skip(1);
  else if (opcode === 0xfc) skipMiscellaneous(reader);
  else if (opcode === 0xfd) skipSimd(reader);
  else if (opcode === 0xfe) {
    if (reader.leb() === 3) reader.skip(1);
    else skipMemoryArgument(reader);
  } else if (![0x00, 0x01, 0x05, 0x0b, 0x0f, 0x1a, 0x1b].includes(opcode)) {
    throw new Error(`instruction 0x${opcode.toString(16)} is not known`);
  }
}

/** One function body with its counters. */
function instrumentBody(body: Uint8Array, nextCounter: () => number[]): Uint8Array {
  const reader = new Reader(body);
  const writer = new Writer();
  for (let groups = reader.leb(); groups > 0; groups--) {
    reader.leb();
    reader.skip(1);
  }
  writer.push(body.subarray(0, reader.at));
  writer.push(nextCounter());
  while (reader.at < body.length) {
    const start = reader.at;
    const opcode = reader.u8();
    skipImmediates(reader, opcode);
    writer.push(body.subarray(start, reader.at));
    if (opcode === 0x03 || opcode === 0x04 || opcode === 0x05 || opcode === 0x0d) writer.push(nextCounter());
  }
  return writer.bytes;
}

function instrumentCode(section: Uint8Array, nextCounter: () => number[]): Uint8Array {
  const reader = new Reader(section);
  const functions = reader.leb();
  const writer = new Writer();
  writer.push(unsignedLeb(functions));
  for (let index = 0; index < functions; index++) {
    const length = reader.leb();
    const body = instrumentBody(section.subarray(reader.at, reader.at + length), nextCounter);
    reader.skip(length);
    writer.push(unsignedLeb(body.length));
    writer.push(body);
  }
  return writer.bytes;
}

/** Imported functions and memories; imported globals would shift the indices, so they are refused. */
function checkImports(section: Uint8Array): void {
  const reader = new Reader(section);
  for (let left = reader.leb(); left > 0; left--) {
    reader.name();
    reader.name();
    const kind = reader.u8();
    if (kind === 0) reader.leb();
    else if (kind === 2) {
      const limits = reader.u8();
      reader.leb();
      if (limits & 1) reader.leb();
    } else throw new Error(`import of kind ${kind} is not supported`);
  }
}

/** Indices of the mutable globals. */
function mutableGlobals(section: Uint8Array): number[] {
  const reader = new Reader(section);
  const total = reader.leb();
  const mutable: number[] = [];
  for (let index = 0; index < total; index++) {
    reader.skip(1);
    if (reader.u8() === 1) mutable.push(index);
    for (let opcode = reader.u8(); opcode !== 0x0b; opcode = reader.u8()) skipImmediates(reader, opcode);
  }
  return mutable;
}

function exportGlobals(section: Uint8Array, globals: readonly number[]): Uint8Array {
  const reader = new Reader(section);
  const count = reader.leb();
  const writer = new Writer();
  writer.push(unsignedLeb(count + globals.length));
  writer.push(section.subarray(reader.at));
  for (const index of globals) {
    const name = new TextEncoder().encode(globalName(index));
    writer.push([...unsignedLeb(name.length), ...name, 3, ...unsignedLeb(index)]);
  }
  return writer.bytes;
}

function globalName(index: number): string {
  return `fuzz:global${index}`;
}

/** @param mapAddress where the counters lie: outside of everything that the module uses. */
export function instrument(wasm: Uint8Array, mapAddress: number): Instrumented {
  let blocks = 0;
  const nextCounter = () => countBlock(mapAddress + blocks++);
  let globals: number[] = [];
  const reader = new Reader(wasm);
  reader.skip(8);
  const writer = new Writer();
  writer.push(wasm.subarray(0, 8));
  while (reader.at < wasm.length) {
    const id = reader.u8();
    const length = reader.leb();
    let section: Uint8Array = wasm.subarray(reader.at, reader.at + length);
    reader.skip(length);
    if (id === SECTION_IMPORT) checkImports(section);
    else if (id === SECTION_GLOBAL) globals = mutableGlobals(section);
    else if (id === SECTION_EXPORT) section = exportGlobals(section, globals);
    else if (id === SECTION_CODE) section = instrumentCode(section, nextCounter);
    writer.push([id, ...unsignedLeb(section.length)]);
    writer.push(section);
  }
  return { module: new WebAssembly.Module(writer.bytes), blocks, globals: globals.map(globalName) };
}
