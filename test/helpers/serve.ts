import { type ChildProcess, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Namespace } from "./namespace.ts";
import { exited } from "./namespace.ts";

const CLI = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
export const SERVER = "10.7.0.2";
export const CLIENT = "10.7.0.1";

export type ServeOptions = {
  readonly app: string;
  readonly port: number;
  readonly kernels?: number;
  readonly pcap?: string;
  /** Seconds between the ends of kernels. */
  readonly chaos?: number;
  readonly steer?: "device" | "software";
  /** Where the host has its address: on the TAP itself, or elsewhere, on a link bridged to it. @default true */
  readonly hostAddress?: boolean;
};

/** A `netpopcorn serve` in a namespace, on the TAP pop0. */
export class Served implements AsyncDisposable {
  readonly #child: ChildProcess;
  #stdout = "";
  #stderr = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
  }

  /** Resolves once the server has printed `ready` and the host has a route to it. */
  static async start(namespace: Namespace, options: ServeOptions): Promise<Served> {
    const { app, port, kernels = 2, pcap, chaos, steer, hostAddress = true } = options;
    const parameters = ["serve", "--tap", "pop0", "--address", `${SERVER}/24`, "--kernels", `${kernels}`];
    parameters.push("--app", app, "--port", `${port}`, ...(pcap === undefined ? [] : ["--pcap", pcap]));
    if (steer !== undefined) parameters.push("--steer", steer);
    if (chaos !== undefined) parameters.push("--chaos", `${chaos}`, "--seed", "1");
    const child = namespace.start(process.execPath, [CLI, ...parameters], { stdio: ["ignore", "pipe", "pipe"] });
    const served = new Served(child);
    await served.#ready();
    const has = namespace.ip("-4", "address", "show", "pop0").includes(`${CLIENT}/24`);
    if (hostAddress && !has) namespace.ip("address", "add", `${CLIENT}/24`, "dev", "pop0");
    if (!hostAddress && has) namespace.ip("address", "delete", `${CLIENT}/24`, "dev", "pop0");
    return served;
  }

  /** Ctrl-C. @returns exit status and all that was printed. */
  async interrupt(): Promise<{ status: number | null; stdout: string; stderr: string }> {
    this.#child.kill("SIGINT");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 10_000);
    await exited(this.#child);
    clearTimeout(timer);
    return { status: this.#child.exitCode, stdout: this.#stdout, stderr: this.#stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await exited(this.#child);
  }

  #ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => {
        clearTimeout(timer);
        this.#child.kill("SIGKILL");
        reject(new Error(`serve ${why}: ${this.#stdout}${this.#stderr}`));
      };
      const timer = setTimeout(() => fail("is not ready after 20 s"), 20_000);
      const onExit = (status: number | null): void => fail(`has ended with ${status}`);
      this.#child.once("exit", onExit);
      this.#child.stdout?.on("data", () => {
        if (!/^ready/m.test(this.#stdout)) return;
        clearTimeout(timer);
        this.#child.removeListener("exit", onExit);
        resolve();
      });
    });
  }
}

/** Runs the CLI where it is expected to end by itself. */
export function runCli(...parameters: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...parameters], {
    encoding: "utf8",
    timeout: 20_000,
  });
  return { status, stdout, stderr };
}
