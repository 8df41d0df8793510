/**
 * Goal: whatever comes from outside the kernels, as bytes or as text, is read or refused by the parser's own error;
 * none throws anything else, or looks behind its input. Method: valid inputs, mutated from a seed that a failure
 * prints. PARSER_FUZZ=20 makes twenty times as many.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { decodeClaimed, decodePortMessage, encodeClaimed, encodePortMessage } from "../../src/control/portMessages.ts";
import { CAPTURE_IN, interfaceBlock, packetBlock, sectionHeader } from "../../src/device/pcapng.ts";
import { readCapture } from "../../src/device/pcapReader.ts";
import { NetPopcornError } from "../../src/errors.ts";
import { parseControl, routerSolicitation } from "../../src/ip/controlPackets.ts";
import { DISCOVER, parseReply, writeRequest } from "../../src/ip/dhcpMessage.ts";
import { ScriptError, Unsupported } from "../../src/packetdrill/errors.ts";
import { parseScript } from "../../src/packetdrill/parser.ts";
import { runScript } from "../../src/packetdrill/run.ts";
import { Prng } from "../../src/sim/prng.ts";
import { concat, hex, pattern } from "../helpers/packets.ts";

const TIMES = Number(process.env.PARSER_FUZZ ?? 1);
const BYTES_RUNS = 20_000 * TIMES;
const SCRIPT_RUNS = 5000 * TIMES;
const KERNEL_RUNS = 150 * TIMES;
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const INTERESTING = [0, 1, 2, 3, 4, 6, 7, 8, 12, 16, 32, 52, 58, 127, 128, 254, 255];

/** Bits, bytes and lengths changed, pieces cut out, doubled, or taken from another valid input. */
function mutateBytes(inputs: readonly Uint8Array[], prng: Prng): Uint8Array {
  const pick = (): Uint8Array => inputs[prng.below(inputs.length)] as Uint8Array;
  let bytes: Uint8Array = pick().slice();
  for (let steps = 1 + prng.below(6); steps > 0; steps--) {
    const at = prng.below(bytes.length + 1);
    const end = Math.min(bytes.length, at + prng.below(40));
    switch (prng.below(6)) {
      case 0:
        if (at < bytes.length) bytes[at] = (bytes[at] as number) ^ (1 << prng.below(8));
        break;
      case 1:
        if (at < bytes.length) bytes[at] = INTERESTING[prng.below(INTERESTING.length)] as number;
        break;
      case 2:
        bytes = bytes.slice(0, at);
        break;
      case 3:
        bytes = concat(bytes.subarray(0, at), bytes.subarray(end));
        break;
      case 4:
        bytes = concat(bytes.subarray(0, end), bytes.subarray(at));
        break;
      default:
        bytes = concat(
          bytes.subarray(0, at),
          pick().subarray(prng.below(20), 20 + prng.below(60)),
          bytes.subarray(end),
        );
    }
  }
  return bytes;
}

/** @param read gets the mutated bytes in the middle of others: what it returns must not depend on those. */
function fuzzBytes(inputs: readonly Uint8Array[], read: (bytes: Uint8Array) => unknown): void {
  let understood = 0;
  for (let seed = 1; seed <= BYTES_RUNS; seed++) {
    const prng = new Prng(seed, 31);
    const mutated = mutateBytes(inputs, prng);
    const results = [0x00, 0xff].map((around) => {
      const room = new Uint8Array(mutated.length + 128).fill(around);
      room.set(mutated, 64);
      try {
        return JSON.stringify(read(room.subarray(64, 64 + mutated.length)));
      } catch (error) {
        throw new Error(`seed ${seed}: ${Buffer.from(mutated).toString("hex")}`, { cause: error });
      }
    });
    expect(results[0], `seed ${seed}: it looks behind its input`).toBe(results[1]);
    if (results[0] !== undefined) understood++;
  }
  // Otherwise the mutations are so wild that only the first check is ever reached.
  expect(understood).toBeGreaterThan(BYTES_RUNS / 50);
}

test(`${BYTES_RUNS} DHCP answers`, () => {
  const reply = (options: string): Uint8Array => {
    const request = writeRequest({ type: DISCOVER, transaction: 7, elapsedS: 0, mac: MAC });
    return concat(Uint8Array.of(2), request.subarray(1, 240), hex(options));
  };
  const inputs = [
    reply("350102 3604 0a000001 3304 00000e10 0104 ffffff00 0304 0a0000fe ff"),
    reply("350105 3604 0a000001 3304 ffffffff 3a04 00000708 3b04 00000c4e 0104 ffff0000 ff"),
    reply("350105 3604 0a000001 3304 00000e10 7908 180a0800 0a0000fd 7905 000a0000fc ff"),
    reply("350106 340101 ff"),
  ];
  fuzzBytes(inputs, (bytes) => {
    const answer = parseReply(bytes, MAC);
    for (const address of [answer?.yourAddress, answer?.server, answer?.router]) {
      if (address) expect(address.length === 4 || address.length === 16).toBe(true);
    }
    return answer && { ...answer, yourAddress: [...answer.yourAddress] };
  });
});

test(`${BYTES_RUNS} router advertisements and neighbour discovery`, () => {
  const source = concat(hex("fe80 0000 0000 0000"), pattern(8));
  const advertisement = hex(
    "60000000 0038 3a ff fe800000000000000000000000000001 ff020000000000000000000000000001" +
      "86000000 40080708 00000000 00000000 0101020000000001 0304 40c0 00000e10 00000e10 00000000" +
      "fd070000000000000000000000000000",
  );
  fuzzBytes([advertisement, routerSolicitation(source, MAC)], (bytes) => parseControl(bytes));
});

test(`${BYTES_RUNS} captures`, () => {
  const classic = concat(
    hex("d4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000"),
    hex("01000000 02000000 14000000 3c000000"),
    pattern(20),
    hex("02000000 02000000 05000000 05000000"),
    pattern(5),
  );
  const modern = concat(
    sectionHeader(),
    interfaceBlock("queue0"),
    packetBlock(0, 1_700_000_000_123_456_789n, pattern(61), CAPTURE_IN),
    packetBlock(0, 1_700_000_000_123_456_790n, pattern(3), CAPTURE_IN),
  );
  fuzzBytes([classic, modern], (file) => {
    const frames: number[][] = [];
    try {
      for (const { frame, interfaceId } of readCapture(file)) {
        expect(frame.byteOffset).toBeGreaterThanOrEqual(file.byteOffset);
        expect(frame.byteOffset + frame.length).toBeLessThanOrEqual(file.byteOffset + file.length);
        frames.push([interfaceId, ...frame]);
      }
    } catch (error) {
      if (!(error instanceof NetPopcornError && error.code === "ERR_CAPTURE_FORMAT")) throw error;
    }
    return frames.length > 0 ? frames : undefined;
  });
});

test(`${BYTES_RUNS} control messages`, () => {
  const port = { protocol: "tcp", address: "10.7.0.1", port: 80 } as const;
  const inputs = [encodePortMessage(port), encodeClaimed(-98, 7), encodeClaimed(8080, 1)];
  fuzzBytes(inputs, (payload) => decodePortMessage(payload) ?? decodeClaimed(payload));
});

const packets = fileURLToPath(new URL("../packet/", import.meta.url));
const scripts = readdirSync(packets, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".pkt"))
  .sort()
  .map((name) => readFileSync(join(packets, name), "utf8"));

const SYMBOLS = "(){}[]<>%`.,:*=+-~\"'\\0a";

/** Lines and words of scripts, in wrong places, with wrong numbers. */
function mutateScript(prng: Prng): string {
  const pick = (): string => scripts[prng.below(scripts.length)] as string;
  const lines = pick().split("\n");
  for (let steps = 1 + prng.below(4); steps > 0; steps--) {
    const at = prng.below(lines.length);
    const line = lines[at] as string;
    const cut = prng.below(line.length + 1);
    switch (prng.below(6)) {
      case 0:
        lines.splice(at, 1 + prng.below(3));
        break;
      case 1:
        lines.splice(
          at,
          0,
          ...pick()
            .split("\n")
            .slice(3, 3 + prng.below(6)),
        );
        break;
      case 2:
        lines[at] = line.replace(/\d+/, String([0, 1, -1, 65_535, 65_536, 4_294_967_295, 1e20][prng.below(7)]));
        break;
      case 3:
        lines[at] = line.slice(0, cut) + line.slice(cut + 1 + prng.below(4));
        break;
      case 4:
        lines[at] = line.slice(0, cut) + SYMBOLS[prng.below(SYMBOLS.length)] + line.slice(cut);
        break;
      default:
        lines[at] = line.slice(0, cut);
    }
    if (lines.length === 0) lines.push("");
  }
  return lines.join("\n");
}

test(`${SCRIPT_RUNS} packetdrill scripts are parsed or refused`, () => {
  let parsed = 0;
  for (let seed = 1; seed <= SCRIPT_RUNS; seed++) {
    const text = mutateScript(new Prng(seed, 32));
    try {
      parseScript(text);
      parsed++;
    } catch (error) {
      if (error instanceof ScriptError || error instanceof Unsupported) continue;
      throw new Error(`seed ${seed}:\n${text}`, { cause: error });
    }
  }
  expect(parsed).toBeGreaterThan(SCRIPT_RUNS / 20);
});

test(`${KERNEL_RUNS} of them run to an end against a kernel`, () => {
  const module = new WebAssembly.Module(readFileSync(new URL("../../build/kernel.debug.wasm", import.meta.url)));
  const outcomes = new Set<string>();
  for (let seed = 1; seed <= KERNEL_RUNS; seed++) {
    const text = mutateScript(new Prng(seed, 33));
    // Shell commands other than sysctl are unsupported anyway.
    const result = runScript({ file: `seed ${seed}`, text, directory: packets }, { module });
    outcomes.add(result.outcome);
    // An assertion of the kernel or a fault of the interpreter would be told as an error of another kind.
    if (result.outcome === "failed")
      expect(result.error).not.toMatch(/unreachable|out of bounds|is not a function|Cannot read|at ~lib|in assembly/);
  }
  expect(outcomes).toContain("failed");
});
