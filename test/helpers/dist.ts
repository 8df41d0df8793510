/**
 * Loads a built module: workers start from built JavaScript only, and what is tested is what is shipped.
 * @param path below dist/, e.g. "device/tap/device.js"; the type parameter is the source's module type.
 */
export async function importBuilt<Module>(path: string): Promise<Module> {
  return (await import(new URL(`../../dist/${path}`, import.meta.url).href)) as Module;
}
