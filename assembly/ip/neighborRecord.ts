/** What is kept of a neighbour (neighbor.ts). */

/** Destination, source and EtherType lie ready in the entry. */
export const NEIGHBOR_ETHERNET: usize = 16;

/** One cache line. */
@unmanaged
export class Neighbor {
  /** The address, 16 bytes: 0 and ::ffff:a.b.c.d for IPv4. */
  keyHigh: u64;
  keyLow: u64;
  /** 14 bytes of Ethernet header, written as a whole. */
  ethernetLow: u64;
  ethernetMid: u32;
  ethernetHigh: u16;
  state: u8;
  /** Requests sent without an answer. */
  requests: u8;
  /** When the neighbour last proved that it receives from us. */
  confirmedTick: u32;
  usedTick: u32;
  deadlineTick: u32;
  /** Neighbours in the list of this state, and the next one in the hash chain; NONE at the ends. */
  listPrevious: i32;
  listNext: i32;
  chainNext: i32;
  /** Frames that wait for the address, oldest first: slot number + 1, 0 is none. */
  holdHead: u16;
  holdTail: u16;
  heldFrames: u8;
  /** 1: it has answered us once, so it exists. Anybody can make us learn of others (spoofed SYNs do). */
  proven: u8;
}
export const NEIGHBOR_SIZE_BYTES: usize = 64;
if (offsetof<Neighbor>("keyHigh") != 0 || offsetof<Neighbor>("keyLow") != 8)
  ERROR("a Neighbor begins with its address");
if (offsetof<Neighbor>("ethernetLow") != NEIGHBOR_ETHERNET) ERROR("NEIGHBOR_ETHERNET is not where the header lies");
if (offsetof<Neighbor>() > NEIGHBOR_SIZE_BYTES) ERROR("Neighbor does not fit its record");

export function writeEthernet(entry: Neighbor, frame: usize): void {
  store<u64>(frame, load<u64>(changetype<usize>(entry), NEIGHBOR_ETHERNET));
  store<u64>(frame, load<u64>(changetype<usize>(entry), NEIGHBOR_ETHERNET + 6), 6);
}
