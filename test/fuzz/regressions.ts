/** Programs (base64) that once failed, with what was wrong. */
export const REGRESSIONS: readonly { readonly what: string; readonly program: string }[] = [];
