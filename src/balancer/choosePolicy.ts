import { NetPopcornError } from "../errors.ts";
import { AFFINITY_ACCEPT_DEFAULTS, type AffinityAcceptConstants, affinityAccept } from "./affinityAccept.ts";
import { ANGEL_DEFAULTS, type AngelConstants, angel } from "./angel.ts";
import { OPPORTUNISTIC_DEFAULTS, type OpportunisticConstants, opportunistic } from "./opportunistic.ts";
import { type Policy, type PolicyFunction, staticPolicy } from "./policy.ts";

export type PolicyName = "static" | "opportunistic" | "affinity-accept" | "angel";

/** A policy's name, its name with some of its constants, or a policy of one's own. */
export type BalancerOption =
  | PolicyName
  | { readonly policy: "static" }
  | ({ readonly policy: "opportunistic" } & Partial<OpportunisticConstants>)
  | ({ readonly policy: "affinity-accept" } & Partial<AffinityAcceptConstants>)
  | ({ readonly policy: "angel" } & Partial<AngelConstants>)
  | Policy
  | PolicyFunction;

const OWN_PERIOD_NS = 100e6;

type Known = { readonly defaults: object; create(constants: object): Policy };
const KNOWN: Readonly<Record<string, Known>> = {
  static: { defaults: {}, create: () => staticPolicy },
  opportunistic: { defaults: OPPORTUNISTIC_DEFAULTS, create: opportunistic },
  "affinity-accept": { defaults: AFFINITY_ACCEPT_DEFAULTS, create: affinityAccept },
  angel: { defaults: ANGEL_DEFAULTS, create: angel },
};

/** @throws NetPopcornError ERR_OPTION_RANGE, ERR_OPTION_UNKNOWN. */
export function choosePolicy(option: BalancerOption): Policy {
  if (typeof option === "function") return { name: option.name || "own", periodNs: OWN_PERIOD_NS, decide: option };
  if (typeof option === "object" && "decide" in option) return { ...option, periodNs: checkPeriod(option.periodNs) };
  const { policy: name, ...constants } = typeof option === "object" ? option : { policy: option };
  const known = Object.hasOwn(KNOWN, name) ? KNOWN[name] : undefined;
  if (!known) {
    throw new NetPopcornError(
      "ERR_OPTION_RANGE",
      `balancer policy is "${name}"; it must be one of ${Object.keys(KNOWN).join(", ")}, or a function`,
    );
  }
  for (const [constant, value] of Object.entries(constants)) {
    if (!Object.hasOwn(known.defaults, constant)) {
      throw new NetPopcornError("ERR_OPTION_UNKNOWN", `balancer policy ${name} has no constant "${constant}"`);
    }
    if (!(typeof value === "number" && value >= 0)) {
      throw new NetPopcornError("ERR_OPTION_RANGE", `balancer constant ${constant} is ${value}; it must be 0 or more`);
    }
  }
  const policy = known.create(constants);
  checkPeriod(policy.periodNs);
  return policy;
}

function checkPeriod(periodNs: number): number {
  if (!(periodNs >= 1e5)) {
    throw new NetPopcornError("ERR_OPTION_RANGE", `balancer period is ${periodNs} ns; it must be 100,000 or more`);
  }
  return periodNs;
}
