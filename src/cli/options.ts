/** Readers of command line values. They throw NetPopcornError ERR_ARGUMENT with the range and what was given. */
import { availableParallelism } from "node:os";
import { NetPopcornError } from "../errors.ts";

/** A reader of integers from `min` to `max` for the option called `name`. */
export function integerOption(name: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^[0-9]+$/.test(text) || value < min || value > max) {
      throw new NetPopcornError(
        "ERR_ARGUMENT",
        `${name} must be an integer ${min}..${max}, not ${JSON.stringify(text)}`,
      );
    }
    return value;
  };
}

/** A reader of decimal numbers from `min` to `max`, with or without an exponent: 40, 0.5, 1.4e7. */
export function numberOption(name: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$/i.test(text) || value < min || value > max) {
      throw new NetPopcornError("ERR_ARGUMENT", `${name} must be a number ${min}..${max}, not ${JSON.stringify(text)}`);
    }
    return value;
  };
}

/** A reader of one of a few words. */
export function choiceOption<Choice extends string>(
  name: string,
  choices: readonly Choice[],
): (text: string) => Choice {
  return (text) => {
    const choice = choices.find((candidate) => candidate === text);
    if (choice === undefined) {
      throw new NetPopcornError("ERR_ARGUMENT", `${name} must be ${choices.join(", ")}, not ${JSON.stringify(text)}`);
    }
    return choice;
  };
}

export const KERNELS_MAX = 64;
/** The demo's Ethernet segment has 64 ports, of which clients take up to 16. */
export const DEMO_CLIENTS_MAX = 16;
export const DEMO_KERNELS_MAX = KERNELS_MAX - DEMO_CLIENTS_MAX;

/** One kernel per core. */
export function defaultKernels(): number {
  return Math.min(KERNELS_MAX, availableParallelism());
}

export const SEED_MAX = 0xffffffff;
