/**
 * fast-check for all tests: it draws from one seed, so that a run of the tests is the same every time.
 * PROPERTY_SEED=N draws others, PROPERTY_SEED=random others each time; what they find becomes a test with its seed.
 */
import fc from "fast-check";

const SEED_DEFAULT = 20_261_123;

function seedFrom(text: string | undefined): number {
  if (text === undefined || text === "") return SEED_DEFAULT;
  if (text === "random") return Date.now() | 0;
  const seed = Number(text);
  if (!Number.isInteger(seed)) throw new TypeError(`PROPERTY_SEED must be an integer or "random", not ${text}`);
  return seed | 0;
}

fc.configureGlobal({ seed: seedFrom(process.env["PROPERTY_SEED"]) });

export default fc;
