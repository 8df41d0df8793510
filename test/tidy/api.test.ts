/** The public API: what the package exports, against its docstrings and docs/api.md. */

import dgram from "node:dgram";
import { readFileSync } from "node:fs";
import net from "node:net";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";

const root = new URL("../../", import.meta.url);
const textOf = (file: string) => readFileSync(new URL(file, root), "utf8");

type Exported = { readonly file: string; readonly name: string };

/** What an index file exports by name, and where it is declared, as far as that is told in one step. */
function exportsOf(index: string): Exported[] {
  const text = textOf(index);
  const named = [...text.matchAll(/^export (?:type )?\{([^}]*)\} from "([^"]+)";/gm)].flatMap(([, list, from]) =>
    (list as string)
      .split(",")
      .map((item) => item.replace(/\btype\b/, "").trim())
      .filter((item) => item !== "")
      .map((item) => ({
        file: normalize(join(dirname(index), from as string)),
        name: item.split(" as ").at(-1) as string,
      })),
  );
  const declared = [...text.matchAll(/^export (?:async )?(?:function|class|type) (\w+)/gm)];
  const taken = [...text.matchAll(/^export const \{([^}]*)\}/gm)].flatMap(([, list]) => (list as string).split(","));
  const own = [...declared.map(([, name]) => name as string), ...taken.map((name) => name.trim())];
  return [...named, ...own.filter((name) => name !== "").map((name) => ({ file: index, name }))];
}

const INDEXES = ["src/index.ts", "src/net/index.ts", "src/dgram/index.ts", "src/redirect/index.ts"];

/** The declaration of a name in its file or in the one that this exports it from; undefined: none has its name. */
function declarationOf({ file, name }: Exported): { text: string; at: number } | undefined {
  const text = textOf(file);
  const found = new RegExp(`^export (?:async |abstract )?(?:function|class|type|interface|const) ${name}\\b`, "m");
  const at = text.search(found);
  if (at >= 0) return { text, at };
  const from = exportsOf(file).find((other) => other.name === name && other.file !== file);
  return from && declarationOf(from);
}

test("everything exported has a docstring", () => {
  // Names that are taken out of an object, or exported under another, are declared nowhere.
  const bare = INDEXES.flatMap(exportsOf).filter((exported) => {
    const declaration = declarationOf(exported);
    return declaration && !declaration.text.slice(0, declaration.at).trimEnd().endsWith("*/");
  });
  expect(bare).toEqual([]);
});

test("docs/api.md names everything exported, but what is node:net's and node:dgram's", () => {
  const guide = textOf("docs/api.md");
  const node = new Set([...Object.keys(net), ...Object.keys(dgram)]);
  const missing = INDEXES.flatMap(exportsOf).filter(
    ({ name }) => !node.has(name) && !new RegExp(`\\b${name}\\b`).test(guide),
  );
  expect(missing).toEqual([]);
  // The files are read at all.
  expect(INDEXES.map((index) => exportsOf(index).length > 1)).toEqual([true, true, true, true]);
});
