/*
 * Later fragments follow their first one: it alone has ports, so when it is handed on it leaves
 * word here. A later one that comes before its first one stays, as one whose first one stayed.
 */
#pragma once

#include "cursor.h"
#include "datagram.h"
#include "extension.h"
#include "packet.h"
#include "tunnel.h"

#define MAX_LED_AWAY 4096 /* datagrams under way at once; the oldest gives way */

/* Datagrams whose first fragment was handed on, and when (CLOCK_MONOTONIC). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_LED_AWAY);
	__type(key, struct datagram_key);
	__type(value, __u64);
} led_away SEC(".maps");

/* What the client's packet, whose IP header was found whole, is of its datagram, and of which. */
__noinline int read_fragment(struct xdp_md *ctx, const struct tunnel *tunnel,
			     struct datagram_key *key)
{
	struct extension extension = {};
	const struct ipv6hdr *ipv6;
	const struct iphdr *ipv4;
	struct cursor cursor;

	if (!tunnel || !key || !cursor_stand_at(&cursor, ctx, tunnel->inner_at))
		return FRAGMENT_NONE;
	if (tunnel->protocol != IPPROTO_IPV6) {
		ipv4 = cursor_take(&cursor, sizeof(*ipv4));
		if (!ipv4 || !(ipv4->frag_off & bpf_htons(IPV4_FRAGMENT_BITS)))
			return FRAGMENT_NONE;
		map_ipv4(&key->client, ipv4->saddr);
		map_ipv4(&key->vip, ipv4->daddr);
		key->id = ipv4->id;
		key->protocol = ipv4->protocol;
		return ipv4->frag_off & bpf_htons(IPV4_OFFSET_BITS) ? FRAGMENT_LATER
								    : FRAGMENT_FIRST;
	}
	ipv6 = cursor_take(&cursor, sizeof(*ipv6));
	if (!ipv6)
		return FRAGMENT_NONE;
	copy_ipv6(&key->client, &ipv6->saddr);
	copy_ipv6(&key->vip, &ipv6->daddr);
	extension.at = tunnel->inner_at + sizeof(*ipv6);
	extension.protocol = ipv6->nexthdr;
	if (!walk_extensions(ctx, &extension))
		return FRAGMENT_NONE;
	key->id = extension.id; /* of all protocols (RFC 8200 section 4.5) */
	return extension.fragment;
}

static __always_inline int was_led_away(const struct datagram_key *key)
{
	const __u64 *at_ns = bpf_map_lookup_elem(&led_away, key);

	return at_ns && bpf_ktime_get_ns() - *at_ns <= fragment_age_ns;
}

/* A first fragment was handed on, or stays: then an older datagram of its id counts no more. */
static __always_inline void leave_word(const struct datagram_key *key, int is_handed_on)
{
	__u64 now_ns = bpf_ktime_get_ns();

	if (is_handed_on)
		bpf_map_update_elem(&led_away, key, &now_ns, BPF_ANY);
	else
		bpf_map_delete_elem(&led_away, key);
}
