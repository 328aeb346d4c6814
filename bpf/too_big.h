/*
 * Tells a client that its packet no longer fits after wrapping: ICMP "fragmentation needed" (RFC
 * 1191) or ICMPv6 "packet too big" (RFC 8201), from the VIP, with the size that fits. The answer is
 * smaller than the packet it is about, goes only to whom can be believed to have sent it, and never
 * about an ICMP error or a later fragment (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
 */
#pragma once

#include "reply.h"
#include "csum.h"
#include "cursor.h"
#include "icmp.h"
#include "parse.h"
#include "wrapping.h"

#define ICMP_FRAGMENTATION_NEEDED 4    /* code of ICMP_UNREACHABLE */
#define ICMPV6_TOO_BIG            2    /* type */
#define IPV4_MIN_MTU              68   /* RFC 791 section 3.2 */
#define IPV6_MIN_MTU              1280 /* RFC 8200 section 5 */
#define CSUM_CHUNK                512  /* what bpf_csum_diff takes on every kernel */
/* As much of the packet as the smallest path of all takes (RFC 1812 section 4.3.2.3, RFC 4443). */
#define QUOTE_IPV4 (576 - sizeof(struct iphdr) - sizeof(struct icmp_header))
#define QUOTE_IPV6 (IPV6_MIN_MTU - sizeof(struct ipv6hdr) - sizeof(struct icmp_header))

static __always_inline __u64 sum_of(void *data, const __u32 bytes)
{
	__u64 sum = 0;

#pragma unroll
	for (__u32 at = 0; at < bytes; at += CSUM_CHUNK)
		sum = bpf_csum_diff(NULL, 0, data + at,
				    bytes - at < CSUM_CHUNK ? bytes - at : CSUM_CHUNK, sum);
	return sum;
}

/* Cuts the packet to what is quoted, and makes room for `header_bytes` before it. */
static __always_inline struct cursor make_quote(struct xdp_md *ctx, const struct packet *packet,
						const __u32 quote_bytes, const __u32 header_bytes)
{
	__u32 link_bytes = packet->link_bytes;
	__u8 link[MAX_LINK_BYTES];
	struct cursor none = {}, cursor;

	if (link_bytes < sizeof(struct ethhdr) || link_bytes > sizeof(link) ||
	    bpf_xdp_load_bytes(ctx, 0, link, link_bytes))
		return none;
	swap_mac((struct ethhdr *)link);
	if (bpf_xdp_adjust_tail(ctx, (int)(link_bytes + quote_bytes) - (int)packet->frame_bytes))
		return none;
	cursor = cursor_grow_head(ctx, header_bytes);
	if (!cursor_take(&cursor, sizeof(struct ethhdr)) ||
	    bpf_xdp_store_bytes(ctx, 0, link, link_bytes) ||
	    !cursor_stand_at(&cursor, ctx, link_bytes))
		return none;
	return cursor;
}

static __always_inline enum verdict answer_too_big_ipv4(struct xdp_md *ctx,
							const struct packet *packet)
{
	struct cursor cursor = make_quote(ctx, packet, QUOTE_IPV4,
					  sizeof(struct iphdr) + sizeof(struct icmp_header));
	struct iphdr *ip = cursor_take(&cursor, sizeof(*ip));
	struct icmp_header *icmp = cursor_take(&cursor, sizeof(*icmp) + QUOTE_IPV4);

	if (!ip || !icmp)
		return VERDICT_DROPPED_NO_HEADROOM;
	*ip = (struct iphdr){
		.version = IPV4_VERSION,
		.ihl = IPV4_MIN_HEADER_WORDS,
		.tot_len = bpf_htons(sizeof(*ip) + sizeof(*icmp) + QUOTE_IPV4),
		.ttl = DEFAULT_TTL,
		.protocol = IPPROTO_ICMP,
		.saddr = mapped_ipv4(&packet->flow.vip),
		.daddr = mapped_ipv4(&packet->flow.client),
	};
	ip->check = ipv4_checksum(ip);
	*icmp = (struct icmp_header){
		.type = ICMP_UNREACHABLE,
		.code = ICMP_FRAGMENTATION_NEEDED,
		.rest = bpf_htonl(packet->fits),
	};
	icmp->checksum = ~fold_sum(sum_of(icmp, sizeof(*icmp) + QUOTE_IPV4));
	return VERDICT_ANSWERED_TOO_BIG;
}

static __always_inline enum verdict answer_too_big_ipv6(struct xdp_md *ctx,
							const struct packet *packet)
{
	const __u32 icmp_bytes = sizeof(struct icmp_header) + QUOTE_IPV6;
	struct cursor cursor = make_quote(ctx, packet, QUOTE_IPV6,
					  sizeof(struct ipv6hdr) + sizeof(struct icmp_header));
	struct ipv6hdr *ip = cursor_take(&cursor, sizeof(*ip));
	struct icmp_header *icmp = cursor_take(&cursor, icmp_bytes);
	__u64 sum;

	if (!ip || !icmp)
		return VERDICT_DROPPED_NO_HEADROOM;
	*ip = (struct ipv6hdr){
		.version = IPV6_VERSION,
		.payload_len = bpf_htons(icmp_bytes),
		.nexthdr = IPPROTO_ICMPV6,
		.hop_limit = DEFAULT_TTL,
	};
	__builtin_memcpy(&ip->saddr, packet->flow.vip.words, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, packet->flow.client.words, sizeof(ip->daddr));
	*icmp = (struct icmp_header){
		.type = ICMPV6_TOO_BIG,
		.rest = bpf_htonl(packet->fits),
	};
	sum = sum_of(icmp, icmp_bytes);
	sum += address_sum(&packet->flow.vip) + address_sum(&packet->flow.client);
	sum += bpf_htons(icmp_bytes) + bpf_htons(IPPROTO_ICMPV6);
	icmp->checksum = ~fold_sum(sum);
	return VERDICT_ANSWERED_TOO_BIG;
}

/* A function of its own: it costs the common path nothing. */
__noinline int answer_too_big(struct xdp_md *ctx, const struct packet *packet)
{
	const struct flow *flow;

	if (!packet)
		return VERDICT_DROPPED_TOO_BIG;
	flow = &packet->flow;
	if (packet->is_quoted || packet->fragment >= FRAGMENT_LATER)
		return VERDICT_DROPPED_TOO_BIG;
	if (flow->is_ipv6) {
		if (packet->fits < IPV6_MIN_MTU || !is_host_ipv6(&flow->client))
			return VERDICT_DROPPED_TOO_BIG;
		return may_reply(REPLY_TOO_BIG_IPV6) ? answer_too_big_ipv6(ctx, packet)
						     : VERDICT_DROPPED_REPLY_RATE;
	}
	if (!packet->dont_fragment || packet->fits < IPV4_MIN_MTU ||
	    packet->ip_bytes < QUOTE_IPV4 || !is_host_ipv4(mapped_ipv4(&flow->client)))
		return VERDICT_DROPPED_TOO_BIG;
	return may_reply(REPLY_TOO_BIG_IPV4) ? answer_too_big_ipv4(ctx, packet)
					     : VERDICT_DROPPED_REPLY_RATE;
}
