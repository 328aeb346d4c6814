/*
 * The way out: which interface and MAC addresses lead to a real, and the writing of the headers.
 * All questions are asked before the first byte changes, so a drop never leaves half a packet.
 */
#pragma once

#include "csum.h"
#include "cursor.h"
#include "maps.h"
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>

#define AF_INET 2
/* RFC 6335 section 6: 0xc000-0xffff are the dynamic ports; routers and NICs spread by them. */
#define GUE_SOURCE_PORT_BASE 0xc000
#define GUE_SOURCE_PORT_BITS 0x3fff

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

/*
 * Outer header: DF, so that an oversized packet is seen and not cut; id 0, as RFC 6864 section 4.1
 * allows under DF; DSCP copied, ECN not, because the real's side does not carry marks back in
 * (RFC 6040 section 4.1, compatibility mode); UDP checksum 0, as IPv4 allows and GUE section 5.
 */
static __always_inline enum verdict send_gue(struct xdp_md *ctx, const struct next_hop *hop,
					     const struct settings_value *settings, __be32 real,
					     __u64 hash)
{
	struct cursor cursor = cursor_grow_head(ctx, GUE_WRAPPING_BYTES);
	struct ethhdr *ethernet = cursor_take(&cursor, sizeof(*ethernet));
	struct iphdr *outer = cursor_take(&cursor, sizeof(*outer));
	struct udphdr *udp = cursor_take(&cursor, sizeof(*udp));
	struct gue_header *gue = cursor_take(&cursor, sizeof(*gue));
	struct iphdr *inner = cursor_take(&cursor, sizeof(*inner));
	__u16 inner_bytes;

	if (!ethernet || !outer || !udp || !gue || !inner)
		return VERDICT_DROPPED_NO_HEADROOM;
	decrement_ttl(inner);
	inner_bytes = bpf_ntohs(inner->tot_len);

	write_ethernet(ethernet, hop);
	*outer = (struct iphdr){
		.version = IPV4_VERSION,
		.ihl = IPV4_MIN_HEADER_WORDS,
		.tos = inner->tos & IPV4_DSCP_BITS,
		.tot_len = bpf_htons(inner_bytes + GUE_WRAPPING_BYTES),
		.frag_off = bpf_htons(IPV4_DONT_FRAGMENT),
		.ttl = IPV4_DEFAULT_TTL,
		.protocol = IPPROTO_UDP,
		.saddr = mapped_ipv4(&settings->tunnel_source),
		.daddr = real,
	};
	outer->check = ipv4_checksum(outer);
	*udp = (struct udphdr){
		.source = bpf_htons(GUE_SOURCE_PORT_BASE | ((hash >> 48) & GUE_SOURCE_PORT_BITS)),
		.dest = settings->gue_port,
		.len = bpf_htons(inner_bytes + sizeof(*udp) + sizeof(*gue)),
	};
	*gue = (struct gue_header){.protocol = IPPROTO_IPIP};
	return VERDICT_UNDECIDED;
}
