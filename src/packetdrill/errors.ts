/** How a script ends early. Both carry the script's line; the runner adds the file. */

/** The script is wrong, or the kernel did not do what it says. */
export class ScriptError extends Error {
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.name = "ScriptError";
    this.line = line;
  }
}

/** The script needs something that this interpreter or the kernel lacks: neither passed nor failed. */
export class Unsupported extends Error {
  readonly what: string;
  /** 0: not known here; the runner puts in the present event's. */
  readonly line: number;

  constructor(what: string, line = 0) {
    super(`unsupported: ${what}`);
    this.name = "Unsupported";
    this.what = what;
    this.line = line;
  }
}
