/** A position in a list of tokens, and the few questions that the parsers ask. */
import { ScriptError } from "./errors.ts";
import type { Token, TokenKind } from "./lexer.ts";

export class Cursor {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  /** The token `ahead` places further; past the end always the last one. */
  peek(ahead = 0): Token {
    return this.#tokens[Math.min(this.#at + ahead, this.#tokens.length - 1)] as Token;
  }

  next(): Token {
    const token = this.peek();
    this.#at++;
    return token;
  }

  get line(): number {
    return this.peek().line;
  }

  /** True when the present token is this symbol or word. */
  is(text: string): boolean {
    const token = this.peek();
    return token.text === text && (token.kind === "symbol" || token.kind === "word" || token.kind === "...");
  }

  isKind(kind: TokenKind): boolean {
    return this.peek().kind === kind;
  }

  /** Takes the token when it is this symbol or word. */
  take(text: string): boolean {
    if (!this.is(text)) return false;
    this.#at++;
    return true;
  }

  expect(text: string): Token {
    if (!this.is(text)) this.fail(`"${text}"`);
    return this.next();
  }

  expectKind(kind: TokenKind, what: string = kind): Token {
    if (!this.isKind(kind)) this.fail(what);
    return this.next();
  }

  /** @returns an integer from `min` to `max`; `what` names it in the error. */
  integer(what: string, min = 0, max = 0xffffffff): number {
    const token = this.peek();
    if (token.kind !== "integer" && token.kind !== "hex") this.fail(what);
    const value = Number(token.text);
    if (value < min || value > max) {
      throw new ScriptError(token.line, `${what} is ${token.text}; it must be ${min}..${max}`);
    }
    this.#at++;
    return value;
  }

  fail(expected: string): never {
    const token = this.peek();
    throw new ScriptError(token.line, `syntax error: expected ${expected}, found ${JSON.stringify(token.text)}`);
  }
}
