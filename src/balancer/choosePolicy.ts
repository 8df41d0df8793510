import type { DeviceCapabilities } from "../device/device.ts";
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

type BalancedCapabilities = Pick<DeviceCapabilities, "flowGroups" | "exactFilters" | "localPorts" | "steering">;

/**
 * The policy of a stack. Default: angel for kernels in threads behind a device with flow groups and exact filters, else
 * static: on one thread all kernels share one processor, and a group gains nothing by moving; without filters a
 * connection that begins in the moment of a move may be torn, and where all connections to one service fall into one
 * group (the 82599's fixed masks) only one kernel could open them, so that is for the user to choose; a TAP's kernels
 * share their processors with the clients (docs/balancer.md).
 * @throws NetPopcornError ERR_OPTION_RANGE, ERR_OPTION_UNKNOWN, ERR_OPTION_COMBINATION.
 */
export function resolvePolicy(
  option: BalancerOption | undefined,
  stack: { readonly threads: boolean; readonly kernels: number; readonly device: BalancedCapabilities },
): Policy {
  const { exactFilters, flowGroups, localPorts, steering } = stack.device;
  const isCard = steering === "card" || steering === "software";
  const balances = stack.kernels > 1 && isCard && flowGroups > 0 && exactFilters > 0 && localPorts !== undefined;
  const policy = choosePolicy(option ?? (stack.threads && balances ? "angel" : "static"));
  if (policy !== staticPolicy && flowGroups === 0) {
    throw new NetPopcornError(
      "ERR_OPTION_COMBINATION",
      `balancer "${policy.name}" needs a device with flow groups; leave the option out, or use "static"`,
    );
  }
  return stack.kernels > 1 ? policy : staticPolicy;
}
