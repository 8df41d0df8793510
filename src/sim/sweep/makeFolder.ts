/** Folders made one by one: Node's mkdir with `recursive` never returns where a parent takes no folder, as in /proc. */
import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";

/** Makes the folder and those above it, as far as there are none. @throws the errno's error of the first that fails. */
export function makeFolder(folder: string): void {
  try {
    mkdirSync(folder);
  } catch (error) {
    if (isFolder(folder)) return;
    const parent = dirname(folder);
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || parent === folder || isFolder(parent)) throw error;
    makeFolder(parent);
    makeFolder(folder);
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
