/*
 * The way out: which interface and MAC addresses lead to a real, and the sending there.
 * All questions are asked before the first byte changes, so a drop never leaves half a packet.
 */
#pragma once

#include "csum.h"
#include "cursor.h"
#include "maps.h"
#include "wrapping.h"
#include <linux/if_ether.h>
#include <linux/ip.h>

#define AF_INET 2

struct next_hop {
	__u32 ifindex;
	__be32 address; /* the real itself, or the router towards it */
	__u8 destination[ETH_ALEN];
	__u8 source[ETH_ALEN];
};

static __always_inline enum verdict find_next_hop(struct xdp_md *ctx, __be32 source, __be32 real,
						  __u16 ip_bytes, struct next_hop *hop)
{
	struct bpf_fib_lookup lookup = {
		.family = AF_INET,
		.l4_protocol = IPPROTO_UDP,
		.tot_len = ip_bytes,
		.ipv4_src = source,
		.ipv4_dst = real,
		.ifindex = ctx->ingress_ifindex,
	};

	switch (bpf_fib_lookup(ctx, &lookup, sizeof(lookup), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		break;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return VERDICT_DROPPED_TOO_BIG;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return VERDICT_DROPPED_NO_NEIGHBOUR;
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return VERDICT_DROPPED_FORWARDING_OFF;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
	case BPF_FIB_LKUP_RET_UNREACHABLE:
	case BPF_FIB_LKUP_RET_PROHIBIT:
		return VERDICT_DROPPED_ROUTE_REFUSED;
	default:
		return VERDICT_DROPPED_NO_ROUTE;
	}
	hop->ifindex = lookup.ifindex;
	hop->address = lookup.ipv4_dst;
	__builtin_memcpy(hop->destination, lookup.dmac, ETH_ALEN);
	__builtin_memcpy(hop->source, lookup.smac, ETH_ALEN);
	return VERDICT_UNDECIDED;
}

static __always_inline void write_ethernet(struct ethhdr *ethernet, const struct next_hop *hop)
{
	__builtin_memcpy(ethernet->h_dest, hop->destination, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, hop->source, ETH_ALEN);
	ethernet->h_proto = bpf_htons(ETH_P_IP);
}

/* Same subnet: the real has the VIP on its loopback and takes the packet as it is, one hop older.
 */
static __always_inline enum verdict send_l2(struct xdp_md *ctx, const struct next_hop *hop)
{
	struct cursor cursor = cursor_at_start(ctx);
	struct ethhdr *ethernet = cursor_take(&cursor, sizeof(*ethernet));
	struct iphdr *ip = cursor_take(&cursor, sizeof(*ip));

	if (!ethernet || !ip)
		return VERDICT_PASSED_MALFORMED;
	decrement_ttl(ip);
	write_ethernet(ethernet, hop);
	return VERDICT_UNDECIDED;
}

static __always_inline enum verdict send_gue(struct xdp_md *ctx, const struct next_hop *hop,
					     const struct settings_value *settings, __be32 real,
					     __u64 hash)
{
	struct cursor cursor = cursor_grow_head(ctx, GUE_WRAPPING_BYTES);
	struct ethhdr *ethernet = cursor_take(&cursor, sizeof(*ethernet));
	struct gue_wrapping *wrapping = cursor_take(&cursor, sizeof(*wrapping));
	struct iphdr *inner = cursor_take(&cursor, sizeof(*inner));

	if (!ethernet || !wrapping || !inner)
		return VERDICT_DROPPED_NO_HEADROOM;
	decrement_ttl(inner);
	write_ethernet(ethernet, hop);
	write_gue_wrapping(wrapping, inner, settings, real, hash >> 48);
	return VERDICT_UNDECIDED;
}
