/**
 * The repository's own rules, checked on every file that git tracks: what a reviewer should not have to say.
 * Rules that a linter knows are in biome.json.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const BLOB_BYTES_MAX = 256 * 1024;
const LINE_COLUMNS_MAX = 120;
const FILE_LINES_MAX = 700;
const README_LINES_MAX = 15;

/** Where real time and real randomness may enter (src/README.md). */
const clockEdges = [/^src\/kernel\/clock\.ts$/, /^src\/cli\//];

const tracked = execFileSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8", maxBuffer: 1 << 26 })
  .split("\0")
  .filter((file) => file !== "" && existsSync(join(root, file)));
const isCode = (file: string) => /\.(ts|mjs)$/.test(file);
const code = tracked.filter(isCode);
const documents = tracked.filter((file) => file.endsWith(".md"));
const texts = new Map(tracked.map((file) => [file, readFileSync(join(root, file), "utf8")] as const));

function textOf(file: string): string {
  return texts.get(file) ?? "";
}

/** "file:line: why" for each line of `files` that `check` objects to. */
function findLines(files: readonly string[], check: (line: string, file: string) => string | undefined): string[] {
  return files.flatMap((file) =>
    textOf(file)
      .split("\n")
      .flatMap((line, index) => {
        const why = check(line, file);
        return why === undefined ? [] : [`${file}:${index + 1}: ${why}`];
      }),
  );
}

test("the check sees the repository", () => {
  expect(code.length).toBeGreaterThan(50);
  expect(documents).toContain("README.md");
});

test("lines are at most 120 columns wide", () => {
  const tooLong = (line: string) => ([...line].length > LINE_COLUMNS_MAX ? `${[...line].length} columns` : undefined);
  expect(findLines(code, tooLong)).toEqual([]);
});

test("files are at most 700 lines long", () => {
  const long = code.filter((file) => textOf(file).split("\n").length - 1 > FILE_LINES_MAX);
  expect(long).toEqual([]);
});

test("text ends in one newline, has no tabs, no carriage returns, and no spaces at line ends", () => {
  const untidy = [...code, ...documents].filter(
    (file) => !/[^\n]\n$/.test(textOf(file)) || /[\t\r]| \n/.test(textOf(file)),
  );
  expect(untidy).toEqual([]);
});

test("nothing is left over: no unfinished mark, no test that runs alone, no debugger", () => {
  // Written so that this file does not find itself.
  const leftOver = new RegExp(["FIX" + "ME", "\\b(test|it|describe)\\.on" + "ly\\b", "^\\s*debug" + "ger;"].join("|"));
  expect(findLines(code, (line) => leftOver.exec(line)?.[0])).toEqual([]);
});

test("an open task names its issue", () => {
  const open = new RegExp("\\bTO" + "DO\\b(?!\\(#\\d+\\))");
  expect(findLines(code, (line) => open.exec(line)?.[0])).toEqual([]);
});

test("time and randomness are arguments: clocks are read at the outer edge only", () => {
  const inner = code.filter((file) => /^(src|assembly)\//.test(file) && !clockEdges.some((edge) => edge.test(file)));
  const source = /\b(Date\.now|new Date|Math\.random|performance\.now|process\.hrtime)\b/;
  const isComment = (line: string) => /^\s*(\/\/|\*|\/\*)/.test(line);
  expect(findLines(inner, (line) => (isComment(line) ? undefined : source.exec(line)?.[0]))).toEqual([]);
});

test("assembly/ imports nothing from src/ but the layout", () => {
  const foreign = (line: string) => /from "((?:\.\.\/)+src\/(?!layout\/)[^"]*)"/.exec(line)?.[1];
  const assembly = code.filter((file) => file.startsWith("assembly/"));
  expect(findLines(assembly, foreign)).toEqual([]);
});

test.each(["assembly/", "src/"])("imports in %s, those of types among them, run in one direction", (folder) => {
  const imports = new Map(
    code
      .filter((file) => file.startsWith(folder))
      .map((file) => {
        const found = textOf(file).matchAll(/(?:^(?:import|export|\}) .*from |^import |import\()"(\.[^"]+)"/gm);
        return [file, [...found].map(([, target]) => normalize(join(dirname(file), target as string)))] as const;
      }),
  );
  // Files that nothing left over imports from are taken out until only circles, and what needs them, remain.
  for (let taken = true; taken; ) {
    taken = false;
    for (const [file, targets] of imports) {
      const isStuck = targets.some((target) => imports.has(target));
      const isWanted = [...imports.values()].some((others) => others.includes(file));
      if (!isStuck || !isWanted) taken = imports.delete(file);
    }
  }
  expect([...imports.keys()].sort()).toEqual([]);
});

test("the layout is portable: constants only, no type annotations, no imports but of itself", () => {
  const layout = code.filter((file) => file.startsWith("src/layout/"));
  const isAllowed = (line: string) =>
    /^(\s*|\s*(\/\/|\/\*|\*).*|export const [A-Z][A-Z0-9_]* = .*;|import .* from "\.\/[a-zA-Z]+\.ts";)$/.test(line);
  const isList = (line: string) =>
    /^(import \{|\s+[A-Z0-9_]+,|\} from "\.\/[a-zA-Z]+\.ts";|\s+[A-Z0-9_+* ]+;?)$/.test(line);
  const isContinued = (line: string) => /^export const [A-Z][A-Z0-9_]* =$/.test(line);
  const odd = (line: string) => (isAllowed(line) || isList(line) || isContinued(line) ? undefined : line);
  expect(findLines(layout, odd)).toEqual([]);
});

test("no blob is larger than 256 KiB, and no build output is tracked", () => {
  expect(tracked.filter((file) => statSync(join(root, file)).size > BLOB_BYTES_MAX)).toEqual([]);
  expect(tracked.filter((file) => /^(dist|build|node_modules)\/|\.wasm$|^netpopcorn-report/.test(file))).toEqual([]);
});

test("no file tells where it was written: no home directories, no registry addresses in the lock file", () => {
  const place = (line: string) => /(?<![\w.])\/(?:home|Users|root)\/\w+|"resolved": *"[^"]*"/.exec(line)?.[0];
  const others = tracked.filter((file) => file !== "test/tidy/tidy.test.ts");
  expect(findLines(others, place)).toEqual([]);
});

test("every folder of code has a README of at most 15 lines", () => {
  const folders = new Set(code.filter((file) => /^(assembly|src)\//.test(file)).map((file) => dirname(file)));
  for (const folder of ["bench", "scripts", "test"]) {
    if (code.some((file) => file.startsWith(`${folder}/`))) folders.add(folder);
  }
  const wrong = [...folders].filter((folder) => {
    const lines = texts.get(`${folder}/README.md`)?.split("\n").length;
    return lines === undefined || lines - 1 > README_LINES_MAX;
  });
  expect(wrong).toEqual([]);
});

test("links between documents resolve", () => {
  const broken = documents.flatMap((file) =>
    [...textOf(file).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
      .map((match) => match[1] ?? "")
      .filter((target) => !/^[a-z]+:/.test(target) && !existsSync(join(root, dirname(file), target)))
      .map((target) => `${file}: ${target}`),
  );
  expect(broken).toEqual([]);
});

test("files that documents and comments name exist", () => {
  const named =
    /(?<![\w/.-])(?:docs\/[\w-]+\.md|(?:assembly|src|test|bench|scripts)\/[\w/.-]+\.(?:ts|mjs|md))(?![\w*])/g;
  const missing = [...code, ...documents].flatMap((file) =>
    [...textOf(file).matchAll(named)]
      .map((match) => normalize(match[0]))
      .filter((target) => !existsSync(join(root, target)))
      .map((target) => `${file}: ${target}`),
  );
  expect(missing).toEqual([]);
});

test("docs/errors.md has every error code there is, and no other", () => {
  const codesIn = (files: readonly string[]) =>
    new Set(files.flatMap((file) => [...textOf(file).matchAll(/\bERR_[A-Z][A-Z_]+\b/g)].map(([code]) => code)));
  const thrown = codesIn(code.filter((file) => file.startsWith("src/")));
  expect([...codesIn(["docs/errors.md"])].sort()).toEqual([...thrown].sort());
});

test("commands in documents exist", () => {
  const manifest = JSON.parse(textOf("package.json")) as { scripts: Record<string, string> };
  const builtIn = new Set(["ci", "install", "pack", "start", "test"]);
  const missing = documents.flatMap((file) =>
    [...textOf(file).matchAll(/(?:^|`|&& )npm (?:run )?([a-z][a-z:-]*)/gm)]
      .filter(([whole, name = ""]) => !(name in manifest.scripts) && !(builtIn.has(name) && !whole.includes("npm run")))
      .map(([whole]) => `${file}: ${whole}`),
  );
  expect(missing).toEqual([]);
});

test("the lock file is whole: it has the packages for every system, not only for the one it was written on", () => {
  type Entry = { readonly optionalDependencies?: Readonly<Record<string, string>> };
  const { packages } = JSON.parse(textOf("package-lock.json")) as { packages: Readonly<Record<string, Entry>> };
  const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter((name) => !(`node_modules/${name}` in packages) && !(`${path}/node_modules/${name}` in packages))
      .map((name) => `${path}: ${name}`),
  );
  expect(missing).toEqual([]);
});
