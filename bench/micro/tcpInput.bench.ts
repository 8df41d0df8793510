import type { MicroCase, MicroSuite } from "./harness.ts";
import { createTcpProbe, type TcpBatches } from "./probeTcp.ts";

const SEGMENTS = 1024;
const REMOTE = 0x0200070a;
const LOCAL = 0x0100070a;

/** From parsing the TCP header to the receive ring and the event, without IP, checksum and output. */
function inputCase(wasm: TcpBatches, name: string, bytes: number, port: number): MicroCase {
  const index = wasm.connectionCreate(REMOTE, LOCAL, (80 << 24) | port);
  const header = wasm.arenaAlloc(2048, 64);
  if (index < 0 || header === 0) throw new Error("no room for a connection");
  return { name, items: SEGMENTS, run: () => wasm.inputBatch(index, SEGMENTS, bytes, header) };
}

export const suite: MicroSuite = {
  name: "TCP input",
  cases() {
    const wasm = createTcpProbe(1000);
    return [
      inputCase(wasm, "in order, 64 B", 64, 1),
      inputCase(wasm, "in order, 1460 B", 1460, 2),
      inputCase(wasm, "pure ACKs of new data", 0, 3),
    ];
  },
};
