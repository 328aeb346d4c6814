/*
 * ICMP errors: which flow is one about? Eight bytes of the quoted transport are enough (RFC 792).
 * Shared by the edge, which sends an error the way of its flow, and by the real, which asks for its
 * socket. Functions tell 0 when there is no such flow.
 */
#pragma once

#include "cursor.h"
#include "extension.h"
#include "flow.h"
#include "packet.h"

#define ICMP_ECHO_REPLY     0 /* types of RFC 792 */
#define ICMP_UNREACHABLE    3
#define ICMP_ECHO_REQUEST   8
#define ICMP_TIME_EXCEEDED  11
#define ICMP_PARAMETER      12
#define ICMPV6_ERROR_MIN    1 /* types of RFC 4443: unreachable, too big, time, parameter */
#define ICMPV6_ERROR_MAX    4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY   129
#define ICMP_QUOTE_BYTES    8 /* of the quoted transport: what RFC 792 promises */

struct quoted_ports {
	__be16 source;
	__be16 destination;
	__be32 rest;
};

_Static_assert(sizeof(struct quoted_ports) == ICMP_QUOTE_BYTES, "ports and four bytes more");

static __always_inline int read_quoted_ports(struct cursor *cursor, struct flow *flow,
					     __u8 protocol)
{
	const struct quoted_ports *ports;

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	ports = cursor_take(cursor, sizeof(*ports));
	if (!ports)
		return 0;
	flow->client_port = ports->destination;
	flow->vip_port = ports->source;
	flow->protocol = protocol;
	return 1;
}

/*
 * The quote is of a packet from the VIP, which `flow` has already, to the client: its flow is the
 * other way round.
 */
static __always_inline int read_quote_ipv4(struct cursor *cursor, struct flow *flow)
{
	struct iphdr *quoted = cursor_take(cursor, sizeof(*quoted));

	if (!quoted || quoted->version != IPV4_VERSION || quoted->ihl < IPV4_MIN_HEADER_WORDS ||
	    quoted->frag_off & bpf_htons(IPV4_OFFSET_BITS) ||
	    quoted->saddr != mapped_ipv4(&flow->vip))
		return 0;
	map_ipv4(&flow->client, quoted->daddr);
	if (!cursor_stand_after(cursor, quoted, ipv4_header_bytes(quoted)))
		return 0;
	return read_quoted_ports(cursor, flow, quoted->protocol);
}

static __always_inline int read_quote_ipv6(struct xdp_md *ctx, struct cursor *cursor, __u32 at,
					   struct flow *flow)
{
	struct ipv6hdr *quoted = cursor_take(cursor, sizeof(*quoted));
	struct extension extension = {.at = at + sizeof(*quoted)};
	struct address source;

	if (!quoted || quoted->version != IPV6_VERSION)
		return 0;
	copy_ipv6(&source, &quoted->saddr);
	if (!is_same_address(&source, &flow->vip))
		return 0;
	copy_ipv6(&flow->client, &quoted->daddr);
	extension.protocol = quoted->nexthdr;
	if (!walk_extensions(ctx, &extension) || extension.fragment == FRAGMENT_LATER ||
	    !cursor_stand_at(cursor, ctx, extension.at))
		return 0;
	return read_quoted_ports(cursor, flow, extension.protocol);
}

static __always_inline int is_error_ipv4(__u8 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER;
}

static __always_inline int is_error_ipv6(__u8 type)
{
	return type >= ICMPV6_ERROR_MIN && type <= ICMPV6_ERROR_MAX;
}
