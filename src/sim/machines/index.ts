import { NetPopcornError } from "../../errors.ts";
import { e52665 } from "./e52665.ts";
import { e52690 } from "./e52690.ts";
import { e52695v2 } from "./e52695v2.ts";
import { e52697v2 } from "./e52697v2.ts";
import { CONSTANT_NAMES, type ConstantName, type Machine } from "./machine.ts";
import { modern128 } from "./modern128.ts";
import { opteron48 } from "./opteron48.ts";

const KNOWN: readonly Machine[] = [e52695v2, e52697v2, opteron48, e52690, e52665, modern128];

export const MACHINE_NAMES: readonly string[] = KNOWN.map(({ name }) => name);

/** @throws NetPopcornError ERR_SIM_MACHINE. */
export function machineNamed(name: string): Machine {
  const machine = KNOWN.find((known) => known.name === name);
  if (machine) return machine;
  throw new NetPopcornError(
    "ERR_SIM_MACHINE",
    `there is no machine "${name}"; known: ${MACHINE_NAMES.join(", ")}, or give a JSON file`,
  );
}

/** The machine's constants as plain numbers, each times its factor in `scale`. */
export type Costs = Readonly<Record<ConstantName, number>>;

export function costsOf(machine: Machine, scale: Readonly<Record<string, number>> = {}): Costs {
  const costs: Partial<Record<ConstantName, number>> = {};
  for (const name of CONSTANT_NAMES) costs[name] = machine.constants[name].value * (scale[name] ?? 1);
  // A copy: an object that was filled name by name is a dictionary, and each look-up in it a call.
  return { ...(costs as Record<ConstantName, number>) };
}
