// Which WebAssembly modules there are. "shipped" ones are what the package runs on; "test" ones have assertions, or
// show internals to tests and micro benchmarks.
// `plain` modules import an unshared memory (inline mode, browsers without isolation) and have no atomic instructions,
// `shared` ones import a shared memory (assembly/mem/ordered.ts).
const release = ["--target", "release"];
const variants = {
  release,
  "release.shared": [...release, "--sharedMemory", "--enable", "threads"],
  debug: ["--target", "debug"],
};

const modules = [
  ...["kernel", "card"].flatMap((entry) => [
    { group: "shipped", entry, variant: "release" },
    { group: "shipped", entry, variant: "release.shared" },
    { group: "test", entry, variant: "debug" },
  ]),
  ...["probe", "probeIp", "probeTcp"].flatMap((entry) => [
    { group: "test", entry, variant: "release" },
    { group: "test", entry, variant: "debug" },
  ]),
];

/** All modules: name ("kernel.release"), file, source, flags of asc. */
export const wasmModules = modules.map(({ group, entry, variant }) => ({
  group,
  name: `${entry}.${variant}`,
  source: `assembly/${entry}.ts`,
  file: `build/${entry}.${variant}.wasm`,
  flags: variants[variant],
}));
