/** Script: options, an initial command, events, a cleanup command (the grammar is in docs/packetdrill.md). */
import type { Action, Call, EventTime, Expression, Script, ScriptEvent, ScriptOption } from "./ast.ts";
import { Cursor } from "./cursor.ts";
import { ScriptError, Unsupported } from "./errors.ts";
import { tokenize } from "./lexer.ts";
import { parsePacket } from "./parsePacket.ts";

/**
 * @param definitions from the command line; those in the script win.
 * @throws ScriptError with the line; Unsupported for what the language has and this interpreter does not.
 */
export function parseScript(text: string, definitions?: ReadonlyMap<string, string>): Script {
  const cursor = new Cursor(tokenize(text, definitions));
  const options: ScriptOption[] = [];
  while (cursor.isKind("option")) {
    const { text: name, value, line } = cursor.next();
    options.push({ name, value, line });
  }
  const initCommand = parseBareCommand(cursor);
  const events: ScriptEvent[] = [];
  let cleanupCommand: Script["cleanupCommand"];
  while (!cursor.isKind("end")) {
    cleanupCommand = parseBareCommand(cursor);
    if (cleanupCommand) break;
    events.push(parseEvent(cursor));
  }
  if (!cursor.isKind("end")) cursor.fail("the end of the script");
  return { options, initCommand, events, cleanupCommand };
}

/** A command without a time. */
function parseBareCommand(cursor: Cursor): Script["initCommand"] {
  if (!cursor.isKind("command")) return undefined;
  const { text, line } = cursor.next();
  return { text, line };
}

function parseEvent(cursor: Cursor): ScriptEvent {
  const { line } = cursor.peek();
  const time = parseTime(cursor);
  const action = parseAction(cursor, time);
  if (action.kind !== "packet" || action.direction === "in") {
    if (time.kind === "any") throw new ScriptError(line, "* is a time for expected packets only");
    if (time.endUs !== undefined) throw new ScriptError(line, "a range of times is for expected packets only");
  }
  return { line, time, action };
}

/** `0.1`, `+0.1`, `0.1~0.2`, `+0.1~+0.2`, `*` */
function parseTime(cursor: Cursor): EventTime {
  if (cursor.take("*")) return { kind: "any" };
  const kind = cursor.take("+") ? "relative" : "absolute";
  const { line } = cursor.peek();
  const us = parseUs(cursor);
  let endUs: number | undefined;
  if (cursor.take("~")) {
    if (kind === "relative") cursor.expect("+");
    endUs = parseUs(cursor);
    if (endUs < us) throw new ScriptError(line, "the range of times is backwards");
  }
  return { kind, us, endUs };
}

/** Seconds with up to six decimals. @returns microseconds. */
function parseUs(cursor: Cursor): number {
  const { kind, text, line } = cursor.next();
  if (kind !== "float" && kind !== "integer") {
    throw new ScriptError(line, `syntax error: expected a time, found ${JSON.stringify(text)}`);
  }
  const us = Math.round(Number(text) * 1e6);
  if (us < 0) throw new ScriptError(line, `the time ${text} is negative`);
  return us;
}

function parseAction(cursor: Cursor, time: EventTime): Action {
  if (cursor.isKind("command")) return { kind: "command", text: cursor.next().text };
  if (cursor.isKind("code")) return { kind: "code", text: cursor.next().text };
  if (cursor.take("<")) return { kind: "packet", direction: "in", packet: parsePacket(cursor, true) };
  if (cursor.take(">")) return { kind: "packet", direction: "out", packet: parsePacket(cursor, false) };
  return { kind: "call", call: parseCall(cursor, time) };
}

/** `...0.2 accept(3, ..., ...) = -1 EAGAIN (Resource temporarily unavailable)` */
function parseCall(cursor: Cursor, time: EventTime): Call {
  const { line } = cursor.peek();
  const endUs = cursor.take("...") ? parseUs(cursor) : undefined;
  if (endUs !== undefined && time.kind !== "any" && endUs < time.us) {
    throw new ScriptError(line, "the call ends before it begins");
  }
  const name = cursor.expectKind("word", "a packet, a command, code, or the name of a system call").text;
  cursor.expect("(");
  const args = cursor.is(")") ? [] : parseExpressions(cursor);
  cursor.expect(")");
  cursor.expect("=");
  const result = parseExpression(cursor);
  const errno = cursor.isKind("word") ? cursor.next().text : undefined;
  skipNote(cursor);
  return { name, args, result, errno, endUs };
}

/** Text in parentheses behind a result is for people. */
function skipNote(cursor: Cursor): void {
  if (!cursor.take("(")) return;
  while (!cursor.is(")")) {
    if (cursor.isKind("end")) cursor.fail('")"');
    cursor.next();
  }
  cursor.next();
}

function parseExpressions(cursor: Cursor): Expression[] {
  const list = [parseExpression(cursor)];
  while (cursor.take(",")) list.push(parseExpression(cursor));
  return list;
}

function parseExpression(cursor: Cursor): Expression {
  let left = parseOperand(cursor);
  while (cursor.take("|")) left = { kind: "or", left, right: parseOperand(cursor) };
  return left;
}

function parseOperand(cursor: Cursor): Expression {
  const token = cursor.peek();
  switch (token.kind) {
    case "...":
      cursor.next();
      return { kind: "ellipsis" };
    case "integer":
    case "hex":
    case "float":
      cursor.next();
      return { kind: "number", value: Number(token.text), text: token.text };
    case "string":
      return parseString(cursor);
    case "word":
      return parseWord(cursor);
    default:
  }
  if (cursor.take("[")) return { kind: "list", items: parseItems(cursor, "]") };
  if (cursor.take("{")) {
    if (cursor.is("(")) throw new Unsupported("MPLS label stacks", token.line);
    return { kind: "struct", items: parseItems(cursor, "}") };
  }
  return cursor.fail("an expression");
}

function parseItems(cursor: Cursor, close: string): Expression[] {
  const items = cursor.is(close) ? [] : parseExpressions(cursor);
  cursor.expect(close);
  return items;
}

/** Neighbouring strings are one; `"abc"...` only begins like that. */
function parseString(cursor: Cursor): Expression {
  let text = "";
  while (cursor.isKind("string")) text += cursor.next().text;
  cursor.take("...");
  return { kind: "string", text };
}

function parseWord(cursor: Cursor): Expression {
  const { text: name } = cursor.next();
  let args: Expression[] | undefined;
  if (cursor.take("(")) args = parseItems(cursor, ")");
  // `msg_iov(1)=[…]`: the number says nothing that the list does not.
  if (cursor.take("=")) return { kind: "assign", name, value: parseExpression(cursor) };
  return args ? { kind: "apply", name, args } : { kind: "word", name };
}
