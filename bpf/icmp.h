/*
 * ICMP and ICMPv6 for a VIP. A ping is answered here, in place: the same bytes with the addresses
 * exchanged, never more of them. An error about a packet from the VIP belongs to the real that sent
 * it, so it takes the way of the flow that it quotes; eight bytes of the quoted transport are
 * enough (RFC 792). Everything else ends here.
 */
#pragma once

#include "reply.h"
#include "csum.h"
#include "cursor.h"
#include "flow.h"
#include "lb_verdict.h"
#include "link.h"
#include "packet.h"
#include "parse.h"
#include "quote.h"

static __always_inline enum verdict answer_ping_ipv4(struct ethhdr *ethernet, struct iphdr *ip,
						     struct icmp_header *icmp)
{
	__be32 client = ip->saddr;

	if (ip->ihl != IPV4_MIN_HEADER_WORDS || !is_host_ipv4(client) || client == ip->daddr)
		return VERDICT_DROPPED_ICMP;
	if (!may_reply(REPLY_PING_IPV4))
		return VERDICT_DROPPED_REPLY_RATE;
	icmp->type = ICMP_ECHO_REPLY;
	icmp->checksum = checksum_of_less(icmp->checksum, bpf_htons(ICMP_ECHO_REQUEST << 8));
	if (!icmp->checksum) /* 0 and 0xffff are alike, but not where all of the data is 0 */
		icmp->checksum = 0xffff;
	ip->saddr = ip->daddr;
	ip->daddr = client;
	ip->ttl = DEFAULT_TTL;
	ip->check = 0;
	ip->check = ipv4_checksum(ip);
	swap_mac(ethernet);
	return VERDICT_ANSWERED_PING;
}

/* The addresses change places, so the checksum knows of the type alone: one more in its high byte.
 */
static __always_inline enum verdict answer_ping_ipv6(struct xdp_md *ctx, struct icmp_header *icmp,
						     const struct packet *packet)
{
	const struct flow *flow = &packet->flow;
	struct cursor cursor = cursor_at_start(ctx);
	struct ethhdr *ethernet = cursor_take(&cursor, sizeof(*ethernet));
	struct ipv6hdr *ip;

	if (!ethernet || !cursor_stand_at(&cursor, ctx, packet->link_bytes))
		return VERDICT_DROPPED_ICMP;
	ip = cursor_take(&cursor, sizeof(*ip));
	if (!ip || ip->nexthdr != IPPROTO_ICMPV6 || !is_host_ipv6(&flow->client) ||
	    is_same_address(&flow->client, &flow->vip))
		return VERDICT_DROPPED_ICMP;
	if (!may_reply(REPLY_PING_IPV6))
		return VERDICT_DROPPED_REPLY_RATE;
	icmp->type = ICMPV6_ECHO_REPLY;
	icmp->checksum = checksum_of_less(icmp->checksum, (__be16)~bpf_htons(0x0100));
	__builtin_memcpy(&ip->saddr, flow->vip.words, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, flow->client.words, sizeof(ip->daddr));
	ip->hop_limit = DEFAULT_TTL;
	swap_mac(ethernet);
	return VERDICT_ANSWERED_PING;
}

/* Undecided means: the packet's flow is the one that an error is about. */
static __always_inline enum verdict take_icmp_ipv4(struct cursor *cursor, struct ethhdr *ethernet,
						   struct packet *packet)
{
	struct iphdr *ip = cursor_take(cursor, sizeof(*ip));
	struct icmp_header *icmp;

	if (!ip || ip->frag_off & bpf_htons(IPV4_FRAGMENT_BITS) ||
	    !cursor_stand_after(cursor, ip, ipv4_header_bytes(ip)))
		return VERDICT_DROPPED_ICMP;
	icmp = cursor_take(cursor, sizeof(*icmp));
	if (!icmp)
		return VERDICT_DROPPED_ICMP;
	packet->is_quoted = 1;
	if (icmp->type == ICMP_ECHO_REQUEST)
		return answer_ping_ipv4(ethernet, ip, icmp);
	if (!is_error_ipv4(icmp->type))
		return VERDICT_DROPPED_ICMP;
	return read_quote_ipv4(cursor, &packet->flow) ? VERDICT_UNDECIDED : VERDICT_DROPPED_QUOTE;
}

/* As above; `cursor` stands at the offset `at`, behind the IPv6 header and its extensions. */
static __always_inline enum verdict take_icmp_ipv6(struct xdp_md *ctx, struct cursor *cursor,
						   __u32 at, struct packet *packet)
{
	struct icmp_header *icmp = cursor_take(cursor, sizeof(*icmp));

	if (!icmp || packet->fragment != FRAGMENT_NONE)
		return VERDICT_DROPPED_ICMP;
	packet->is_quoted = 1;
	if (icmp->type == ICMPV6_ECHO_REQUEST)
		return answer_ping_ipv6(ctx, icmp, packet);
	if (!is_error_ipv6(icmp->type))
		return VERDICT_DROPPED_ICMP;
	return read_quote_ipv6(ctx, cursor, at + sizeof(*icmp), &packet->flow)
		       ? VERDICT_UNDECIDED
		       : VERDICT_DROPPED_QUOTE;
}
