/** What a packetdrill script says, as a tree. Times are microseconds from the script's start unless said otherwise. */
import type { Packet } from "./packet.ts";

/** `--name=value` before the first event. */
export type ScriptOption = { readonly name: string; readonly value: string | undefined; readonly line: number };

export type EventTime =
  | { readonly kind: "absolute" | "relative"; readonly us: number; readonly endUs: number | undefined }
  /** `*`: whenever it comes. */
  | { readonly kind: "any" };

export type ScriptEvent = { readonly line: number; readonly time: EventTime; readonly action: Action };

export type Action =
  | { readonly kind: "packet"; readonly direction: Direction; readonly packet: Packet }
  | { readonly kind: "call"; readonly call: Call }
  | { readonly kind: "command"; readonly text: string }
  | { readonly kind: "code"; readonly text: string };

/** "in": the script sends it to the kernel. "out": the kernel is expected to send it. */
export type Direction = "in" | "out";

/** A system call with the result that it is expected to have. */
export type Call = {
  readonly name: string;
  readonly args: readonly Expression[];
  readonly result: Expression;
  /** Expected errno name; the text in parentheses behind it is a comment. */
  readonly errno: string | undefined;
  /** When a call that blocks returns; same origin as the event's time. Undefined: at once. */
  readonly endUs: number | undefined;
};

export type Expression =
  | { readonly kind: "ellipsis" }
  | { readonly kind: "number"; readonly value: number; readonly text: string }
  | { readonly kind: "word"; readonly name: string }
  | { readonly kind: "string"; readonly text: string }
  | { readonly kind: "or"; readonly left: Expression; readonly right: Expression }
  | { readonly kind: "assign"; readonly name: string; readonly value: Expression }
  /** `[a, b]` */
  | { readonly kind: "list"; readonly items: readonly Expression[] }
  /** `{a, b}`, `{name=a, name=b}` */
  | { readonly kind: "struct"; readonly items: readonly Expression[] }
  /** `htons(80)`, `inet_addr("10.0.0.1")` */
  | { readonly kind: "apply"; readonly name: string; readonly args: readonly Expression[] };

export type Script = {
  readonly options: readonly ScriptOption[];
  /** In order: the initial command, the events, the cleanup command. */
  readonly initCommand: { readonly text: string; readonly line: number } | undefined;
  readonly events: readonly ScriptEvent[];
  readonly cleanupCommand: { readonly text: string; readonly line: number } | undefined;
};

/** An expression as it is written. */
export function expressionText(expression: Expression): string {
  switch (expression.kind) {
    case "ellipsis":
      return "...";
    case "number":
      return expression.text;
    case "word":
      return expression.name;
    case "string":
      return JSON.stringify(expression.text);
    case "or":
      return `${expressionText(expression.left)}|${expressionText(expression.right)}`;
    case "assign":
      return `${expression.name}=${expressionText(expression.value)}`;
    case "list":
      return `[${expression.items.map(expressionText).join(", ")}]`;
    case "struct":
      return `{${expression.items.map(expressionText).join(", ")}}`;
    case "apply":
      return `${expression.name}(${expression.args.map(expressionText).join(", ")})`;
  }
}
