import type { CardOptions, Card } from "../../src/device/card/card.ts";
import { PROTOCOL_TCP } from "../../src/device/card/registers.ts";
import { createSegment } from "../../src/device/card/segment.ts";
import { parseAddress } from "../../src/ip/address.ts";
import { Prng } from "../../src/sim/prng.ts";
import { CardKernel } from "../../test/helpers/cardKernel.ts";
import { ethernet, tcpPacket } from "../../test/helpers/packets.ts";
import type { MicroCase, MicroSuite } from "./harness.ts";
import { ITEMS } from "./inputs.ts";

/** Records of 128 bytes: ITEMS of them fill the ring, so that the next call finds them again at the same place. */
const FRAME_BYTES = 110;
const RING_BYTES = ITEMS * 128;

function fillRing(sender: CardKernel, seed: number): void {
  const prng = new Prng(seed);
  const payload = new Uint8Array(FRAME_BYTES - 54);
  for (let i = 0; i < ITEMS; i++) {
    const source = `10.0.${prng.below(256)}.${prng.below(256)}`;
    const fields = { source, destination: "10.1.0.1", sourcePort: prng.below(65536), destinationPort: 80 };
    const packet = tcpPacket(fields, payload);
    sender.pair.tx.push(ethernet({ destination: "02:00:00:00:00:01", source: "02:00:00:00:00:02" }, packet));
  }
  sender.pair.tx.consume(RING_BYTES);
}

/** From the sender's TX ring into the lanes of the receiving kernels. */
async function transmitCase(name: string, options: CardOptions, prepare?: (card: Card) => void): Promise<MicroCase> {
  const segment = await createSegment({ portsMax: 8, shared: false });
  const card = segment.createCard({ flowGroups: false, ...options });
  prepare?.(card);
  const receivers = Array.from({ length: card.capabilities.queues }, (_, queue) => {
    const kernel = new CardKernel(queue, { rxLanes: 8, ringBytes: 2 * RING_BYTES });
    card.openPort(queue, kernel.pair);
    return kernel;
  });
  const sender = new CardKernel(0, { rxLanes: 8, ringBytes: RING_BYTES });
  const port = segment.createCard().openPort(0, sender.pair);
  fillRing(sender, 4);
  return {
    name,
    items: ITEMS,
    run: () => {
      sender.pair.tx.publish(RING_BYTES);
      while (port.transmit(0) > 0);
      let result = 0;
      for (const { pair } of receivers) {
        for (const lane of pair.rx) {
          if (lane.usedBytes === 0) continue;
          for (let at = lane.peekRun(); at !== 0; at = lane.peekRun()) {
            result += lane.runBytes * (pair.kernelId + 1);
            lane.consume(lane.runBytes);
          }
        }
      }
      return result;
    },
  };
}

export const suite: MicroSuite = {
  name: "card",
  cases() {
    const destination = parseAddress("10.1.0.1");
    return Promise.all([
      transmitCase("cable to one queue, 110 B frames", {}),
      transmitCase("RSS to 4 queues", { queues: 4 }),
      transmitCase("4096 flow groups on 4 queues", { queues: 4, flowGroups: true }, ({ registers }) => {
        for (let group = 0; group < 4096; group++) registers.setFlowGroup(group, group % 4);
      }),
      transmitCase("RSS to 4 queues behind 4096 exact filters", { queues: 4 }, ({ registers }) => {
        for (let port = 1; port <= 4096; port++) {
          const source = parseAddress(`10.2.${port >> 8}.${port & 255}`);
          const tuple = { protocol: PROTOCOL_TCP, source, sourcePort: port, destination, destinationPort: 80 } as const;
          registers.setFilter(tuple, port % 4);
        }
      }),
    ]);
  },
};
