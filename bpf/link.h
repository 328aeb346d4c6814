/*
 * The link header: Ethernet, and up to two VLAN tags behind it. What follows is alike with and
 * without them, so a program reads over the tags, and remembers only how long the header was.
 */
#pragma once

#include "cursor.h"
#include "packet.h"

#define MAX_VLAN_TAGS  2
#define MAX_LINK_BYTES (sizeof(struct ethhdr) + MAX_VLAN_TAGS * sizeof(struct vlan_tag))

/* A tag as it is met, after the EtherType that announces it: the tag's rest, the next EtherType. */
struct announced_tag {
	__be16 tci;
	__be16 next;
};

_Static_assert(sizeof(struct announced_tag) == sizeof(struct vlan_tag), "moved by an EtherType");

static __always_inline int is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/* Moves over the tags to what they tag, which is a tag still when there are too many of them. */
static __always_inline __be16 skip_tags(struct cursor *cursor, __be16 protocol)
{
	const struct announced_tag *tag;

	for (int i = 0; i < MAX_VLAN_TAGS && is_vlan(protocol); i++) {
		tag = cursor_take(cursor, sizeof(*tag));
		if (!tag)
			return 0;
		protocol = tag->next;
	}
	return protocol;
}

static __always_inline void swap_mac(struct ethhdr *ethernet)
{
	__u8 kept[ETH_ALEN];

	__builtin_memcpy(kept, ethernet->h_dest, ETH_ALEN);
	__builtin_memcpy(ethernet->h_dest, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, kept, ETH_ALEN);
}
