// Brings a clone to "installed and built"; does nothing, silently, when it is. Needs Node and npm only.
// With --with-tests also builds what only tests and micro benchmarks need.
// Progress goes to stderr, so that the command that follows owns stdout.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root, runWhenChanged } from "./upToDate.mjs";
import { wasmModules } from "./wasmModules.mjs";

const nodeVersionMin = [20, 19];

class SetupError extends Error {}

function checkNodeVersion() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > nodeVersionMin[0] || (major === nodeVersionMin[0] && minor >= nodeVersionMin[1])) return;
  throw new SetupError(`Node ${nodeVersionMin.join(".")} or later is needed, this is ${process.versions.node}`);
}

/** Runs a program with its output on our stderr. */
function run(what, command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", 2, 2], ...options });
    child.on("error", (error) => reject(new SetupError(`${what}: cannot start ${command}: ${error.message}`)));
    child.on("close", (status, signal) => {
      if (status === 0) resolve();
      else reject(new SetupError(`${what} failed (${signal ?? `exit status ${status}`}); its messages are above`));
    });
  });
}

/**
 * Whether node_modules holds what the lock file asks for. npm keeps a lock file of what it has installed; packages for
 * other systems, and optional ones that were left out on purpose, may be missing.
 */
function isInstalled() {
  const installedFile = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(installedFile)) return false;
  const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  const installed = JSON.parse(readFileSync(installedFile, "utf8")).packages;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === "") return true;
    const present = installed[path];
    return present ? present.version === entry.version : entry.optional === true || entry.devOptional === true;
  });
}

async function install() {
  console.error("setup: installing packages (npm ci)");
  // npm is a script on Windows, which only a shell starts; elsewhere no shell is involved.
  const options = process.platform === "win32" ? { shell: true } : {};
  await run("npm ci", "npm", ["ci", "--include=dev", "--no-audit", "--no-fund"], options);
}

function script(file, ...args) {
  return run(file, process.execPath, [join("scripts", file), ...args]);
}

/** @param group of wasmModules.mjs. */
function buildModules(group, message) {
  return runWhenChanged({
    name: `wasm-${group}`,
    inputs: [
      "assembly",
      "src/layout",
      "asconfig.json",
      "scripts/buildWasm.mjs",
      "scripts/wasmModules.mjs",
      "package-lock.json",
    ],
    outputs: wasmModules.filter((module) => module.group === group).map(({ file }) => file),
    build: () => {
      console.error(message);
      return script("buildWasm.mjs", group);
    },
  });
}

try {
  checkNodeVersion();
  if (!isInstalled()) await install();
  await buildModules("shipped", "setup: building the WebAssembly modules");
  if (process.argv.includes("--with-tests")) {
    await buildModules(
      "test",
      "setup: building the WebAssembly modules with assertions and those that tests look into",
    );
  }
  await runWhenChanged({
    name: "typescript",
    inputs: ["src", "tsconfig.json", "tsconfig.build.json", "scripts/buildTs.mjs", "package-lock.json"],
    outputs: ["dist"],
    build: () => {
      console.error("setup: building TypeScript and the report page");
      return script("buildTs.mjs");
    },
  });
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`setup: ${error.message}`);
  process.exit(1);
}
