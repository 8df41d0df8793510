/** Fields of an event record, read from the words that a handle-level handler is given. */
import { EVENT_HANDLE, EVENT_MASK, EVENT_READABLE_BYTES, EVENT_SIZE_BYTES } from "../layout/event.ts";

export const EVENT_WORDS = EVENT_SIZE_BYTES >> 2;
export const HANDLE_WORD = EVENT_HANDLE >> 2;
/** Mask in the low half, status in the high half (signed). */
export const MASK_WORD = EVENT_MASK >> 2;
export const READABLE_WORD = EVENT_READABLE_BYTES >> 2;
