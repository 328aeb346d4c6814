/*
 * The way out: which interface and MAC addresses lead to a real, and the sending there.
 * All questions are asked before the first byte changes, so a drop never leaves half a packet.
 */
#pragma once

#include "csum.h"
#include "cursor.h"
#include "fib.h"
#include "maps.h"
#include "parse.h"
#include "way_out.h"
#include "wrapping.h"

#define MAX_IP_BYTES 0xffff

/* Asks the kernel for what the agent did not know: routes, and neighbours that it has resolved. */
static __always_inline enum verdict ask_fib(struct xdp_md *ctx, const struct address *source,
					    const struct real_value *real, __u16 ip_bytes,
					    struct next_hop *hop)
{
	struct bpf_fib_lookup lookup;
	int is_direct;

	switch (ask_kernel(ctx, source, &real->address, real->family == FAMILY_IPV6, ip_bytes,
			   ctx->ingress_ifindex, &lookup)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		break;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		hop->mtu = lookup.mtu_result;
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
	/* A router's address takes the place of the real's. */
	if (real->family == FAMILY_IPV6)
		is_direct = lookup.ipv6_dst[0] == real->address.words[0] &&
			    lookup.ipv6_dst[1] == real->address.words[1] &&
			    lookup.ipv6_dst[2] == real->address.words[2] &&
			    lookup.ipv6_dst[3] == real->address.words[3];
	else
		is_direct =
			lookup.family == AF_INET && lookup.ipv4_dst == mapped_ipv4(&real->address);
	if (real->encap == ENCAP_L2 && !is_direct)
		return VERDICT_DROPPED_NOT_ON_LINK;
	resolve_device(ctx, lookup.ifindex, hop);
	__builtin_memcpy(hop->destination, lookup.dmac, ETH_ALEN);
	__builtin_memcpy(hop->source, lookup.smac, ETH_ALEN);
	return VERDICT_UNDECIDED;
}

/*
 * One hop older. Hands back the sum of the client's whole packet when its own checksum lets it be
 * known: a right IPv4 header sums to zero, a right segment to the opposite of its pseudo header.
 */
static __always_inline int age(struct cursor *cursor, const struct packet *packet, __u64 *sum)
{
	const struct flow *flow = &packet->flow;
	__u64 pseudo = bpf_htons(packet->transport_sum) + bpf_htons(flow->protocol);
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;

	if (flow->is_ipv6) {
		ipv6 = cursor_take(cursor, sizeof(*ipv6));
		if (!ipv6)
			return 0;
		ipv6->hop_limit--;
		/* The addresses are in the header and in the pseudo header: they cancel. */
		*sum = *(__u32 *)ipv6 + *((__u32 *)ipv6 + 1) + negated_sum(pseudo);
		return 1;
	}
	ipv4 = cursor_take(cursor, sizeof(*ipv4));
	if (!ipv4)
		return 0;
	decrement_ttl(ipv4);
	*sum = negated_sum(pseudo + mapped_ipv4(&flow->client) + mapped_ipv4(&flow->vip));
	return 1;
}

/* The tunnel's source address for a real. */
static __always_inline const struct address *source_of(const struct settings_value *settings,
						       const struct real_value *real)
{
	return real->family == FAMILY_IPV6 ? &settings->tunnel_source_v6 : &settings->tunnel_source;
}

static __always_inline int has_source(const struct settings_value *settings,
				      const struct real_value *real)
{
	return real->encap == ENCAP_L2 || !is_unspecified(source_of(settings, real));
}

static __always_inline __u32 wrapping_of(const struct real_value *real)
{
	if (real->encap == ENCAP_L2)
		return 0;
	return wrapping_bytes(real->family == FAMILY_IPV6, real->encap == ENCAP_GUE);
}

/* Same subnet: the real has the VIP on its loopback and takes the packet as it is, one hop older.
 */
static __always_inline enum verdict send_l2(struct xdp_md *ctx, const struct packet *packet,
					    const struct next_hop *hop)
{
	struct cursor cursor = cursor_at_start(ctx);
	struct ethhdr *ethernet = cursor_take(&cursor, sizeof(*ethernet));
	__u64 unused;

	if (!ethernet || !age(&cursor, packet, &unused))
		return VERDICT_PASSED_MALFORMED;
	write_macs(ethernet, hop);
	return VERDICT_UNDECIDED;
}

/* What the tunnel's headers have to say of the client's packet. */
static __always_inline struct wrapped inside(const struct packet *packet)
{
	return (struct wrapped){
		.bytes = packet->ip_bytes,
		.dscp = packet->dscp,
		.protocol = packet->flow.is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP,
		.spread = (__u32)packet->hash,
		.has_sum = packet->transport_sum != 0,
	};
}

/* Every pairing of families and both tunnels; the constants prune it to one of four. */
static __always_inline enum verdict send_tunnelled(struct xdp_md *ctx, const struct packet *packet,
						   const struct real_value *real,
						   const struct next_hop *hop,
						   const struct settings_value *settings,
						   const int outer_ipv6, const int by_gue)
{
	const __u32 wrapping = wrapping_bytes(outer_ipv6, by_gue);
	struct wrapped inner = inside(packet);
	struct cursor cursor = cursor_at_start(ctx);
	struct ethhdr *ethernet;
	void *outer;

	if (!cursor_take(&cursor, sizeof(*ethernet)) || !age(&cursor, packet, &inner.sum))
		return VERDICT_PASSED_MALFORMED;
	cursor = cursor_grow_head(ctx, wrapping);
	ethernet = cursor_take(&cursor, sizeof(*ethernet));
	outer = cursor_take(&cursor, wrapping);
	if (!ethernet || !outer)
		return VERDICT_DROPPED_NO_HEADROOM;
	write_macs(ethernet, hop);
	ethernet->h_proto = outer_ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	write_wrapping(outer, &inner, real, settings, outer_ipv6, by_gue);
	return VERDICT_UNDECIDED;
}

/* Finds an untagged frame, and leaves one. */
static __always_inline enum verdict send_untagged(struct xdp_md *ctx, const struct packet *packet,
						  const struct real_value *real,
						  const struct next_hop *hop,
						  const struct settings_value *settings)
{
	const int outer_ipv6 = real->family == FAMILY_IPV6;

	if (real->encap == ENCAP_L2)
		return send_l2(ctx, packet, hop);
	if (real->encap == ENCAP_GUE)
		return outer_ipv6 ? send_tunnelled(ctx, packet, real, hop, settings, 1, 1)
				  : send_tunnelled(ctx, packet, real, hop, settings, 0, 1);
	return outer_ipv6 ? send_tunnelled(ctx, packet, real, hop, settings, 1, 0)
			  : send_tunnelled(ctx, packet, real, hop, settings, 0, 0);
}

/* What is left of the way's MTU for the client's packet; too big, if that one is. */
static __always_inline enum verdict must_fit(struct packet *packet, __u32 wrapping, __u32 mtu)
{
	if (packet->ip_bytes + wrapping <= mtu)
		return VERDICT_UNDECIDED;
	packet->fits = mtu > wrapping ? mtu - wrapping : 0;
	return VERDICT_DROPPED_TOO_BIG;
}

/*
 * The way to a real, for a packet that becomes `wrapping` bytes longer: the one kept with the real,
 * or else what the FIB fills into `asked`. Undecided means: `hop` is that way, and the packet fits
 * it.
 */
static __always_inline enum verdict find_way(struct xdp_md *ctx, struct packet *packet,
					     const struct real_value *real,
					     const struct settings_value *setting, __u32 wrapping,
					     struct next_hop *asked, const struct next_hop **hop)
{
	__u32 mtu = real->hop.ifindex ? real->hop.mtu : setting->mtu;
	enum verdict verdict = must_fit(packet, wrapping, mtu ? mtu : MAX_IP_BYTES);

	*hop = &real->hop;
	if (verdict == VERDICT_UNDECIDED && !real->hop.ifindex) {
		verdict = ask_fib(ctx, source_of(setting, real), real, packet->ip_bytes + wrapping,
				  asked);
		if (verdict == VERDICT_DROPPED_TOO_BIG)
			must_fit(packet, wrapping, asked->mtu);
		*hop = asked;
	}
	return verdict;
}

/*
 * Every way there is. Undecided means: sent, by packet->out_ifindex. A function of its own,
 * verified once for all the ways that a real was chosen.
 */
__noinline int send(struct xdp_md *ctx, struct packet *packet, const struct real_value *real)
{
	__u32 zero = 0;
	const struct settings_value *setting = bpf_map_lookup_elem(&settings, &zero);
	const struct next_hop *hop;
	struct next_hop asked;
	enum verdict verdict;

	if (!packet || !real || !setting || !has_source(setting, real))
		return VERDICT_DROPPED_NO_TUNNEL_SOURCE;
	verdict = find_way(ctx, packet, real, setting, wrapping_of(real), &asked, &hop);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	packet->out_ifindex = hop->ifindex;
	if (packet->link_bytes > sizeof(struct ethhdr) && !take_tags_off(ctx, packet->link_bytes))
		return VERDICT_PASSED_MALFORMED;
	verdict = send_untagged(ctx, packet, real, hop, setting);
	if (verdict == VERDICT_UNDECIDED && hop->outer.protocol && !put_tags_on(ctx, hop))
		return VERDICT_DROPPED_NO_HEADROOM;
	return verdict;
}

/* As send(), but a known way without tags takes no call: to return from one costs 5 ns. */
static __always_inline enum verdict send_swiftly(struct xdp_md *ctx, struct packet *packet,
						 const struct real_value *real)
{
	__u32 zero = 0;
	const struct settings_value *setting = bpf_map_lookup_elem(&settings, &zero);
	enum verdict verdict;

	if (!real->hop.ifindex || real->hop.outer.protocol ||
	    packet->link_bytes != sizeof(struct ethhdr) || !setting || !has_source(setting, real))
		return send(ctx, packet, real);
	verdict = must_fit(packet, wrapping_of(real), real->hop.mtu);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	packet->out_ifindex = real->hop.ifindex;
	return send_untagged(ctx, packet, real, &real->hop, setting);
}
