/**
 * A zero for fields that will hold fractions, or instants beyond 2^31 ns. V8 keeps -0 as a double from the start. After
 * a plain 0, which it keeps as a small integer, the first fraction would give the object another shape, and all code
 * that was compiled for the one before would be thrown away: a third of what a process's first run compiled.
 */
export const ZERO = -0;
