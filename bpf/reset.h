/*
 * Tells a TCP client at once that its VIP has no real: a reset in the VIP's name (RFC 9293 section
 * 3.10.7.1), so that it tries elsewhere instead of waiting. Made in place of the segment, which is
 * never the shorter one; never about a reset, so two ends cannot keep each other busy.
 */
#pragma once

#include "reply.h"
#include "csum.h"
#include "cursor.h"
#include "icmp.h"
#include "parse.h"
#include "wrapping.h"

#define TCP_HEADER_WORDS 5

static __always_inline void write_reset(struct tcphdr *tcp, const struct packet *packet,
					__u32 segment_bytes)
{
	const struct flow *flow = &packet->flow;
	const struct tcphdr asked = *tcp;
	__u32 *words = (__u32 *)tcp;
	__u64 sum;

	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->source = flow->vip_port;
	tcp->dest = flow->client_port;
	tcp->doff = TCP_HEADER_WORDS;
	tcp->rst = 1;
	if (asked.ack) {
		tcp->seq = asked.ack_seq;
	} else {
		tcp->ack = 1;
		tcp->ack_seq =
			bpf_htonl(bpf_ntohl(asked.seq) + segment_bytes + asked.syn + asked.fin);
	}
	sum = address_sum(&flow->client) + address_sum(&flow->vip);
	if (!flow->is_ipv6) /* the mapping's own words are no part of an IPv4 address */
		sum = (__u64)mapped_ipv4(&flow->client) + mapped_ipv4(&flow->vip);
	sum += bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(*tcp));
	sum += (__u64)words[0] + words[1] + words[2] + words[3] + words[4];
	tcp->check = ~fold_sum(sum);
}

static __always_inline enum verdict reset_ipv4(struct ethhdr *ethernet, struct cursor *cursor,
					       const struct packet *packet)
{
	struct iphdr *ip = cursor_take(cursor, sizeof(*ip));
	struct tcphdr *tcp = cursor_take(cursor, sizeof(*tcp));

	if (!ip || !tcp || ip->ihl != IPV4_MIN_HEADER_WORDS || tcp->rst || !is_host_ipv4(ip->saddr))
		return VERDICT_DROPPED_NO_REAL;
	if (!may_reply(REPLY_RESET_IPV4))
		return VERDICT_DROPPED_REPLY_RATE;
	write_reset(tcp, packet, packet->ip_bytes - sizeof(*ip) - tcp->doff * 4);
	*ip = (struct iphdr){
		.version = IPV4_VERSION,
		.ihl = IPV4_MIN_HEADER_WORDS,
		.tot_len = bpf_htons(sizeof(*ip) + sizeof(*tcp)),
		.frag_off = bpf_htons(IPV4_DONT_FRAGMENT),
		.ttl = DEFAULT_TTL,
		.protocol = IPPROTO_TCP,
		.saddr = mapped_ipv4(&packet->flow.vip),
		.daddr = mapped_ipv4(&packet->flow.client),
	};
	ip->check = ipv4_checksum(ip);
	swap_mac(ethernet);
	return VERDICT_ANSWERED_RESET;
}

static __always_inline enum verdict reset_ipv6(struct ethhdr *ethernet, struct cursor *cursor,
					       const struct packet *packet)
{
	struct ipv6hdr *ip = cursor_take(cursor, sizeof(*ip));
	struct tcphdr *tcp = cursor_take(cursor, sizeof(*tcp));

	if (!ip || !tcp || ip->nexthdr != IPPROTO_TCP || tcp->rst ||
	    !is_host_ipv6(&packet->flow.client))
		return VERDICT_DROPPED_NO_REAL;
	if (!may_reply(REPLY_RESET_IPV6))
		return VERDICT_DROPPED_REPLY_RATE;
	write_reset(tcp, packet, packet->ip_bytes - sizeof(*ip) - tcp->doff * 4);
	ip->payload_len = bpf_htons(sizeof(*tcp));
	ip->hop_limit = DEFAULT_TTL;
	__builtin_memcpy(&ip->saddr, packet->flow.vip.words, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, packet->flow.client.words, sizeof(ip->daddr));
	swap_mac(ethernet);
	return VERDICT_ANSWERED_RESET;
}

/* A function of its own: it costs the common path nothing. */
__noinline int answer_reset(struct xdp_md *ctx, const struct packet *packet)
{
	struct cursor cursor = cursor_at_start(ctx);
	struct ethhdr *ethernet = cursor_take(&cursor, sizeof(*ethernet));
	enum verdict verdict;
	int surplus;

	if (!packet || !ethernet || packet->flow.protocol != IPPROTO_TCP || packet->is_quoted ||
	    packet->fragment != FRAGMENT_NONE || !cursor_stand_at(&cursor, ctx, packet->link_bytes))
		return VERDICT_DROPPED_NO_REAL;
	verdict = packet->flow.is_ipv6 ? reset_ipv6(ethernet, &cursor, packet)
				       : reset_ipv4(ethernet, &cursor, packet);
	if (verdict != VERDICT_ANSWERED_RESET)
		return verdict;
	surplus = cursor_left(&cursor); /* data, TCP options and link padding */
	if (surplus && bpf_xdp_adjust_tail(ctx, -surplus))
		return VERDICT_DROPPED_NO_REAL;
	return VERDICT_ANSWERED_RESET;
}
