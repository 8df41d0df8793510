/** Options that are numbers: refused with their range when they are out of it. */
import { NetPopcornError } from "./errors.ts";

export function optionError(name: string, value: unknown, rule: string): NetPopcornError {
  return new NetPopcornError("ERR_OPTION_RANGE", `option ${name} is ${String(value)}; it must be ${rule}`);
}

/** @throws NetPopcornError ERR_OPTION_RANGE unless `value` is an integer in min..max. */
export function checkInteger(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
    throw optionError(name, value, `an integer from ${min} to ${max}`);
  }
  return value;
}
