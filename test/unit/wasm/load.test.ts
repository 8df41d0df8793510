/** Where the WebAssembly modules are found. */
import { pathToFileURL } from "node:url";
import { afterEach, expect, it } from "vitest";
import { loadModule, setModuleBase } from "../../../src/wasm/load.ts";

const build = new URL("../../../build", import.meta.url);
afterEach(() => setModuleBase(build));

it("loads from another folder, with or without its last slash", async () => {
  for (const base of [build, `${build}/`]) {
    setModuleBase(base);
    expect(await loadModule("card", false)).toBeInstanceOf(WebAssembly.Module);
  }
});

it("says which file it has not found, and what to do", async () => {
  setModuleBase(pathToFileURL("/nowhere"));
  await expect(loadModule("card", false)).rejects.toMatchObject({
    code: "ERR_MODULE_LOAD",
    message: expect.stringMatching(/nowhere\/card\.release\.wasm.*setModuleBase/s),
  });
});

it("takes no relative URL where there is no page", () => {
  expect(() => setModuleBase("wasm")).toThrow("absolute");
});
