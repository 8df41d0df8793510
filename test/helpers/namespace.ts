/**
 * Network namespaces for tests with real programs: what a test leaves behind goes with its namespace, and the
 * machine's own network is never touched. Needs root, /dev/net/tun and iproute2; `missing()` says what is not there.
 */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

/** Why tests in a namespace cannot run here: the first thing missing of what they need; undefined when they can. */
export function missing(...programs: string[]): string | undefined {
  if (process.platform !== "linux") return "TAP devices need Linux";
  if (process.getuid?.() !== 0) return "TAP devices and namespaces need root";
  if (!existsSync("/dev/net/tun")) return "no /dev/net/tun";
  for (const program of ["ip", ...programs]) {
    if (spawnSync("sh", ["-c", `command -v ${program}`]).status !== 0) return `no ${program}`;
  }
  return namespaceRefusal();
}

let refusal: string | undefined | null = null;

/** Root in a container may still be refused: try once. */
function namespaceRefusal(): string | undefined {
  if (refusal !== null) return refusal;
  const name = `npt${process.pid}-try`;
  const made = spawnSync("ip", ["netns", "add", name], { encoding: "utf8" });
  refusal = made.status === 0 ? undefined : `no network namespaces: ${made.stderr.trim()}`;
  if (made.status === 0) spawnSync("ip", ["netns", "delete", name]);
  return refusal;
}

export type Finished = { readonly status: number | null; readonly stdout: string; readonly stderr: string };

export class Namespace implements AsyncDisposable {
  static #count = 0;
  readonly name: string;
  readonly #children = new Set<ChildProcess>();

  constructor() {
    Namespace.#count += 1;
    this.name = `npt${process.pid}-${Namespace.#count}`;
    execFileSync("ip", ["netns", "add", this.name]);
    this.ip("link", "set", "lo", "up");
  }

  /** Runs `ip` on this namespace. */
  ip(...parameters: string[]): string {
    return execFileSync("ip", ["-netns", this.name, ...parameters], { encoding: "utf8" });
  }

  /** Runs `tc` on this namespace. */
  tc(...parameters: string[]): void {
    execFileSync("tc", ["-netns", this.name, ...parameters]);
  }

  /** Starts a program inside; it is killed with the namespace at the latest. */
  start(program: string, parameters: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawn("ip", ["netns", "exec", this.name, program, ...parameters], options);
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    return child;
  }

  /** Runs a program inside to its end, or kills it after `timeoutMs`. */
  async run(program: string, parameters: readonly string[], timeoutMs = 60_000, input?: Buffer): Promise<Finished> {
    const child = this.start(program, parameters, { stdio: ["pipe", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    // A program that ends early closes its input; its status says so.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(input);
    const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    const status = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => resolve(code));
    });
    clearTimeout(timer);
    return { status, stdout, stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const children = [...this.#children];
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(children.map((child) => exited(child)));
    spawnSync("ip", ["netns", "delete", this.name]);
  }
}

/** Resolves when a process has ended. */
export function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once("exit", () => resolve()));
}
