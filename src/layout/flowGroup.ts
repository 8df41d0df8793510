/**
 * The flow-group table at MAP_FLOW_GROUPS: FLOW_GROUPS records, written by the kernel, read by the balancer.
 * Portable: read by asc and tsc.
 */
/**
 * At most, and unless the device has fewer: 12 bits of the client's port, as the 82599's flow director is programmed by
 * Affinity-Accept and NetPopcorn.
 */
export const FLOW_GROUPS = 4096;
/** u32: connections of this group that this kernel has now, without those in TIME-WAIT. */
export const GROUP_LIVE = 0;
/** u32, wraps: connections of this group that this kernel has begun. */
export const GROUP_OPENED = 4;
export const GROUP_SIZE_BYTES = 8;
