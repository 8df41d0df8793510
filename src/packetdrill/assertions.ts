/**
 * The code between `%{` and `}%`: the part of Python that scripts use. Statements: assert, print, assignment (also `+=`
 * and its like), pass. Expressions: numbers, strings, names, tuples, arithmetic, bits, comparisons (chained), and, or,
 * not, `x if c else y`, `%` formatting, abs, min, max, int, round, len. Anything else is unsupported, never skipped.
 */
import { ScriptError, Unsupported } from "./errors.ts";

export type Value = number | string | boolean | readonly Value[];

export type CodeContext = {
  /** What the kernel says now; cannot be assigned. */
  readonly constants: ReadonlyMap<string, Value>;
  /** Of the script, from one piece of code to the next. */
  readonly variables: Map<string, Value>;
  /** Where `print` writes. */
  readonly print: (text: string) => void;
  /** Of the code's beginning in the script. */
  readonly line: number;
};

/** @throws ScriptError when an assertion does not hold or the code is wrong; Unsupported. */
export function runCode(text: string, context: CodeContext): void {
  const joined = text.replaceAll(/\\\r?\n/g, " \u0000");
  let line = context.line;
  for (const row of joined.split("\n")) {
    for (const statement of splitStatements(row)) new Statement(statement, context, line).run();
    line += 1 + row.split("\u0000").length - 1;
  }
}

/** Cuts at semicolons and drops comments, both outside strings. */
function splitStatements(row: string): string[] {
  const statements: string[] = [];
  let statement = "";
  let quote = "";
  for (const character of row.replaceAll("\u0000", " ")) {
    if (quote === "" && character === "#") break;
    if (quote === "" && character === ";") {
      statements.push(statement);
      statement = "";
      continue;
    }
    if (character === quote) quote = "";
    else if (quote === "" && (character === '"' || character === "'")) quote = character;
    statement += character;
  }
  statements.push(statement);
  return statements.map((part) => part.trim()).filter((part) => part !== "");
}

const TOKEN_FORMS = [
  String.raw`0[xX][0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+`,
  String.raw`[A-Za-z_]\w*|"[^"]*"|'[^']*'`,
  String.raw`\/\/=?|<<=?|>>=?|\*\*|[<>=!]=|[-+*/%&|^]=?|[<>=(),~[\]]`,
];
const TOKEN = new RegExp(`\\s*(${TOKEN_FORMS.join("|")})`, "y");

function tokensOf(text: string, line: number): string[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (!match) {
      if (text.slice(at).trim() === "") break;
      throw new Unsupported(`the Python code ${JSON.stringify(text)}`, line);
    }
    tokens.push(match[1] as string);
  }
  return tokens;
}

/** Binary operators by precedence, weakest first; `not` and comparisons stand between `and` and `|`. */
const BINARY: readonly (readonly string[])[] = [["|"], ["^"], ["&"], ["<<", ">>"], ["+", "-"], ["*", "/", "//", "%"]];
const COMPARISONS = ["==", "!=", "<", "<=", ">", ">="];
const ASSIGNMENT = /^(?:[-+*/%&|^]|\/\/|<<|>>)?=$/;

/** Of Python; none of them is a variable. */
const KEYWORDS = /^(import|from|for|while|def|class|return|lambda|in|is|None|with|try|raise|del|global|yield)$/;

class Statement {
  readonly #text: string;
  readonly #tokens: string[];
  readonly #context: CodeContext;
  readonly #line: number;
  #at = 0;

  constructor(text: string, context: CodeContext, line: number) {
    this.#text = text;
    this.#tokens = tokensOf(text, line);
    this.#context = context;
    this.#line = line;
  }

  run(): void {
    const [first = "", second = ""] = this.#tokens;
    if (first === "assert") this.#assert();
    else if (first === "pass") this.#at++;
    else if (ASSIGNMENT.test(second)) this.#assign(first, second);
    else if (first === "print") this.#print();
    else this.#expression();
    if (this.#at < this.#tokens.length) this.#refuse();
  }

  #refuse(): never {
    throw new Unsupported(`the Python code ${JSON.stringify(this.#text)}`, this.#line);
  }

  #fail(message: string): never {
    throw new ScriptError(this.#line, message);
  }

  #take(token: string): boolean {
    if (this.#tokens[this.#at] !== token) return false;
    this.#at++;
    return true;
  }

  #assert(): void {
    this.#at++;
    const start = this.#at;
    const holds = this.#truth(this.#expression());
    const asserted = this.#tokens.slice(start, this.#at);
    const message = this.#take(",") ? ` (${format(this.#expression())})` : "";
    if (!holds) this.#fail(`assertion failed: ${asserted.join(" ")}${this.#values(asserted)}${message}`);
  }

  /** What the names in a failed assertion stand for. */
  #values(tokens: readonly string[]): string {
    const names = [...new Set(tokens)].filter((token) => /^tcpi_/.test(token));
    const shown = names.map((name) => `${name} is ${format(this.#lookUp(name))}`);
    return shown.length > 0 ? `; ${shown.join(", ")}` : "";
  }

  #print(): void {
    this.#at++;
    const values: Value[] = [];
    if (!this.#take("(")) this.#refuse();
    while (!this.#take(")")) {
      values.push(this.#expression());
      if (!this.#take(",") && this.#tokens[this.#at] !== ")") this.#refuse();
    }
    this.#context.print(values.map(format).join(" "));
  }

  #assign(name: string, operator: string): void {
    if (!/^[A-Za-z_]\w*$/.test(name) || this.#context.constants.has(name)) this.#refuse();
    this.#at = 2;
    const value = this.#expression();
    const binary = operator.slice(0, -1);
    this.#context.variables.set(name, binary === "" ? value : this.#apply(binary, this.#lookUp(name), value));
  }

  #expression(): Value {
    const value = this.#or();
    if (!this.#take("if")) return value;
    const holds = this.#truth(this.#or());
    if (!this.#take("else")) this.#refuse();
    const other = this.#expression();
    return holds ? value : other;
  }

  #or(): Value {
    let value = this.#and();
    while (this.#take("or")) {
      const right = this.#and();
      value = this.#truth(value) ? value : right;
    }
    return value;
  }

  #and(): Value {
    let value = this.#not();
    while (this.#take("and")) {
      const right = this.#not();
      value = this.#truth(value) ? right : value;
    }
    return value;
  }

  #not(): Value {
    return this.#take("not") ? !this.#truth(this.#not()) : this.#comparison();
  }

  /** `a < b <= c` holds when both do. */
  #comparison(): Value {
    let left = this.#binary(0);
    let result: Value | undefined;
    for (;;) {
      const operator = this.#tokens[this.#at] ?? "";
      if (!COMPARISONS.includes(operator)) return result ?? left;
      this.#at++;
      const right = this.#binary(0);
      result = (result ?? true) && this.#compare(operator, left, right);
      left = right;
    }
  }

  #compare(operator: string, left: Value, right: Value): boolean {
    if (operator === "==" || operator === "!=") {
      const isEqual =
        typeof left === "string" || typeof right === "string" ? left === right : numeric(left) === numeric(right);
      return isEqual === (operator === "==");
    }
    const difference = this.#number(left) - this.#number(right);
    if (operator === "<") return difference < 0;
    if (operator === "<=") return difference <= 0;
    return operator === ">" ? difference > 0 : difference >= 0;
  }

  #binary(level: number): Value {
    const operators = BINARY[level];
    if (!operators) return this.#unary();
    let value = this.#binary(level + 1);
    for (;;) {
      const operator = this.#tokens[this.#at] ?? "";
      if (!operators.includes(operator)) return value;
      this.#at++;
      value = this.#apply(operator, value, this.#binary(level + 1));
    }
  }

  #apply(operator: string, left: Value, right: Value): Value {
    if (operator === "%" && typeof left === "string") return this.#formatted(left, right);
    if (operator === "+" && typeof left === "string" && typeof right === "string") return left + right;
    const [a, b] = [this.#number(left), this.#number(right)];
    if ((operator === "/" || operator === "//" || operator === "%") && b === 0) this.#fail("division by zero");
    switch (operator) {
      case "+":
        return a + b;
      case "-":
        return a - b;
      case "*":
        return a * b;
      case "/":
        return a / b;
      case "//":
        return Math.floor(a / b);
      case "%":
        return a - b * Math.floor(a / b);
      default:
        return Number(bitOperation(operator, BigInt(Math.trunc(a)), BigInt(Math.trunc(b))));
    }
  }

  #unary(): Value {
    if (this.#take("-")) return -this.#number(this.#unary());
    if (this.#take("+")) return this.#number(this.#unary());
    if (this.#take("~")) return Number(~BigInt(this.#number(this.#unary())));
    return this.#operand();
  }

  #operand(): Value {
    const token = this.#tokens[this.#at++] ?? "";
    if (/^[\d.]/.test(token)) return Number(token);
    if (/^["']/.test(token)) return token.slice(1, -1);
    if (token === "(") return this.#tuple();
    if (token === "True" || token === "False") return token === "True";
    if (!/^[A-Za-z_]/.test(token)) this.#refuse();
    return this.#take("(") ? this.#call(token, this.#tuple(true)) : this.#lookUp(token);
  }

  /** What follows an opening parenthesis: one value is itself, several are a tuple. */
  #tuple(isArguments = false): Value {
    const values: Value[] = [];
    let hasComma = isArguments;
    while (!this.#take(")")) {
      values.push(this.#expression());
      if (this.#take(",")) hasComma = true;
      else if (this.#tokens[this.#at] !== ")") this.#refuse();
    }
    return hasComma ? values : (values[0] ?? values);
  }

  #call(name: string, given: Value): Value {
    const values = given as readonly Value[];
    const numbers = () => values.map((value) => this.#number(value));
    const [first = 0] = values;
    switch (name) {
      case "abs":
        return Math.abs(this.#number(first));
      case "min":
        return Math.min(...numbers());
      case "max":
        return Math.max(...numbers());
      case "int":
        return Math.trunc(this.#number(first));
      case "float":
        return this.#number(first);
      case "round":
        return Math.round(this.#number(first));
      case "len":
        return typeof first === "string" || Array.isArray(first) ? first.length : this.#refuse();
      case "str":
        return format(first);
      default:
        return this.#refuse();
    }
  }

  #lookUp(name: string): Value {
    const value = this.#context.constants.get(name) ?? this.#context.variables.get(name);
    if (value !== undefined) return value;
    if (KEYWORDS.test(name)) this.#refuse();
    if (/^(tcpi?_|TCPI?_|bbr_|dctcp_|SK_|tcpv_)/.test(name)) throw new Unsupported(`the variable ${name}`, this.#line);
    return this.#fail(`the code knows no ${name}`);
  }

  #number(value: Value): number {
    const number = numeric(value);
    if (number === undefined) return this.#fail(`${format(value)} is no number`);
    return number;
  }

  #truth(value: Value): boolean {
    return typeof value === "object" ? value.length > 0 : Boolean(value);
  }

  /** `'cwnd=%d' % x` */
  #formatted(pattern: string, given: Value): string {
    const values = typeof given === "object" ? [...given] : [given];
    return pattern.replace(/%(?:\.(\d+))?([dsfux%])/g, (_match, digits: string | undefined, kind: string) => {
      if (kind === "%") return "%";
      const value = values.shift();
      if (value === undefined) return this.#fail("not enough values for the format");
      if (kind === "s") return format(value);
      const number = this.#number(value);
      if (kind === "x") return Math.trunc(number).toString(16);
      return kind === "f" ? number.toFixed(Number(digits ?? 6)) : String(Math.trunc(number));
    });
  }
}

function numeric(value: Value): number | undefined {
  if (typeof value === "boolean") return value ? 1 : 0;
  return typeof value === "number" ? value : undefined;
}

function bitOperation(operator: string, a: bigint, b: bigint): bigint {
  if (operator === "|") return a | b;
  if (operator === "&") return a & b;
  if (operator === "^") return a ^ b;
  return operator === "<<" ? a << b : a >> b;
}

function format(value: Value): string {
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "object" ? `(${value.map(format).join(", ")})` : String(value);
}
