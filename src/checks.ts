/**
 * What users give, looked at where it comes in: options by name and kind, so that a slip of the pen is told with a
 * code, and not as a TypeError from somewhere within. Ranges are the business of whoever knows them.
 */
import { NetPopcornError } from "./errors.ts";

type Rule = { readonly is: (value: unknown) => boolean; readonly expected: string };

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
const has = (value: unknown, ...methods: readonly string[]) =>
  isObject(value) && methods.every((name) => typeof value[name] === "function");
const isText = (value: unknown) => typeof value === "string";
const isTexts = (value: unknown) => isText(value) || (Array.isArray(value) && value.every(isText));

const KINDS = {
  /** Looked at by its own reader. */
  any: { is: () => true, expected: "" },
  boolean: { is: (value) => typeof value === "boolean", expected: "true or false" },
  text: { is: isText, expected: "text" },
  texts: { is: isTexts, expected: "text, or an array of texts" },
  place: { is: (value) => isText(value) || value instanceof URL, expected: "a path or a URL" },
  bytes: { is: (value) => value instanceof Uint8Array, expected: "a Uint8Array" },
  octets: {
    is: (value) => value instanceof Uint8Array || Array.isArray(value),
    expected: "a Uint8Array, or an array of bytes",
  },
  mac: { is: (value) => value instanceof Uint8Array || isText(value), expected: "text, or a Uint8Array of 6 bytes" },
  seed: {
    is: (value) => isText(value) || typeof value === "number" || value instanceof Uint8Array,
    expected: "an integer, text, or a Uint8Array",
  },
  object: { is: (value) => isObject(value) && !Array.isArray(value), expected: "an object" },
  objects: { is: (value) => Array.isArray(value) && value.every(isObject), expected: "an array of objects" },
  call: { is: (value) => typeof value === "function", expected: "a function" },
  clock: { is: (value) => has(value, "nowNs"), expected: "an object with a function nowNs()" },
  signal: { is: (value) => has(value, "addEventListener", "throwIfAborted"), expected: "an AbortSignal" },
  device: {
    is: (value) =>
      has(value, "openPort", "describePort") && isObject((value as { capabilities?: unknown }).capabilities),
    expected: "a device: what segment.createCard(), openTap(), createFrameDevice() or steerInSoftware() has returned",
  },
} satisfies Readonly<Record<string, Rule>>;

export type Kind = keyof typeof KINDS;

/** Every option of a type, with its kind. */
export type Shape<Options> = { readonly [Name in keyof Required<Options>]: Kind };

function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === "function") return "a function";
  if (!isObject(value)) return String(value);
  return Array.isArray(value) ? "an array" : `an object (${value.constructor?.name ?? "without a class"})`;
}

function typeError(what: string, expected: string, value: unknown): NetPopcornError {
  return new NetPopcornError("ERR_INVALID_ARG_TYPE", `${what} must be ${expected}, not ${shown(value)}`);
}

/** @param what names the argument. @throws NetPopcornError ERR_INVALID_ARG_TYPE. */
export function checkKind(what: string, kind: Kind, value: unknown): void {
  const { is, expected } = KINDS[kind];
  if (!is(value)) throw typeError(what, expected, value);
}

/**
 * @param call whose options they are. Options that are undefined count as left out.
 * @throws NetPopcornError ERR_INVALID_ARG_TYPE, ERR_OPTION_UNKNOWN.
 */
export function checkOptions<Options>(call: string, given: Options, shape: Shape<Options>): Options {
  if (!isObject(given) || Array.isArray(given)) throw typeError(`the options of ${call}`, "an object", given);
  for (const name in given) {
    const value = given[name];
    if (value === undefined) continue;
    const kind = Object.hasOwn(shape, name) ? shape[name as keyof Options] : undefined;
    if (kind === undefined) {
      const names = Object.keys(shape).join(", ");
      throw new NetPopcornError("ERR_OPTION_UNKNOWN", `${call} has no option ${name}; it has ${names}`);
    }
    if (kind !== "any") checkKind(`option ${name} of ${call}`, kind, value);
  }
  return given;
}
