/*
 * Every way a packet can leave probe.bpf.c. Ordered by action: dropped, forwarded.
 */
#pragma once

enum verdict {
	VERDICT_DROPPED_NOT_PROBE, /* without our mark, or not IP: nothing else may go this way */
	VERDICT_DROPPED_UNKNOWN_REAL,     /* the mark names a seat that nobody has */
	VERDICT_DROPPED_NO_TUNNEL_SOURCE, /* the edge has no tunnel source of the real's family */
	VERDICT_DROPPED_NO_ROUTE,         /* the kernel knows no way to the real */
	VERDICT_DROPPED_NOT_ON_LINK,      /* an L2 real that is behind a router */
	VERDICT_DROPPED_NO_NEIGHBOUR,     /* by MAC, of two address families: it is not known yet */
	VERDICT_DROPPED_TOO_BIG,          /* with its wrapping it exceeds the MTU of the way */

	VERDICT_FORWARDED_L2,  /* as it is, to the real's MAC address */
	VERDICT_FORWARDED_GUE, /* wrapped as a client's packet would be */
	VERDICT_FORWARDED_IPIP,

	VERDICT_COUNT,
	VERDICT_UNDECIDED = VERDICT_COUNT, /* keep going */
};

#define VERDICT_FIRST_FORWARDED VERDICT_FORWARDED_L2
