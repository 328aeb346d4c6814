/*
 * Every way a packet can leave real.bpf.c. Ordered by action: passed to the stack, dropped, handed
 * on to the next real of its owner chain.
 */
#pragma once

enum verdict {
	VERDICT_PASSED_NOT_TUNNELLED, /* neither GUE nor IPIP to one of our tunnel addresses */
	VERDICT_PASSED_UNWRAPPED,     /* a client's packet without a chain, taken out */
	VERDICT_PASSED_OWN_SOCKET,    /* with a chain: a socket here holds its flow */
	VERDICT_PASSED_SYN_COOKIE,    /* with a chain: its cookie is of a listener here */
	VERDICT_PASSED_SYN,           /* with a chain: it begins a flow, so it stays */
	VERDICT_PASSED_UNASKED,       /* with a chain: a ping, a fragment whose first one was not
					 handed on, another protocol; no socket can be asked */
	VERDICT_PASSED_LAST_RESORT,   /* no real of the chain holds its flow; the stack says so */

	VERDICT_DROPPED_GUE_SHORT,       /* the tunnel's header or its options are cut off */
	VERDICT_DROPPED_GUE_VERSION,     /* neither variant 0, nor known to us */
	VERDICT_DROPPED_GUE_CONTROL,     /* a control message: nobody here speaks them */
	VERDICT_DROPPED_GUE_PROTOCOL,    /* what is inside is neither IPv4 nor IPv6 */
	VERDICT_DROPPED_CHAIN_MALFORMED, /* the owner chain contradicts itself or its packet */
	VERDICT_DROPPED_INNER_MALFORMED, /* the client's packet contradicts itself or the frame */
	VERDICT_DROPPED_NOT_BOUND,       /* for a VIP that this real does not serve */
	VERDICT_DROPPED_NOT_PEER,    /* to be handed on to an address that is no real of the site */
	VERDICT_DROPPED_TTL,         /* to be handed on, and the tunnel's last hop is spent */
	VERDICT_DROPPED_TOO_BIG,     /* to be handed on by a way whose MTU it exceeds */
	VERDICT_DROPPED_NO_WAY,      /* to be handed on, and no way to that real is known */
	VERDICT_DROPPED_NO_HEADROOM, /* the driver left no room for the VLAN tags of the way */

	VERDICT_HANDED_ON, /* its flow is not held here: sent to the next real of its chain */

	VERDICT_COUNT,
	VERDICT_UNDECIDED = VERDICT_COUNT, /* keep going */
};

#define VERDICT_FIRST_DROPPED   VERDICT_DROPPED_GUE_SHORT
#define VERDICT_FIRST_HANDED_ON VERDICT_HANDED_ON
