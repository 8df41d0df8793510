import { NetPopcornError } from "../errors.ts";
import type { Application } from "./kernelStack.ts";

/** @throws NetPopcornError ERR_APP_LOAD. */
export async function importApplication(url: string): Promise<{ readonly default?: unknown }> {
  try {
    return (await import(/* @vite-ignore */ url)) as { default?: unknown };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new NetPopcornError("ERR_APP_LOAD", `the application ${url} cannot be loaded: ${why}`, { cause });
  }
}

/**
 * The default export of an application module.
 * @throws NetPopcornError ERR_APP_LOAD, ERR_APP_EXPORT.
 */
export async function loadApplication(url: string): Promise<Application> {
  const module = await importApplication(url);
  if (typeof module.default !== "function") {
    throw new NetPopcornError(
      "ERR_APP_EXPORT",
      `the application ${url} has no default export that is a function (stack, appArguments) => …`,
    );
  }
  return module.default as Application;
}
