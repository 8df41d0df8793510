/**
 * Watches the kernels of a stack, and brings back those that end or hang. What it decides is a function of what it is
 * told and of the time that it is given; how kernels are ended and started, and where their packets go meanwhile, is
 * the stack's (SupervisedKernels).
 *
 * ```
 *          exit, trap, uncaught exception, hang
 *      up ────────────────────────────────────▶ down ──restartMs──▶ starting ──▶ up
 *                                                ▲                     │
 *                                                └──── start fails ────┘   failuresMax in a row: stays down
 *
 *  removed ──add()──▶ starting ──▶ up ──remove()──▶ leaving ──empty, or drainMs over──▶ ending ──▶ removed
 * ```
 */
import { NetPopcornError } from "../errors.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";

/** Why a kernel is up or down: `start`: its application did not start. */
export type KernelReason = "exit" | "error" | "trap" | "hang" | "start" | "removed" | "restarted" | "added";

export type KernelEvent = {
  readonly kernelId: number;
  readonly state: "up" | "down";
  readonly reason: KernelReason;
  /** Times that this kernel has been started again, this one included. */
  readonly restarts: number;
  /** What has ended it. */
  readonly error?: Error;
  /** Milliseconds until it is started again; missing: it will not be. */
  readonly restartMs?: number;
};

export type RestartOptions = {
  /** Wait before the first restart; doubles with each further one. Default 100. */
  readonly delayMs: number;
  /** Longest wait. Default 10,000. */
  readonly delayMsMax: number;
  /** A kernel that has been up for so long starts with delayMs again. Default 60,000. */
  readonly quietMs: number;
  /** Starts in a row that may fail before the stack goes on without the kernel. Default 8. */
  readonly failuresMax: number;
};

export const RESTART_DEFAULTS: RestartOptions = { delayMs: 100, delayMsMax: 10_000, quietMs: 60_000, failuresMax: 8 };
export const HANG_MS_DEFAULT = 1000;

/** What a stack does for its supervisor. */
export interface SupervisedKernels {
  /** Milliseconds by the stack's clock. */
  nowMs(): number;
  /** Memory of a kernel that runs on another thread, to watch its heartbeat; undefined: not to be watched. */
  watchedMemory(kernelId: number): KernelMemory | undefined;
  /** Steers everything to the others, at once. */
  retire(kernelId: number, error: Error): void;
  /** Ends whatever still runs of the kernel. Fulfilled when nothing of it does. */
  end(kernelId: number): Promise<void>;
  /** Starts it afresh; `life` counts from 1. Fulfilled when its application has started. */
  start(kernelId: number, life: number): Promise<void>;
  /** It is up again: steers to it what is its own. */
  restore(kernelId: number): void;
  /** It is to leave: steers nothing new to it. */
  leave(kernelId: number): void;
  /** Nothing new comes to it, and it has no connections left. */
  isEmpty(kernelId: number): boolean;
  /** Steers everything to the others, for good; what connections it has left are reset. Fulfilled when it has ended. */
  dismiss(kernelId: number): Promise<void>;
  /** No kernel is left, and none will be started. */
  giveUp(): void;
  announce(event: KernelEvent): void;
  /** deadlineMs may be earlier than before. */
  reschedule(): void;
}

export type SupervisorOptions = {
  readonly kernels: SupervisedKernels;
  readonly count: number;
  /** undefined: a kernel that has ended stays down. */
  readonly restart: RestartOptions | undefined;
  /** How long a kernel with work may take no turn. */
  readonly hangMs: number;
};

export type RemoveOptions = {
  /** Whether its connections may go on for drainMs; otherwise they are reset at once. Default true. */
  readonly drain?: boolean;
  /** Default 5000. */
  readonly drainMs?: number;
};

const REMOVE_DRAIN_MS_DEFAULT = 5000;
/** How often a kernel that is to leave is asked whether it is empty. */
const LEAVE_LOOK_MS = 10;

type State = "up" | "ending" | "waiting" | "starting" | "down" | "leaving" | "removed";

type Watched = {
  state: State;
  /** Starts under this number, less one for a kernel that was there from the beginning. */
  life: number;
  /** Starts again since it was there from the beginning, or was added. */
  restarts: number;
  /** Ends since the last quiet time: the exponent of the wait. */
  ends: number;
  /** Starts in a row that have failed. */
  failures: number;
  upAtMs: number;
  restartAtMs: number;
  heartbeat: number;
  doorbell: number;
  /** Looks in a row at which the heartbeat stood still although there was a reason to poll. */
  idleLooks: number;
  /** While it is to leave: when at the latest it does, when it is looked at, and who waits for its end. */
  leaveAtMs: number;
  leaveLookAtMs: number;
  onRemoved: (() => void) | undefined;
  /** It has been removed while it was on its way up or down. */
  dismissed: boolean;
  /** Who waits for its start waits no longer: it may never end, since nobody drives the kernel. */
  onDismissed: (() => void) | undefined;
  /** Its end in order, while that lasts: it has one, however many ask for it. */
  dismissal: Promise<void> | undefined;
};

function watchedIn(state: State): Watched {
  return {
    state,
    life: 0,
    restarts: 0,
    ends: 0,
    failures: 0,
    upAtMs: 0,
    restartAtMs: Number.POSITIVE_INFINITY,
    heartbeat: -1,
    doorbell: 0,
    idleLooks: 0,
    leaveAtMs: 0,
    leaveLookAtMs: Number.POSITIVE_INFINITY,
    onRemoved: undefined,
    dismissed: false,
    onDismissed: undefined,
    dismissal: undefined,
  };
}

/** Looks at the heartbeats per hangMs. */
const LOOKS_PER_HANG = 8;

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #watched: Watched[];
  #lookAtMs = Number.POSITIVE_INFINITY;
  #closed = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#watched = Array.from({ length: options.count }, () => watchedIn("up"));
  }

  /** All kernels are up. */
  begin(): void {
    const nowMs = this.#options.kernels.nowMs();
    for (const [kernelId, { state }] of this.#watched.entries()) if (state === "up") this.#up(kernelId, nowMs);
    this.#options.kernels.reschedule();
  }

  /** Nothing is restarted or removed any more. */
  close(): void {
    this.#closed = true;
    for (const { onRemoved } of this.#watched) onRemoved?.();
  }

  isUp(kernelId: number): boolean {
    return this.#watched[kernelId]?.state === "up";
  }

  /** False before the first add() and after remove(). */
  isPresent(kernelId: number): boolean {
    const state = this.#watched[kernelId]?.state;
    return state !== undefined && state !== "removed";
  }

  /** True while it lives, but takes nothing new. */
  isLeaving(kernelId: number): boolean {
    return this.#watched[kernelId]?.state === "leaving";
  }

  /** Kernels that are there, or will be again. */
  get presentCount(): number {
    return this.#watched.filter(({ state }) => state !== "removed").length;
  }

  /** A kernel is down and will be started again, or is on its way in or out. */
  get isRestarting(): boolean {
    const settled: readonly State[] = ["up", "down", "removed"];
    return this.#watched.some(({ state }) => !settled.includes(state));
  }

  restarts(kernelId: number): number {
    return this.#of(kernelId).restarts;
  }

  /** When step() has something to do, ms; Infinity: never. */
  get deadlineMs(): number {
    if (this.#closed) return Number.POSITIVE_INFINITY;
    const leaveLooks = this.#watched.map(({ leaveLookAtMs }) => leaveLookAtMs);
    return Math.min(this.#lookAtMs, ...this.#watched.map(({ restartAtMs }) => restartAtMs), ...leaveLooks);
  }

  /** A kernel has ended, or must. Its packets go elsewhere before this returns. */
  down(kernelId: number, reason: KernelReason, error: Error): void {
    const watched = this.#of(kernelId);
    if (this.#closed || (watched.state !== "up" && watched.state !== "leaving")) return;
    const { kernels, restart } = this.#options;
    const wasLeaving = watched.state === "leaving";
    // First of all: whoever hears of its end must not find it up and give it something.
    watched.state = "ending";
    kernels.retire(kernelId, error);
    if (restart && kernels.nowMs() - watched.upAtMs >= restart.quietMs) watched.ends = 0;
    void this.#end(kernelId, reason, error, wasLeaving);
  }

  /** Does what is due. */
  step(): void {
    const nowMs = this.#options.kernels.nowMs();
    if (nowMs >= this.#lookAtMs) this.#look(nowMs);
    for (const [kernelId, watched] of this.#watched.entries()) {
      if (!this.#closed && nowMs >= watched.restartAtMs) void this.#restart(kernelId);
      if (!this.#closed && nowMs >= watched.leaveLookAtMs) this.#lookAtLeaving(kernelId, nowMs);
    }
  }

  /**
   * Starts a kernel that is not there. Its number is one that has been removed, or the next.
   * @throws what its start throws, ERR_NO_SUCH_KERNEL: it has been removed meanwhile; then it is not there.
   */
  async add(kernelId: number): Promise<void> {
    const { kernels } = this.#options;
    this.#watched[kernelId] ??= watchedIn("removed");
    const watched = this.#of(kernelId);
    watched.state = "starting";
    watched.dismissed = false;
    const life = ++watched.life;
    watched.restarts = 0;
    // Removed meanwhile, and perhaps added again by now.
    const isGone = () => watched.dismissed || watched.life !== life;
    const dismissed = new Promise<void>((resolve) => {
      watched.onDismissed = resolve;
    });
    let cause: unknown;
    try {
      await Promise.race([kernels.start(kernelId, life), dismissed]);
    } catch (error) {
      if (!isGone()) {
        await this.#dismiss(kernelId);
        throw error;
      }
      cause = error;
    }
    if (isGone()) {
      await watched.dismissal;
      throw new NetPopcornError("ERR_NO_SUCH_KERNEL", `kernel ${kernelId} has been removed while it started`, {
        cause,
      });
    }
    if (this.#closed) return;
    this.#up(kernelId, kernels.nowMs());
    kernels.restore(kernelId);
    kernels.announce({ kernelId, state: "up", reason: "added", restarts: watched.restarts });
    kernels.reschedule();
  }

  /** Fulfilled when the kernel is no more. It may also end by itself meanwhile. */
  async remove(kernelId: number, { drain = true, drainMs = REMOVE_DRAIN_MS_DEFAULT }: RemoveOptions): Promise<void> {
    const { kernels } = this.#options;
    const watched = this.#of(kernelId);
    const nowMs = kernels.nowMs();
    if (watched.state !== "up") {
      // It is down: it only must not come back.
      watched.restartAtMs = Number.POSITIVE_INFINITY;
      await this.#dismiss(kernelId);
      return;
    }
    watched.state = "leaving";
    kernels.leave(kernelId);
    const removed = new Promise<void>((resolve) => {
      watched.onRemoved = resolve;
    });
    watched.leaveAtMs = drain ? nowMs + drainMs : nowMs;
    watched.leaveLookAtMs = nowMs;
    this.#lookAtLeaving(kernelId, nowMs);
    kernels.reschedule();
    await removed;
  }

  #lookAtLeaving(kernelId: number, nowMs: number): void {
    const watched = this.#of(kernelId);
    watched.leaveLookAtMs = nowMs + LEAVE_LOOK_MS;
    if (nowMs < watched.leaveAtMs && !this.#options.kernels.isEmpty(kernelId)) return;
    watched.leaveLookAtMs = Number.POSITIVE_INFINITY;
    void this.#dismiss(kernelId);
  }

  #dismiss(kernelId: number): Promise<void> {
    const watched = this.#of(kernelId);
    watched.dismissal ??= this.#dismissOnce(kernelId);
    return watched.dismissal;
  }

  async #dismissOnce(kernelId: number): Promise<void> {
    const { kernels } = this.#options;
    const watched = this.#of(kernelId);
    const wasThere = watched.state === "leaving";
    watched.state = "ending";
    watched.dismissed = true;
    watched.onDismissed?.();
    watched.onDismissed = undefined;
    await kernels.dismiss(kernelId);
    watched.state = "removed";
    watched.dismissal = undefined;
    watched.ends = 0;
    watched.failures = 0;
    if (wasThere) kernels.announce({ kernelId, state: "down", reason: "removed", restarts: watched.restarts });
    kernels.reschedule();
    watched.onRemoved?.();
    watched.onRemoved = undefined;
  }

  async #end(kernelId: number, reason: KernelReason, error: Error, wasLeaving = false): Promise<void> {
    const { kernels, restart } = this.#options;
    const watched = this.#of(kernelId);
    const { life } = watched;
    watched.state = "ending";
    watched.leaveLookAtMs = Number.POSITIVE_INFINITY;
    const willRestart = restart !== undefined && !wasLeaving && watched.failures < restart.failuresMax;
    const restartMs = restart ? Math.min(restart.delayMs * 2 ** watched.ends, restart.delayMsMax) : 0;
    watched.ends++;
    const event = { kernelId, state: "down", reason, restarts: watched.restarts, error } as const;
    kernels.announce(willRestart ? { ...event, restartMs } : event);
    // The place of the old one may be given to a new one only when the old one cannot touch it any more.
    await kernels.end(kernelId);
    // Another may have its number by now.
    if (watched.life !== life) return;
    if (wasLeaving) return this.#dismiss(kernelId);
    if (this.#closed || watched.dismissed) return;
    watched.state = willRestart ? "waiting" : "down";
    if (willRestart) watched.restartAtMs = kernels.nowMs() + restartMs;
    else if (this.#watched.every(({ state }) => state === "down" || state === "removed")) kernels.giveUp();
    kernels.reschedule();
  }

  async #restart(kernelId: number): Promise<void> {
    const { kernels } = this.#options;
    const watched = this.#of(kernelId);
    watched.state = "starting";
    watched.restartAtMs = Number.POSITIVE_INFINITY;
    const life = ++watched.life;
    watched.restarts++;
    const isGone = () => watched.dismissed || watched.life !== life;
    try {
      await kernels.start(kernelId, life);
    } catch (error) {
      if (isGone()) return;
      watched.failures++;
      if (!this.#closed) void this.#end(kernelId, "start", error as Error);
      return;
    }
    if (this.#closed || isGone()) return;
    watched.failures = 0;
    this.#up(kernelId, kernels.nowMs());
    kernels.restore(kernelId);
    kernels.announce({ kernelId, state: "up", reason: "restarted", restarts: watched.restarts });
    kernels.reschedule();
  }

  #up(kernelId: number, nowMs: number): void {
    const watched = this.#of(kernelId);
    watched.state = "up";
    watched.upAtMs = nowMs;
    watched.heartbeat = -1;
    watched.idleLooks = 0;
    if (this.#options.kernels.watchedMemory(kernelId)) this.#lookAtMs = Math.min(this.#lookAtMs, nowMs);
  }

  /** Finds kernels that hang. */
  #look(nowMs: number): void {
    const { hangMs, kernels } = this.#options;
    this.#lookAtMs = Number.POSITIVE_INFINITY;
    for (const [kernelId, watched] of this.#watched.entries()) {
      // One that leaves must take turns for its connections to end.
      const isWatched = watched.state === "up" || watched.state === "leaving";
      const memory = isWatched ? kernels.watchedMemory(kernelId) : undefined;
      if (!memory) continue;
      this.#lookAtMs = nowMs + hangMs / LOOKS_PER_HANG;
      if (this.#hangs(watched, memory)) {
        const text = `kernel ${kernelId} has taken no turn for ${hangMs} ms although it has work`;
        this.down(kernelId, "hang", new NetPopcornError("ERR_KERNEL_HANG", text));
      }
    }
  }

  /**
   * True when a kernel has had a reason to poll at all looks of hangMs and has not polled. It has none while it sleeps
   * and nobody has rung its doorbell. A ring may come between its last look and its falling asleep, and be in vain; so
   * we ring ourselves at every look: a sleeper that lives wakes up from one of these. Looks are counted, not time,
   * because a machine that was stopped for a while stops both threads.
   */
  #hangs(watched: Watched, memory: KernelMemory): boolean {
    const { heartbeat, doorbell } = memory;
    if (heartbeat !== watched.heartbeat) {
      watched.heartbeat = heartbeat;
      watched.doorbell = doorbell;
      watched.idleLooks = 0;
      return false;
    }
    if (memory.sleeping && doorbell === watched.doorbell) return false;
    memory.ringDoorbell();
    return ++watched.idleLooks > LOOKS_PER_HANG;
  }

  #of(kernelId: number): Watched {
    return this.#watched[kernelId] as Watched;
  }
}
