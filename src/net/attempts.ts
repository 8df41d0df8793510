/**
 * connect() to a name with several addresses (option autoSelectFamily, RFC 8305 as node:net has it): one after the
 * other, families in turn, each for `timeoutMs`, the last for as long as it takes.
 */
import type { LookupAddress } from "node:dns";
import { isIP } from "node:net";

/** As Node: less would take a slow path for none. */
const TIMEOUT_MS_MIN = 10;

export type Target = {
  readonly address: string;
  readonly port: number;
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
};

/**
 * The addresses that are any, each once; the first one's family begins.
 * @param wanted family; 0: both. A lookup may not have heeded it: then it is as it is.
 */
export function alternateFamilies(found: readonly LookupAddress[], wanted: 0 | 4 | 6): LookupAddress[] {
  const any = found.filter(({ address, family }) => isIP(address) !== 0 && (family === 4 || family === 6));
  const fitting = any.filter(({ family }) => wanted === 0 || family === wanted);
  const valid = fitting.length > 0 ? fitting : any;
  const unique = valid.filter(({ address }, index) => valid.findIndex((other) => other.address === address) === index);
  const preferred = unique.filter(({ family }) => family === unique[0]?.family);
  const others = unique.filter(({ family }) => family !== unique[0]?.family);
  const order: LookupAddress[] = [];
  for (let i = 0; i < Math.max(preferred.length, others.length); i++) {
    order.push(...preferred.slice(i, i + 1), ...others.slice(i, i + 1));
  }
  return order;
}

export class Attempts {
  readonly errors: Error[] = [];
  readonly #targets: Target[];
  readonly #timeoutMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(targets: readonly Target[], timeoutMs: number) {
    this.#targets = [...targets];
    this.#timeoutMs = Math.max(timeoutMs, TIMEOUT_MS_MIN);
  }

  /** The next one to be tried; undefined: all have been. */
  next(): Target | undefined {
    this.stop();
    return this.#targets.shift();
  }

  /** The present one is under way. @param onTimeout called when the next one's turn has come. */
  wait(onTimeout: () => void): void {
    if (this.#targets.length > 0) this.#timer = setTimeout(onTimeout, this.#timeoutMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** What has become of all of them, in Node's form. */
  get failure(): AggregateError {
    const [first] = this.errors as NodeJS.ErrnoException[];
    return Object.assign(new AggregateError(this.errors), { code: first?.code });
  }
}
