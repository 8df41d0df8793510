/**
 * As much of a shell as the commands in scripts need: words, quotes, `$((…))`, redirections (dropped), pipelines.
 * Nothing is executed; commands.ts knows what the commands would do.
 */

/** Words of each command of a pipeline. */
export type Pipeline = readonly (readonly string[])[];

/** @returns the pipelines in order; how they are joined (newline, `;`, `&&`, `||`) is left out. */
export function parseShell(text: string): Pipeline[] {
  const joined = text
    .replaceAll(/\\\r?\n/g, " ")
    .replaceAll(/\$\(\(((?:[^()]|\([^()]*\))*)\)\)/g, (_, sum: string) => arithmetic(sum));
  const pipelines: string[][][] = [];
  let pipeline: string[][] = [];
  let words: string[] = [];
  let isTarget = false;
  const endCommand = () => {
    if (words.length > 0) pipeline.push(words);
    words = [];
  };
  const endPipeline = () => {
    endCommand();
    if (pipeline.length > 0) pipelines.push(pipeline);
    pipeline = [];
  };
  for (const token of shellTokens(joined)) {
    if (token === "|") endCommand();
    else if (token === "\n" || token === ";" || token === "&&" || token === "||") endPipeline();
    else if (/^[0-9&]?>{1,2}&?$/.test(token)) isTarget = true;
    else if (isTarget) isTarget = false;
    else words.push(token);
  }
  endPipeline();
  return pipelines;
}

/** `3*(4+5)`: numbers, `+ - * /` and parentheses. */
function arithmetic(text: string): string {
  let at = 0;
  const skip = () => {
    while (text[at] === " ") at++;
  };
  const operand = (): number => {
    skip();
    if (text[at] === "(") {
      at++;
      const value = sum();
      skip();
      at++;
      return value;
    }
    const digits = /^\d+/.exec(text.slice(at))?.[0] ?? "0";
    at += digits.length;
    return Number(digits);
  };
  const product = (): number => {
    let value = operand();
    for (skip(); text[at] === "*" || text[at] === "/"; skip()) {
      value = text[at++] === "*" ? value * operand() : Math.trunc(value / operand());
    }
    return value;
  };
  const sum = (): number => {
    let value = product();
    for (skip(); text[at] === "+" || text[at] === "-"; skip()) {
      value = text[at++] === "+" ? value + product() : value - product();
    }
    return value;
  };
  return String(sum());
}

/** Operators and words; a comment ends at the line's end. */
function shellTokens(text: string): string[] {
  const tokens: string[] = [];
  const pattern = /\s*?(\n|#[^\n]*|[0-9&]?>{1,2}&?|&&|\|\||[|;]|(?:"[^"]*"|'[^']*'|[^\s"'|;>#]|(?<=\S)#)+)/gy;
  for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
    const token = match[1] ?? "";
    if (token.startsWith("#")) continue;
    tokens.push(/^["'\w/.${~-]/.test(token) ? token.replaceAll(/["']/g, "") : token);
  }
  return tokens;
}
