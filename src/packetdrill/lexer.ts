/**
 * Tokens of the packetdrill language: as its documentation has them, longest match first.
 * `--define=NAME=value` replaces the word NAME wherever it stands.
 */
import { ScriptError } from "./errors.ts";

export type TokenKind =
  | "option"
  | "integer"
  | "float"
  | "hex"
  | "word"
  | "string"
  | "command"
  | "code"
  | "ipv4"
  | "ipv6"
  | "..."
  | "symbol"
  | "end";

export type Token = {
  readonly kind: TokenKind;
  /** As written; of strings, commands and code without their delimiters; of options the name. */
  readonly text: string;
  /** Of options. */
  readonly value?: string | undefined;
  readonly line: number;
};

const IPV6_GROUP = "[0-9a-fA-F]{1,4}";
/**
 * Only forms that no range of sequence numbers can have: with "::", or with eight groups.
 */
const IPV6 = new RegExp(
  `(?:(?:${IPV6_GROUP}:){7}${IPV6_GROUP}|(?:${IPV6_GROUP}(?::${IPV6_GROUP})*)?::` +
    `(?:${IPV6_GROUP}(?::${IPV6_GROUP})*)?(?:(?<=:|::)\\d+\\.\\d+\\.\\d+\\.\\d+)?)`,
  "y",
);

/** In order of precedence among matches of equal length. */
const PATTERNS: readonly { readonly kind: TokenKind | "space"; readonly pattern: RegExp }[] = [
  { kind: "space", pattern: /\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\//y },
  { kind: "code", pattern: /%\{([\s\S]*?)\}%/y },
  { kind: "string", pattern: /"((?:\\[\s\S]|[^"\\])*)"/y },
  { kind: "command", pattern: /`((?:\\[\s\S]|[^`\\])*)`/y },
  { kind: "ipv6", pattern: IPV6 },
  { kind: "ipv4", pattern: /\d+\.\d+\.\d+\.\d+/y },
  { kind: "...", pattern: /\.\.\./y },
  { kind: "hex", pattern: /0x[0-9a-fA-F]+/y },
  { kind: "float", pattern: /-?\d*\.\d+/y },
  { kind: "integer", pattern: /-?\d+/y },
  { kind: "word", pattern: /\w+/y },
  { kind: "symbol", pattern: /[^\s]/y },
];

const OPTION = /--([a-zA-Z0-9_]+)(?:=((?:"[^"]*"|`[^`]*`|[^\s"`])+))?/y;

/**
 * @param definitions names that stand for other tokens; they also decide `#ifdef`.
 * @throws ScriptError for an unfinished string, command, comment or code, and for an unbalanced `#ifdef`.
 */
export function tokenize(source: string, definitions: ReadonlyMap<string, string> = new Map()): Token[] {
  const defined = new Map(definitions);
  const text = selectBranches(source, defined);
  const tokens: Token[] = [];
  let line = 1;
  let at = 0;
  while (at < text.length) {
    OPTION.lastIndex = at;
    const option = OPTION.exec(text);
    if (option) {
      const [whole, name = "", value] = option;
      if (name === "define" && value !== undefined) addDefinition(defined, value);
      else tokens.push({ kind: "option", text: name, value: value === undefined ? undefined : unquoted(value), line });
      at += whole.length;
      continue;
    }
    const { kind, whole, inner } = longestMatch(text, at, line);
    if (kind !== "space") tokens.push(...substituted({ kind, text: inner, line }, defined));
    for (const character of whole) if (character === "\n") line++;
    at += whole.length;
  }
  tokens.push({ kind: "end", text: "end of script", line });
  return tokens;
}

function longestMatch(text: string, at: number, line: number) {
  let best: { kind: TokenKind | "space"; whole: string; inner: string } | undefined;
  for (const { kind, pattern } of PATTERNS) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    const whole = match?.[0] ?? "";
    if (match && whole.length > (best?.whole.length ?? 0)) best = { kind, whole, inner: match[1] ?? whole };
  }
  const opener = text[at] ?? "";
  const opens = best?.kind === "symbol" && (opener === '"' || opener === "`" || text.startsWith("%{", at));
  if (best === undefined || opens || (best.kind === "symbol" && text.startsWith("/*", at))) {
    throw new ScriptError(line, `${JSON.stringify(text.slice(at, at + 20))} is not finished`);
  }
  if (best.kind === "string" || best.kind === "command") best.inner = unescaped(best.inner, best.kind);
  return best;
}

/** A backslash before a line's end stays in a command: there it continues the line. */
function unescaped(text: string, kind: "string" | "command"): string {
  if (kind === "command") return text.replaceAll("\\`", "`");
  return text.replace(/\\([\s\S])/g, (_, letter: string) => (letter === "n" ? "\n" : letter === "t" ? "\t" : letter));
}

function unquoted(value: string): string {
  return /^".*"$/s.test(value) ? value.slice(1, -1) : value;
}

function addDefinition(defined: Map<string, string>, value: string): void {
  const equals = value.indexOf("=");
  if (equals > 0) defined.set(value.slice(0, equals), value.slice(equals + 1));
}

/** Definitions are not substituted again: they cannot loop. */
function substituted(token: Token, defined: ReadonlyMap<string, string>): Token[] {
  const value = token.kind === "word" ? defined.get(token.text) : undefined;
  if (value === undefined) return [token];
  return tokenize(value)
    .slice(0, -1)
    .map((part) => ({ ...part, line: token.line }));
}

/**
 * FreeBSD's scripts are written for the C preprocessor: `#ifdef NAME`, `#ifndef NAME`, `#else`, `#endif`. STANDARD,
 * what the RFC says, is always defined. Lines that are left out stay as empty ones: line numbers are the file's.
 */
function selectBranches(source: string, defined: ReadonlyMap<string, string>): string {
  if (!/^#(if|endif)/m.test(source)) return source;
  const taken: boolean[] = [];
  const lines = source.split("\n").map((text, index) => {
    const [, directive, name = ""] = /^#(ifdef|ifndef|else|endif)\b\s*(\w*)/.exec(text) ?? [];
    if (directive === undefined) return taken.every(Boolean) ? text : "";
    if (directive === "ifdef" || directive === "ifndef") {
      taken.push((name === "STANDARD" || defined.has(name)) === (directive === "ifdef"));
    } else if (taken.length === 0) {
      throw new ScriptError(index + 1, `#${directive} without #ifdef`);
    } else {
      const branch = taken.pop();
      if (directive === "else") taken.push(!branch);
    }
    return "";
  });
  if (taken.length > 0) throw new ScriptError(lines.length, "#ifdef without #endif");
  return lines.join("\n");
}
