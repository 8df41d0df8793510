/** The forms in which connect() and createConnection() take their arguments. */
import type { LookupAddress, LookupOptions } from "node:dns";

type LookupResult = (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void;

export type ConnectArguments = {
  readonly port?: number | string;
  readonly host?: string;
  readonly localAddress?: string;
  readonly localPort?: number;
  readonly family?: number | string;
  readonly hints?: number;
  readonly lookup?: (host: string, options: LookupOptions, done: LookupResult) => void;
  readonly path?: string;
  readonly timeout?: number;
  readonly autoSelectFamily?: boolean;
  /** Milliseconds. */
  readonly autoSelectFamilyAttemptTimeout?: number;
};

export type NormalizedConnect = {
  readonly options: ConnectArguments;
  readonly listener: (() => void) | undefined;
};

/** Node marks arrays of arguments that it has read once with a symbol of its own; any other array is no argument. */
function isReadBefore(value: unknown): value is readonly unknown[] {
  return Array.isArray(value) && Object.getOwnPropertySymbols(value).length > 0;
}

/** (options), (port), (port, host), (path), (those as one array of Node's), each with a listener at the end or not. */
export function normalizeConnect(given: readonly unknown[]): NormalizedConnect {
  const args: readonly unknown[] = isReadBefore(given[0]) ? given[0] : given;
  const last = args.at(-1);
  const listener = typeof last === "function" ? (last as () => void) : undefined;
  const [first, second] = args;
  if (typeof first === "object" && first !== null) return { options: first as ConnectArguments, listener };
  if (typeof first === "string" && !(Number(first) >= 0)) return { options: { path: first }, listener };
  if (first === undefined || typeof first === "function") return { options: {}, listener };
  const options = { port: first as number, ...(typeof second === "string" ? { host: second } : {}) };
  return { options, listener };
}
