/**
 * Where commands write: results to stdout (JSON lines with --json, otherwise text), progress to stderr.
 */

export type Output = {
  /** Whether results are JSON lines. */
  readonly isJson: boolean;
  /** One result: an object per line with --json, the text otherwise. */
  result(object: Readonly<Record<string, unknown>>, text: string): void;
  /** A line that tells how far things are; never on stdout with --json. */
  progress(text: string): void;
};

export function createOutput(isJson: boolean): Output {
  return {
    isJson,
    result(object, text) {
      process.stdout.write(`${isJson ? JSON.stringify(object) : text}\n`);
    },
    progress(text) {
      (isJson ? process.stderr : process.stdout).write(`${text}\n`);
    },
  };
}

/** An error as the one line that a command ends with. */
export function errorLine(error: unknown): string {
  const code =
    error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "ERR_INTERNAL";
  const message = error instanceof Error ? error.message : String(error);
  return `netpopcorn: ${code}: ${message.replace(/\s+/g, " ").trim()}`;
}
