/*
 * From a frame to a flow: which client, which address and port, and may a real have it at all.
 * Until the destination is known to be a VIP, nothing is dropped: the stack judges its own packets.
 */
#pragma once

#include "cursor.h"
#include "flow.h"
#include "link.h"
#include "maps.h"
#include "packet.h"
#include "services.h"

struct packet {
	struct flow flow;
	__u64 hash;
	__u32 frame_bytes;   /* as it arrived */
	__u16 ip_bytes;      /* the IP packet: without link padding */
	__u16 transport_sum; /* bytes that the client's TCP or UDP checksum covers; 0: it has none
			      */
	__u8 dscp;           /* in place: the upper six bits of TOS or traffic class */
	__u8 ttl;            /* or hop limit */
	__u8 starts_connection; /* TCP: SYN without ACK */
	__u8 is_quoted;         /* an ICMP error: the flow is of the packet that it quotes */
	__u8 dont_fragment;     /* as all of IPv6 */
	__u8 link_bytes;        /* before the IP packet: Ethernet and VLAN tags */
	enum fragment fragment;
	__be32 fragment_id;
	__u32 fits;      /* bytes of IP packet, when this one did not */
	__u32 vip_index; /* VIP_NONE until it is found */
	__u32 real_index;
	__u32 real_epoch; /* of a later fragment: when its first one was sent to that real */
	__u32 out_ifindex;
};

/* Reads ports and the SYN flag; tells whether the whole header was there. */
static __always_inline int parse_transport(struct cursor *cursor, struct packet *packet,
					   __u16 bytes)
{
	const struct tcphdr *tcp;
	const struct udphdr *udp;

	if (packet->flow.protocol == IPPROTO_TCP) {
		tcp = cursor_take(cursor, sizeof(*tcp));
		if (!tcp)
			return 0;
		packet->flow.client_port = tcp->source;
		packet->flow.vip_port = tcp->dest;
		packet->starts_connection = tcp->syn && !tcp->ack;
		packet->transport_sum = bytes;
		return 1;
	}
	udp = cursor_take(cursor, sizeof(*udp));
	if (!udp)
		return 0;
	packet->flow.client_port = udp->source;
	packet->flow.vip_port = udp->dest;
	packet->transport_sum = udp->check ? bytes : 0;
	return 1;
}

/* Before the flow is known to be a VIP's, its faults are the stack's to judge. */
static __always_inline enum verdict refuse(const struct packet *packet, enum verdict of_vip,
					   enum verdict of_others)
{
	return is_vip_address(&packet->flow.vip) ? of_vip : of_others;
}

/* `cursor` stands behind the IP header or headers, `bytes` are left of the IP packet. */
static __always_inline enum verdict parse_payload(struct cursor *cursor, struct packet *packet,
						  __u8 protocol, __u16 bytes)
{
	packet->flow.protocol = protocol;
	/* The stack would route what is for a VIP back to the router, and the router here again. */
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return refuse(packet, VERDICT_DROPPED_NO_SERVICE, VERDICT_PASSED_OTHER_PROTOCOL);
	if (packet->fragment == FRAGMENT_LATER)
		return is_vip_address(&packet->flow.vip) ? VERDICT_UNDECIDED
							 : VERDICT_PASSED_NOT_VIP;
	if (!parse_transport(cursor, packet, bytes))
		return refuse(packet, VERDICT_DROPPED_SHORT, VERDICT_PASSED_NOT_VIP);
	if (packet->fragment == FRAGMENT_FIRST)
		packet->transport_sum = 0; /* it covers the other fragments too */
	return VERDICT_UNDECIDED;
}

static __always_inline enum verdict parse_ipv4(struct cursor *cursor, struct packet *packet)
{
	__u32 frame_left = cursor_left(cursor);
	struct iphdr *ip = cursor_take(cursor, sizeof(*ip));
	__u32 header_bytes;

	if (!ip || ip->version != IPV4_VERSION || ip->ihl < IPV4_MIN_HEADER_WORDS)
		return VERDICT_PASSED_MALFORMED;
	header_bytes = ipv4_header_bytes(ip);
	packet->ip_bytes = bpf_ntohs(ip->tot_len);
	if (packet->ip_bytes < header_bytes || packet->ip_bytes > frame_left ||
	    !cursor_stand_after(cursor, ip, header_bytes))
		return VERDICT_PASSED_MALFORMED;
	map_ipv4(&packet->flow.client, ip->saddr);
	map_ipv4(&packet->flow.vip, ip->daddr);
	packet->flow.is_ipv6 = 0;
	packet->ttl = ip->ttl;
	packet->dscp = ip->tos & DSCP_BITS;
	packet->dont_fragment = !!(ip->frag_off & bpf_htons(IPV4_DONT_FRAGMENT));
	if (ip->protocol == IPPROTO_ICMP)
		return refuse(packet, VERDICT_UNUSUAL, VERDICT_PASSED_ICMP);
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_BITS)) {
		packet->fragment = ip->frag_off & bpf_htons(IPV4_OFFSET_BITS) ? FRAGMENT_LATER
									      : FRAGMENT_FIRST;
		packet->fragment_id = ip->id;
	}
	return parse_payload(cursor, packet, ip->protocol, packet->ip_bytes - header_bytes);
}

static __always_inline enum verdict parse_ipv6(struct cursor *cursor, struct packet *packet)
{
	__u32 frame_left = cursor_left(cursor);
	const struct ipv6hdr *ip = cursor_take(cursor, sizeof(*ip));
	__u32 ip_bytes;

	if (!ip || ip->version != IPV6_VERSION)
		return VERDICT_PASSED_MALFORMED;
	ip_bytes = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	if (ip_bytes > frame_left || ip_bytes > 0xffff)
		return VERDICT_PASSED_MALFORMED;
	packet->ip_bytes = (__u16)ip_bytes;
	copy_ipv6(&packet->flow.client, &ip->saddr);
	copy_ipv6(&packet->flow.vip, &ip->daddr);
	packet->flow.is_ipv6 = 1;
	packet->ttl = ip->hop_limit;
	packet->dscp = ipv6_traffic_class(ip) & DSCP_BITS;
	packet->dont_fragment = 1;
	if (ip->nexthdr != IPPROTO_TCP && ip->nexthdr != IPPROTO_UDP)
		return VERDICT_UNUSUAL;
	return parse_payload(cursor, packet, ip->nexthdr, packet->ip_bytes - sizeof(*ip));
}

static __always_inline enum verdict parse(struct xdp_md *ctx, struct packet *packet)
{
	struct cursor cursor = cursor_at_start(ctx);
	const struct ethhdr *ethernet;
	__be16 protocol;

	packet->frame_bytes = cursor_left(&cursor);
	ethernet = cursor_take(&cursor, sizeof(*ethernet));
	if (!ethernet)
		return VERDICT_PASSED_NOT_IP;
	protocol = ethernet->h_proto;
	packet->link_bytes = sizeof(*ethernet);
	/* The common packet is asked for tags last. */
	if (protocol != bpf_htons(ETH_P_IP) && protocol != bpf_htons(ETH_P_IPV6)) {
		protocol = skip_tags(&cursor, protocol);
		packet->link_bytes = packet->frame_bytes - cursor_left(&cursor);
	}
	switch (protocol) {
	case bpf_htons(ETH_P_IP):
		return parse_ipv4(&cursor, packet);
	case bpf_htons(ETH_P_IPV6):
		return parse_ipv6(&cursor, packet);
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return VERDICT_PASSED_TAGS;
	default:
		return VERDICT_PASSED_NOT_IP;
	}
}
