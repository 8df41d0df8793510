/**
 * A question to the owner has its number and the owner's term in its correlation: it may lie in a ring until the kernel
 * that it was meant for is the owner once more, and says nothing then.
 */
export const QUESTION_MAX = 0xffff;
const TERM_SHIFT = 16;
const TERM_MASK = 0x7fff;

/** @param last number of the last question. */
export function nextQuestion(last: number): number {
  return (last % QUESTION_MAX) + 1;
}

export function questionCorrelation(number: number, ownerSince: number): number {
  return ((ownerSince & TERM_MASK) << TERM_SHIFT) | number;
}

/** Whether a question was meant for the owner of this term. */
export function isForTerm(correlation: number, ownerSince: number): boolean {
  return correlation >>> TERM_SHIFT === (ownerSince & TERM_MASK);
}
