/*
 * Packets off the common path: ICMP, and IPv6 with extension headers. Verified and compiled as a
 * function of its own, which costs these packets a call and all others nothing.
 */
#pragma once

#include "cursor.h"
#include "extension.h"
#include "icmp.h"
#include "parse.h"

static __always_inline enum verdict parse_extended(struct xdp_md *ctx, struct cursor *cursor,
						   struct packet *packet)
{
	const struct ipv6hdr *ip = cursor_take(cursor, sizeof(*ip));
	struct extension extension = {.at = packet->link_bytes + sizeof(*ip)};
	enum verdict verdict;

	if (!ip)
		return VERDICT_PASSED_MALFORMED;
	extension.protocol = ip->nexthdr;
	if (!walk_extensions(ctx, &extension) || !cursor_stand_at(cursor, ctx, extension.at))
		return refuse(packet, VERDICT_DROPPED_EXTENSIONS, VERDICT_PASSED_NOT_VIP);
	packet->fragment = extension.fragment;
	packet->fragment_id = extension.id;
	if (extension.protocol == IPPROTO_ICMPV6) {
		if (!is_vip_address(&packet->flow.vip))
			return VERDICT_PASSED_ICMP;
		return take_icmp_ipv6(ctx, cursor, extension.at, packet);
	}
	verdict = parse_payload(cursor, packet, extension.protocol, 0);
	packet->transport_sum = 0; /* what it covers is not all that follows the header */
	return verdict;
}

/* Looks again at a packet that parse() found unusual. */
__noinline int parse_unusual(struct xdp_md *ctx, struct packet *packet)
{
	struct cursor cursor = cursor_at_start(ctx);
	struct ethhdr *ethernet = cursor_take(&cursor, sizeof(*ethernet));

	if (!packet || !ethernet || !cursor_stand_at(&cursor, ctx, packet->link_bytes))
		return VERDICT_PASSED_MALFORMED;
	if (packet->flow.is_ipv6)
		return parse_extended(ctx, &cursor, packet);
	return take_icmp_ipv4(&cursor, ethernet, packet);
}
