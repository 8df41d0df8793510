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

// asc stops inlining at sizes meant for small downloads, and V8 inlines nothing across WebAssembly functions: a segment
// passes some 45 calls. Ratios in alternating runs: accept 1.15, bulk 1.1, rr 1.1, the simulator's warm runs 1.0 to
// 1.1, for 1.65 times the bytes; limits of half the size give less, of four times the size no more.
const inlining = [
  "-O3",
  ...["--always-inline-max-function-size=30", "--flexible-inline-max-function-size=400"],
  ...["--one-caller-inline-max-function-size=100000", "--inline-functions-with-loops"],
  ...["simd", "bulk-memory", "bulk-memory-opt", "sign-ext", "mutable-globals", "nontrapping-float-to-int"].map(
    (feature) => `--enable-${feature}`,
  ),
];

function inliningOf(entry, variant) {
  if (entry !== "kernel" || variant === "debug") return undefined;
  return variant === "release.shared" ? [...inlining, "--enable-threads"] : inlining;
}

/** All modules: name ("kernel.release"), file, source, flags of asc; of wasm-opt, where it has a pass of its own. */
export const wasmModules = modules.map(({ group, entry, variant }) => ({
  group,
  optimizerFlags: inliningOf(entry, variant),
  name: `${entry}.${variant}`,
  source: `assembly/${entry}.ts`,
  file: `build/${entry}.${variant}.wasm`,
  flags: variants[variant],
}));
