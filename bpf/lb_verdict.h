/*
 * Every way a packet can leave lb.bpf.c. Ordered by action: passed to the stack, dropped, answered
 * by the edge itself, forwarded.
 */
#pragma once

enum verdict {
	VERDICT_PASSED_NOT_IP,         /* ARP and everything else that is not IP */
	VERDICT_PASSED_TAGS,           /* more than two VLAN tags */
	VERDICT_PASSED_MALFORMED,      /* an IP header that is short or contradicts the frame */
	VERDICT_PASSED_ICMP,           /* to the edge itself: the stack answers */
	VERDICT_PASSED_OTHER_PROTOCOL, /* neither TCP nor UDP */
	VERDICT_PASSED_NOT_VIP,        /* the edge's own traffic */
	VERDICT_PASSED_NO_REAL,        /* no real is up, and the VIP says that the edge serves */

	VERDICT_DROPPED_ICMP,       /* to a VIP: neither a ping that can be answered nor an error */
	VERDICT_DROPPED_QUOTE,      /* an ICMP error to a VIP that quotes no flow of that VIP */
	VERDICT_DROPPED_REPLY_RATE, /* an answer was due, but there were too many of them lately */
	VERDICT_DROPPED_FRAGMENT,   /* a later fragment to a VIP whose first one was not seen */
	VERDICT_DROPPED_EXTENSIONS, /* IPv6 to a VIP: too many extension headers, or cut off */
	VERDICT_DROPPED_SHORT,      /* to a VIP; the TCP or UDP header is cut off */
	VERDICT_DROPPED_DENIED,     /* the source filter denies the client's prefix */
	VERDICT_DROPPED_PREFIX_RATE, /* the client's prefix sends faster than its rule allows */
	VERDICT_DROPPED_VIP_RATE,    /* the VIP gets more than its limit */
	VERDICT_DROPPED_NO_SERVICE,  /* a VIP's address, but no VIP on this port and protocol */
	VERDICT_DROPPED_TTL,         /* no hop left, and nobody is to be told */
	VERDICT_DROPPED_NO_RING,     /* the VIP has no ring yet */
	VERDICT_DROPPED_NO_REAL,     /* the slot is empty, or its real is down */
	VERDICT_DROPPED_NO_TUNNEL_SOURCE, /* the edge has no tunnel source of the real's family */
	VERDICT_DROPPED_TOO_BIG,  /* with its wrapping it exceeds the MTU, and nobody is to be told
				   */
	VERDICT_DROPPED_NO_ROUTE, /* the kernel knows no way to the real */
	VERDICT_DROPPED_ROUTE_REFUSED,  /* a blackhole, unreachable or prohibit route */
	VERDICT_DROPPED_NO_NEIGHBOUR,   /* next hop's MAC is unknown: the agent must resolve it */
	VERDICT_DROPPED_FORWARDING_OFF, /* the kernel's FIB was asked, and forwarding is off */
	VERDICT_DROPPED_NOT_ON_LINK,    /* an L2 real that is behind a router */
	VERDICT_DROPPED_NO_HEADROOM,    /* the driver left no room for the wrapping */

	VERDICT_ANSWERED_PING,          /* an echo request to a VIP, sent back as the reply */
	VERDICT_ANSWERED_TOO_BIG,       /* the client is told which size fits after the wrapping */
	VERDICT_ANSWERED_TIME_EXCEEDED, /* the client is told that no hop was left */
	VERDICT_ANSWERED_RESET,         /* no real is up, and the VIP wants it said */

	VERDICT_FORWARDED_REMEMBERED, /* the flow table named the real */
	VERDICT_FORWARDED_NEW,        /* the ring named it, and the flow is now remembered */
	VERDICT_FORWARDED_SYN,        /* the ring named it; a SYN is never remembered */
	VERDICT_FORWARDED_REASSIGNED, /* the remembered real is gone: the ring named another */
	VERDICT_FORWARDED_NO_MEMORY,  /* the VIP wants this flow not remembered: ring only */
	VERDICT_FORWARDED_NO_TABLE,   /* this receive queue has no flow table: ring only */
	VERDICT_FORWARDED_NO_ROOM,    /* flows in use fill its place in flow memory: ring only */
	VERDICT_FORWARDED_ICMP,       /* an ICMP error, to the real of the flow that it quotes */
	VERDICT_FORWARDED_FRAGMENT,   /* a later fragment, to the real of its first one */
	VERDICT_FORWARDED_QUIC,       /* the connection id named the real */
	VERDICT_FORWARDED_TAKEN_OVER, /* another edge told of the flow; it is now remembered here */

	VERDICT_COUNT,
	VERDICT_UNDECIDED = VERDICT_COUNT,       /* keep going */
	VERDICT_UNUSUAL = VERDICT_UNDECIDED + 1, /* look again, with unusual.h */
};

#define VERDICT_FIRST_DROPPED   VERDICT_DROPPED_ICMP
#define VERDICT_FIRST_ANSWERED  VERDICT_ANSWERED_PING
#define VERDICT_FIRST_FORWARDED VERDICT_FORWARDED_REMEMBERED
