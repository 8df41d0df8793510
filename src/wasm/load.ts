/**
 * Loading and instantiating the WebAssembly modules. A module is compiled once per process and variant; every kernel
 * is an instance of it with a memory of its own.
 */
import { instantiateSync } from "@assemblyscript/loader";
import { NetPopcornError } from "../errors.ts";
import type { KernelExports } from "./exports.ts";

export type ModuleName = "kernel" | "card";
/** `debug` keeps assertions; it exists for plain memories only. */
export type ModuleBuild = "release" | "debug";

const modules = new Map<string, Promise<WebAssembly.Module>>();
/** The same relative place from src/wasm/ and from dist/wasm/. */
let folder = new URL("../../build/", import.meta.url);

/**
 * Says where kernel.release.wasm, card.release.wasm and their `.shared` variants are, for programs whose bundler has
 * moved this module away from them. Before the first stack or segment; for this thread only, workers ask the package.
 * @param base a folder's URL, with or without its last slash: absolute, or relative to the page.
 * @throws NetPopcornError EINVAL when it is no URL.
 */
export function setModuleBase(base: string | URL): void {
  const page = (globalThis as { document?: { baseURI: string } }).document?.baseURI;
  try {
    const url = new URL(`${base}`, page);
    if (!url.pathname.endsWith("/")) url.pathname += "/";
    folder = url;
  } catch (cause) {
    throw new NetPopcornError("EINVAL", `"${base}" is no URL of a folder; give an absolute one`, { cause });
  }
  modules.clear();
}

/**
 * @param shared for a shared memory (kernels in threads) instead of a plain one.
 * @throws NetPopcornError ERR_MODULE_LOAD when the module's file is missing or no valid module.
 */
export function loadModule(
  name: ModuleName,
  shared: boolean,
  build: ModuleBuild = "release",
): Promise<WebAssembly.Module> {
  const file = `${name}.${build}${shared ? ".shared" : ""}.wasm`;
  let module = modules.get(file);
  if (!module) {
    module = compile(file);
    // A failed load may be tried again, for instance after a build.
    const failed = module;
    module.catch(() => modules.get(file) === failed && modules.delete(file));
    modules.set(file, module);
  }
  return module;
}

async function compile(file: string): Promise<WebAssembly.Module> {
  const url = new URL(file, folder);
  try {
    if (url.protocol === "file:") {
      const { readFile } = await import("node:fs/promises");
      return await WebAssembly.compile(await readFile(url));
    }
    return await WebAssembly.compileStreaming(fetch(url));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `${url.href} cannot be loaded (${why}); build it with "npm run build:wasm", or see setModuleBase()`;
    throw new NetPopcornError("ERR_MODULE_LOAD", message, { cause });
  }
}

/**
 * A memory that never grows, so that views on it stay valid for its life. The system reserves `bytes` and provides a
 * page when it is first touched.
 * @param bytes a multiple of 64 KiB, up to 4 GiB.
 * @throws NetPopcornError ENOMEM.
 */
export function createMemory(bytes: number, shared: boolean): WebAssembly.Memory {
  const pages = bytes / 65536;
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  } catch (cause) {
    throw new NetPopcornError("ENOMEM", `the system refuses ${bytes} bytes for a kernel; lower memoryBytes`, { cause });
  }
}

/**
 * An instance of a compiled AssemblyScript module on `memory`. Returns the raw exports: the loader's own export
 * object wraps every function in one that records the number of arguments, which costs more than the call.
 */
export function instantiateModule(module: WebAssembly.Module, memory: WebAssembly.Memory): WebAssembly.Exports {
  return instantiateSync(module, { env: { memory } }).instance.exports;
}

/** A kernel's exports; abort() throws an Error with message, file, line and column (see kernelTrap). */
export function instantiateKernel(module: WebAssembly.Module, memory: WebAssembly.Memory): KernelExports {
  return instantiateModule(module, memory) as KernelExports;
}

/**
 * What a kernel threw, as an error of the API: an assertion (with its place in assembly/) or a trap of the engine.
 * The kernel's memory is not to be trusted after that.
 */
export function kernelTrap(cause: unknown, kernelId: number, nowNs: number): NetPopcornError {
  if (cause instanceof NetPopcornError && cause.code === "ERR_KERNEL_TRAP") return cause;
  const what = cause instanceof Error ? cause.message : String(cause);
  return new NetPopcornError("ERR_KERNEL_TRAP", `kernel ${kernelId} trapped at ${nowNs} ns: ${what}`, { cause });
}
