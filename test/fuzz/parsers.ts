/**
 * What reads bytes or text outside the kernels: DHCP, neighbour discovery, captures, control messages, packetdrill's
 * scripts. Valid inputs are mutated from a seed; whatever comes of them is read or refused by the parser's own error,
 * and bytes around it make no difference. Run by `npm run fuzz` and, with fixed seeds, test/property/parsers.test.ts.
 */
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

/** One seed's run. @returns whether the parser has understood what it was given. @throws what is wrong. */
export type ParserTarget = { readonly name: string; readonly run: (seed: number) => boolean };

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const AROUND_BYTES = 64;
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
function bytesTarget(name: string, inputs: readonly Uint8Array[], read: (bytes: Uint8Array) => unknown): ParserTarget {
  const run = (seed: number): boolean => {
    const mutated = mutateBytes(inputs, new Prng(seed, 31));
    const told = () => `${name}, seed ${seed}: ${Buffer.from(mutated).toString("hex")}`;
    const [first, second] = [0x00, 0xff].map((around) => {
      const room = new Uint8Array(mutated.length + 2 * AROUND_BYTES).fill(around);
      room.set(mutated, AROUND_BYTES);
      try {
        return JSON.stringify(read(room.subarray(AROUND_BYTES, AROUND_BYTES + mutated.length)));
      } catch (error) {
        throw new Error(told(), { cause: error });
      }
    });
    if (first !== second) throw new Error(`${told()}: it looks behind its input`);
    return first !== undefined;
  };
  return { name, run };
}

function must(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

function dhcp(): ParserTarget {
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
  return bytesTarget("DHCP answers", inputs, (bytes) => {
    const answer = parseReply(bytes, MAC);
    for (const address of [answer?.yourAddress, answer?.server, answer?.router]) {
      if (address) must(address.length === 4 || address.length === 16, `an address of ${address.length} bytes`);
    }
    return answer && { ...answer, yourAddress: [...answer.yourAddress] };
  });
}

function neighbourDiscovery(): ParserTarget {
  const source = concat(hex("fe80 0000 0000 0000"), pattern(8));
  const advertisement = hex(
    "60000000 0038 3a ff fe800000000000000000000000000001 ff020000000000000000000000000001" +
      "86000000 40080708 00000000 00000000 0101020000000001 0304 40c0 00000e10 00000e10 00000000" +
      "fd070000000000000000000000000000",
  );
  return bytesTarget(
    "router advertisements and neighbour discovery",
    [advertisement, routerSolicitation(source, MAC)],
    parseControl,
  );
}

function captures(): ParserTarget {
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
  return bytesTarget("captures", [classic, modern], (file) => {
    const frames: number[][] = [];
    try {
      for (const { frame, interfaceId } of readCapture(file)) {
        const end = frame.byteOffset + frame.length;
        const isInside = frame.byteOffset >= file.byteOffset && end <= file.byteOffset + file.length;
        must(isInside, "a frame outside its file");
        frames.push([interfaceId, ...frame]);
      }
    } catch (error) {
      if (!(error instanceof NetPopcornError && error.code === "ERR_CAPTURE_FORMAT")) throw error;
    }
    return frames.length > 0 ? frames : undefined;
  });
}

function controlMessages(): ParserTarget {
  const port = { protocol: "tcp", address: "10.7.0.1", port: 80 } as const;
  const inputs = [encodePortMessage(port), encodeClaimed(-98, 7), encodeClaimed(8080, 1)];
  return bytesTarget("control messages", inputs, (payload) => decodePortMessage(payload) ?? decodeClaimed(payload));
}

/** Inputs that are bytes. */
export const BYTES_TARGETS: readonly ParserTarget[] = [dhcp(), neighbourDiscovery(), captures(), controlMessages()];

const SYMBOLS = "(){}[]<>%`.,:*=+-~\"'\\0a";

/** Lines and words of scripts, in wrong places, with wrong numbers. */
function mutateScript(scripts: readonly string[], prng: Prng): string {
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

/** @param scripts valid ones. */
export function scriptTarget(scripts: readonly string[]): ParserTarget {
  const run = (seed: number): boolean => {
    const text = mutateScript(scripts, new Prng(seed, 32));
    try {
      parseScript(text);
      return true;
    } catch (error) {
      if (error instanceof ScriptError || error instanceof Unsupported) return false;
      throw new Error(`packetdrill scripts, seed ${seed}:\n${text}`, { cause: error });
    }
  };
  return { name: "packetdrill scripts", run };
}

/** Scripts that run to an end against a kernel; commands other than sysctl are unsupported anyway. */
export function runTarget(scripts: readonly string[], directory: string, module: WebAssembly.Module): ParserTarget {
  const run = (seed: number): boolean => {
    const text = mutateScript(scripts, new Prng(seed, 33));
    const result = runScript({ file: `seed ${seed}`, text, directory }, { module });
    if (result.outcome === "passed") return true;
    if (result.fault !== undefined) {
      throw new Error(`scripts against a kernel, seed ${seed}: ${result.error}\n${text}`, { cause: result.fault });
    }
    return result.isParsed;
  };
  return { name: "scripts against a kernel", run };
}
