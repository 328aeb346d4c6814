/*
 * The owner chain as a packet carries it, in GUE's private data (draft-ietf-intarea-gue, section
 * 3.3): the reals that may hold the flow if the one that gets the packet does not. Written by the
 * edge, read and advanced by each real that hands the packet on. One header, then `count` addresses
 * of one family. Shared by lb.bpf.c and real.bpf.c; knows nothing of rings and sockets.
 */
#pragma once

#include "packet.h"

#define CHAIN_KIND           0xc1 /* this layout; any other private data is skipped */
#define CHAIN_MAX_CANDIDATES 4    /* besides the real that the packet is sent to first */

/*
 * `next` grows with every hand-on and never falls, so a packet meets each candidate once: with the
 * outer TTL, which falls, it bounds a packet's way. The generation is that of the site's history.
 */
struct chain_header {
	__u8 kind;
	__u8 next;  /* the candidate that is tried next; those before it have had the packet */
	__u8 count; /* candidates that follow; `next` == `count`: the last one has the packet */
	__u8 candidate_bytes; /* 4 or 16: an IPv4 or an IPv6 address each, as the outer header */
	__be32 generation;
};

_Static_assert(sizeof(struct chain_header) == 8, "chain header");

static __always_inline __u32 candidate_bytes(int outer_ipv6)
{
	return outer_ipv6 ? sizeof(struct in6_addr) : sizeof(__be32);
}

/* What a chain of so many candidates adds to a packet; 0 where there is none. */
static __always_inline __u32 chain_bytes(__u32 count, int outer_ipv6)
{
	if (!count)
		return 0;
	return sizeof(struct chain_header) + count * candidate_bytes(outer_ipv6);
}
