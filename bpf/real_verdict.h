/*
 * Every way a packet can leave real.bpf.c. Ordered by action: passed to the stack, dropped.
 */
#pragma once

enum verdict {
	VERDICT_PASSED_NOT_TUNNELLED, /* neither GUE nor IPIP to one of our tunnel addresses */
	VERDICT_PASSED_UNWRAPPED,     /* a client's packet for a VIP of this real, taken out */

	VERDICT_DROPPED_GUE_SHORT,       /* the tunnel's header or its options are cut off */
	VERDICT_DROPPED_GUE_VERSION,     /* neither variant 0, nor known to us */
	VERDICT_DROPPED_GUE_CONTROL,     /* a control message: nobody here speaks them */
	VERDICT_DROPPED_GUE_PROTOCOL,    /* what is inside is neither IPv4 nor IPv6 */
	VERDICT_DROPPED_INNER_MALFORMED, /* the client's packet contradicts itself or the frame */
	VERDICT_DROPPED_NOT_BOUND,       /* for a VIP that this real does not serve */

	VERDICT_COUNT,
	VERDICT_UNDECIDED = VERDICT_COUNT, /* keep going */
};

#define VERDICT_FIRST_DROPPED VERDICT_DROPPED_GUE_SHORT
