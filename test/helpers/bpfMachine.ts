/**
 * A plain interpreter for the eBPF instructions that the steering program uses: what Linux would compute, as an
 * oracle without privileges. Semantics: Linux Documentation/bpf/standardization/instruction-set.rst.
 */

/** @returns the program's result, as unsigned 64 bits. @throws RangeError for what the verifier would refuse. */
export function runBpf(
  program: Uint8Array,
  packet: Uint8Array,
  mapLookup: (key: number, map: number, rest: readonly [number, number]) => number | undefined,
): bigint {
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const data = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const registers: (bigint | undefined)[] = new Array(11).fill(undefined);
  registers[1] = 0n;
  registers[10] = 512n;
  const stack = new DataView(new ArrayBuffer(512));
  let value = 0;
  const read = (index: number): bigint => {
    const content = registers[index];
    if (content === undefined) throw new RangeError(`R${index} read before it is written`);
    return content;
  };
  const count = program.length / 8;
  for (let pc = 0; ; pc += 1) {
    if (pc >= count) throw new RangeError("ran past the end");
    const at = pc * 8;
    const op = code.getUint8(at);
    const to = code.getUint8(at + 1) & 15;
    const from = code.getUint8(at + 1) >> 4;
    const offset = code.getInt16(at + 2, true);
    const immediate = BigInt(code.getInt32(at + 4, true));
    const operand = (): bigint => ((op & 8) !== 0 ? read(from) : immediate);
    const jump = (taken: boolean): void => {
      if (!taken) return;
      if (offset < 0) throw new RangeError("a jump back");
      pc += offset;
    };
    switch (op) {
      case 0xbf:
      case 0xb7:
        registers[to] = BigInt.asUintN(64, operand());
        break;
      case 0x07:
      case 0x0f:
        registers[to] = BigInt.asUintN(64, read(to) + operand());
        break;
      case 0x27:
        registers[to] = BigInt.asUintN(64, read(to) * operand());
        break;
      case 0x57:
        registers[to] = read(to) & BigInt.asUintN(64, immediate);
        break;
      case 0x67:
        registers[to] = BigInt.asUintN(64, read(to) << immediate);
        break;
      case 0x77:
        registers[to] = read(to) >> immediate;
        break;
      case 0x97:
        registers[to] = read(to) % immediate;
        break;
      case 0xaf:
        registers[to] = read(to) ^ read(from);
        break;
      case 0x20:
      case 0x28:
      case 0x30:
      case 0x40:
      case 0x48:
      case 0x50: {
        read(6);
        const width = [4, 2, 1][(op & 0x18) >> 3] as 1 | 2 | 4;
        const start = Number(immediate) + ((op & 0x40) !== 0 ? Number(read(from)) : 0);
        for (let clobbered = 1; clobbered <= 5; clobbered += 1) registers[clobbered] = undefined;
        // Past the end of the packet the program ends with 0.
        if (start + width > packet.length) return 0n;
        registers[0] = BigInt(
          width === 4 ? data.getUint32(start) : width === 2 ? data.getUint16(start) : data.getUint8(start),
        );
        break;
      }
      case 0x63:
        stack.setUint32(Number(read(to)) + offset, Number(read(from) & 0xffffffffn), true);
        break;
      case 0x18:
        registers[to] = immediate;
        pc += 1;
        break;
      case 0x85: {
        const key = Number(read(2));
        const word = (at: number) => (at + 4 > 512 ? 0 : stack.getUint32(at, true));
        const found = mapLookup(word(key), Number(read(1)), [word(key + 4), word(key + 8)]);
        for (let clobbered = 1; clobbered <= 5; clobbered += 1) registers[clobbered] = undefined;
        value = found ?? 0;
        registers[0] = found === undefined ? 0n : 1n;
        break;
      }
      case 0x61:
        if (read(from) === 0n) throw new RangeError("a null pointer followed");
        registers[to] = BigInt(value);
        break;
      case 0x05:
        jump(true);
        break;
      case 0x1d:
        jump(read(to) === read(from));
        break;
      case 0x15:
        jump(read(to) === immediate);
        break;
      case 0x55:
        jump(read(to) !== immediate);
        break;
      case 0x25:
        jump(read(to) > immediate);
        break;
      case 0x45:
        jump((read(to) & immediate) !== 0n);
        break;
      case 0xa5:
        jump(read(to) < immediate);
        break;
      case 0x95:
        return read(0);
      default:
        throw new RangeError(`no instruction 0x${op.toString(16)}`);
    }
  }
}
