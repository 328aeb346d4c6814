/*
 * What fragments of one datagram have in common: the key of what the first one, which alone has
 * ports, leaves for the later ones. Shared by lb.bpf.c and real.bpf.c.
 */
#pragma once

#include <bpf/bpf_helpers.h>

#include "packet.h"

const volatile __u64 fragment_age_ns = 30ULL * 1000 * 1000 * 1000; /* the sender reuses its ids */

struct datagram_key {
	struct address client;
	struct address vip;
	__be32 id; /* of IPv4: 16 bits */
	__u32 protocol;
};

_Static_assert(sizeof(struct datagram_key) == 40, "datagram key layout");
