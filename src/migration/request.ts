/** What the owner asks of a kernel while a group moves. Structured-clonable but for states on one thread. */
import type { ReplyTuple } from "../device/replySteering.ts";

/** Names a move, 1 to 2^32-1: pieces of one that has been given up are not taken for another's. */
export type MoveId = number;

/** What the application hands over with a connection: its handle in the old kernel, and the state. */
export type HandedOver = readonly [handle: number, state: unknown];

/** A connection that was opened, whose tuple no other kernel is to choose. Reserved: it has no filter. */
export type MovingTuple = readonly [handle: number, tuple: ReplyTuple, isReserved?: boolean];

/** What has come from one kernel. */
export type Arrival = {
  readonly from: number;
  readonly states: readonly HandedOver[];
  /** Exact filters of connections that were opened there, and such connections without. */
  readonly filters: readonly MovingTuple[];
};

/** A connection as kernels of a stack name it to each other. */
export type Flow = {
  /** 16 bytes. */
  readonly remote: Uint8Array;
  readonly remotePort: number;
  /** Which of the stack's own addresses. */
  readonly localIndex: number;
  readonly localPort: number;
};

/** A flow that exact filters bring to another kernel than its group. */
export type PinnedTo = { readonly flow: Flow; readonly kernel: number };

/** What the owner asks of a kernel while connections are stolen (steal.ts). */
export type StealRequest =
  /** Freeze the oldest connections that wait to be accepted. */
  | {
      readonly ask: "stealFreeze";
      readonly move: MoveId;
      readonly to: number;
      readonly connections: number;
      /** Of how many addresses, and of IPv6 or not: what exact filters can name. */
      readonly addresses: number;
      readonly withV6: boolean;
    }
  /** Lay aside what comes for these flows. */
  | { readonly ask: "stealExpect"; readonly move: MoveId; readonly flows: readonly Flow[] }
  /** What has come lives here from now on. */
  | { readonly ask: "stealCommit"; readonly move: MoveId; readonly from: number }
  /** Forget what has gone; answered when late frames are no longer forwarded. */
  | { readonly ask: "stealGone"; readonly move: MoveId }
  /** Nothing will come. Frames laid aside go to kernel `back`, if it is there; answered a while after "written". */
  | { readonly ask: "stealCancel"; readonly move: MoveId; readonly back: number | undefined }
  /** What is frozen stays. */
  | { readonly ask: "stealStay"; readonly move: MoveId };

export type MigrationRequest =
  | StealRequest
  /** How many connections of the group are there, and how many of them cannot move. */
  | { readonly ask: "survey"; readonly group: number }
  /** Lay aside what comes for the group, until it has come. */
  | { readonly ask: "arrive"; readonly move: MoveId; readonly group: number }
  /** Process what the device has brought so far. */
  | { readonly ask: "drain"; readonly group: number }
  | { readonly ask: "freeze"; readonly group: number; readonly to: number }
  /** Send what is frozen to the other kernel. */
  | { readonly ask: "transfer"; readonly move: MoveId; readonly to: number }
  /** Answered when all of a kernel's connections have come. */
  | { readonly ask: "receive"; readonly move: MoveId; readonly from: number }
  /** What has come lives here from now on. */
  | { readonly ask: "commit"; readonly group: number; readonly arrivals: readonly Arrival[] }
  /** Forget what has gone; answered when late frames are no longer forwarded. */
  | { readonly ask: "gone"; readonly group: number }
  /**
   * Nothing will come. Frames laid aside go to kernel `back`, if it is known; those of `pinned` flows, to theirs.
   * Answered a while after "written".
   */
  | {
      readonly ask: "cancel";
      readonly move: MoveId;
      readonly group: number;
      readonly back: number | undefined;
      readonly pinned: readonly PinnedTo[];
    }
  /** What is frozen stays. */
  | { readonly ask: "stay"; readonly group: number }
  /** The device brings nothing here any more of what was cancelled: late frames are forwarded for a while yet. */
  | { readonly ask: "written"; readonly move: MoveId };

export type MigrationAnswer = {
  /** 0, or a negative errno: EOPNOTSUPP for connections that cannot leave their application. */
  readonly status: number;
  /** Of the group, there or come. */
  readonly connections?: number;
  readonly bytes?: number;
  /** Laid aside before the group had come, or forwarded after it had gone. */
  readonly frames?: number;
  readonly arrival?: Arrival;
  /** What is to be stolen. */
  readonly flows?: readonly Flow[];
};

export type Reply = (answer: MigrationAnswer) => void;
