/*
 * What the edge tells a client about its packet, by ICMP and ICMPv6, from the VIP: that it no
 * longer fits after wrapping, and which size does (RFC 1191, 8201); or that it came with its last
 * hop, as a router says (RFC 792, 4443). Told only to whom can be believed to have sent it, never
 * about an ICMP error or a later fragment (RFC 1122 section 3.2.2, RFC 4443 section 2.4). About a
 * short packet it is 28 or 48 bytes longer than that; its rate bounds what can be made of it.
 */
#pragma once

#include "reply.h"
#include "csum.h"
#include "cursor.h"
#include "icmp.h"
#include "link.h"
#include "parse.h"
#include "wrapping.h"

#define ICMP_FRAGMENTATION_NEEDED 4 /* code of ICMP_UNREACHABLE */
#define ICMPV6_TOO_BIG            2 /* types */
#define ICMPV6_TIME_EXCEEDED      3
#define IPV4_MIN_MTU              68   /* RFC 791 section 3.2 */
#define IPV6_MIN_MTU              1280 /* RFC 8200 section 5 */
#define SUM_CHUNK                 64   /* bytes that are summed at once; even, as all words are */
#define HEADERS_IPV4              (sizeof(struct iphdr) + sizeof(struct icmp_header))
#define HEADERS_IPV6              (sizeof(struct ipv6hdr) + sizeof(struct icmp_header))
/* As much of the packet as the smallest path of all takes (RFC 1812 section 4.3.2.3, RFC 4443). */
#define QUOTE_IPV4 (576 - HEADERS_IPV4)
#define QUOTE_IPV6 (IPV6_MIN_MTU - HEADERS_IPV6)

/* The sum of what is quoted; what the last chunk lacks is zero, which adds nothing. */
__noinline __u64 sum_of_quote(struct xdp_md *ctx, __u32 at, __u32 bytes)
{
	__u32 chunk[SUM_CHUNK / 4];
	__u64 sum = 0;
	__u32 left;

	for (__u32 done = 0; done < QUOTE_IPV6 && done < bytes; done += SUM_CHUNK) {
		left = bytes - done < SUM_CHUNK ? bytes - done : SUM_CHUNK;
		barrier_var(left); /* the verifier follows a bound, but not a difference */
		if (left == 0 || left > SUM_CHUNK)
			break;
		__builtin_memset(chunk, 0, sizeof(chunk));
		if (bpf_xdp_load_bytes(ctx, at + done, chunk, left))
			break;
		sum = bpf_csum_diff(NULL, 0, chunk, sizeof(chunk), sum);
	}
	return sum;
}

/* Cuts the packet to what is quoted, and makes room for `header_bytes` before it. */
static __always_inline struct cursor make_quote(struct xdp_md *ctx, const struct packet *packet,
						__u32 quote_bytes, __u32 header_bytes)
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

static __always_inline int write_error_ipv4(struct cursor *cursor, const struct flow *flow,
					    const struct icmp_header *message, __u32 quote_bytes,
					    __u64 sum)
{
	struct iphdr *ip = cursor_take(cursor, sizeof(*ip));
	struct icmp_header *icmp = cursor_take(cursor, sizeof(*icmp));

	if (!ip || !icmp)
		return 0;
	*ip = (struct iphdr){
		.version = IPV4_VERSION,
		.ihl = IPV4_MIN_HEADER_WORDS,
		.tot_len = bpf_htons(HEADERS_IPV4 + quote_bytes),
		.ttl = DEFAULT_TTL,
		.protocol = IPPROTO_ICMP,
		.saddr = mapped_ipv4(&flow->vip),
		.daddr = mapped_ipv4(&flow->client),
	};
	ip->check = ipv4_checksum(ip);
	*icmp = *message;
	icmp->checksum = ~fold_sum(sum);
	return 1;
}

static __always_inline int write_error_ipv6(struct cursor *cursor, const struct flow *flow,
					    const struct icmp_header *message, __u32 quote_bytes,
					    __u64 sum)
{
	__u32 icmp_bytes = sizeof(struct icmp_header) + quote_bytes;
	struct ipv6hdr *ip = cursor_take(cursor, sizeof(*ip));
	struct icmp_header *icmp = cursor_take(cursor, sizeof(*icmp));

	if (!ip || !icmp)
		return 0;
	*ip = (struct ipv6hdr){
		.version = IPV6_VERSION,
		.payload_len = bpf_htons(icmp_bytes),
		.nexthdr = IPPROTO_ICMPV6,
		.hop_limit = DEFAULT_TTL,
	};
	__builtin_memcpy(&ip->saddr, flow->vip.words, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, flow->client.words, sizeof(ip->daddr));
	*icmp = *message;
	sum += address_sum(&flow->vip) + address_sum(&flow->client);
	sum += bpf_htons(icmp_bytes) + bpf_htons(IPPROTO_ICMPV6);
	icmp->checksum = ~fold_sum(sum);
	return 1;
}

/*
 * Makes the error out of the packet; `message` has no checksum yet. Undecided means: made. A
 * function of its own, as are those below: they cost the common path nothing.
 */
__noinline int make_icmp_error(struct xdp_md *ctx, const struct packet *packet,
			       const struct icmp_header *message, enum reply kind)
{
	const __u32 *words = (const __u32 *)message;
	__u32 quote_bytes, quote_max;
	struct cursor cursor;
	__u64 sum;
	int made;

	if (!packet || !message)
		return VERDICT_DROPPED_REPLY_RATE;
	if (!may_reply(kind + packet->flow.is_ipv6))
		return VERDICT_DROPPED_REPLY_RATE;
	quote_max = packet->flow.is_ipv6 ? QUOTE_IPV6 : QUOTE_IPV4;
	quote_bytes = packet->ip_bytes < quote_max ? packet->ip_bytes : quote_max;
	sum = sum_of_quote(ctx, packet->link_bytes, quote_bytes) + words[0] + words[1];
	cursor = make_quote(ctx, packet, quote_bytes,
			    packet->flow.is_ipv6 ? HEADERS_IPV6 : HEADERS_IPV4);
	made = packet->flow.is_ipv6
		       ? write_error_ipv6(&cursor, &packet->flow, message, quote_bytes, sum)
		       : write_error_ipv4(&cursor, &packet->flow, message, quote_bytes, sum);
	return made ? VERDICT_UNDECIDED : VERDICT_DROPPED_NO_HEADROOM;
}

static __always_inline int may_be_told(const struct packet *packet)
{
	const struct flow *flow = &packet->flow;

	if (packet->is_quoted || packet->fragment >= FRAGMENT_LATER)
		return 0;
	return flow->is_ipv6 ? is_host_ipv6(&flow->client)
			     : is_host_ipv4(mapped_ipv4(&flow->client));
}

__noinline int answer_too_big(struct xdp_md *ctx, const struct packet *packet)
{
	struct icmp_header message = {
		.type = ICMP_UNREACHABLE,
		.code = ICMP_FRAGMENTATION_NEEDED,
	};
	enum verdict verdict;

	if (!packet || !packet->dont_fragment || !may_be_told(packet) ||
	    packet->fits < (packet->flow.is_ipv6 ? IPV6_MIN_MTU : IPV4_MIN_MTU))
		return VERDICT_DROPPED_TOO_BIG;
	if (packet->flow.is_ipv6) {
		message.type = ICMPV6_TOO_BIG;
		message.code = 0;
	}
	message.rest = bpf_htonl(packet->fits);
	verdict = make_icmp_error(ctx, packet, &message, REPLY_TOO_BIG_IPV4);
	return verdict == VERDICT_UNDECIDED ? VERDICT_ANSWERED_TOO_BIG : verdict;
}

__noinline int answer_time_exceeded(struct xdp_md *ctx, const struct packet *packet)
{
	struct icmp_header message = {.type = ICMP_TIME_EXCEEDED};
	enum verdict verdict;

	if (!packet || !may_be_told(packet))
		return VERDICT_DROPPED_TTL;
	if (packet->flow.is_ipv6)
		message.type = ICMPV6_TIME_EXCEEDED;
	verdict = make_icmp_error(ctx, packet, &message, REPLY_TIME_EXCEEDED_IPV4);
	return verdict == VERDICT_UNDECIDED ? VERDICT_ANSWERED_TIME_EXCEEDED : verdict;
}
