/*
 * IPv6 extension headers (RFC 8200 section 4): walked to the transport, a bounded number of them.
 */
#pragma once

#include "cursor.h"
#include "packet.h"

#define MAX_EXTENSIONS        6
#define EXTENSION_HOP_BY_HOP  0
#define EXTENSION_ROUTING     43
#define EXTENSION_FRAGMENT    44
#define EXTENSION_AUTH        51
#define EXTENSION_DESTINATION 60
#define EXTENSION_UNIT        8 /* bytes; the first of them is not counted */
#define EXTENSION_AUTH_UNIT   4 /* bytes; the first two are not counted (RFC 4302) */
#define IPV6_OFFSET_BITS      0xfff8
#define IPV6_MORE_FRAGMENTS   0x0001

struct extension_header {
	__u8 next;
	__u8 units;
	__be16 offset_and_more; /* of a fragment */
	__be32 id;              /* of a fragment */
};

_Static_assert(sizeof(struct extension_header) == EXTENSION_UNIT, "no extension is shorter");

/* What the walk has found: `protocol` is the next header's, first the fixed header's. */
struct extension {
	__u8 protocol;
	__u8 were_any;
	enum fragment fragment;
	__be32 id;
};

/* 0 when the packet ends within, or there are too many. A later fragment has nothing behind. */
static __always_inline int walk_extensions(struct cursor *cursor, struct extension *found)
{
	struct extension_header *header;
	__u32 bytes;

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		switch (found->protocol) {
		case EXTENSION_HOP_BY_HOP:
		case EXTENSION_ROUTING:
		case EXTENSION_DESTINATION:
		case EXTENSION_AUTH:
		case EXTENSION_FRAGMENT:
			break;
		default:
			return 1;
		}
		header = cursor_take(cursor, sizeof(*header));
		if (!header)
			return 0;
		found->were_any = 1;
		bytes = EXTENSION_UNIT;
		if (found->protocol == EXTENSION_AUTH) {
			bytes = (header->units + 2) * EXTENSION_AUTH_UNIT;
		} else if (found->protocol != EXTENSION_FRAGMENT) {
			bytes = (header->units + 1) * EXTENSION_UNIT;
		} else {
			found->id = header->id;
			if (header->offset_and_more & bpf_htons(IPV6_OFFSET_BITS))
				found->fragment = FRAGMENT_LATER;
			else if (header->offset_and_more & bpf_htons(IPV6_MORE_FRAGMENTS))
				found->fragment = FRAGMENT_FIRST;
		}
		found->protocol = header->next;
		if (!cursor_stand_after(cursor, header, bytes))
			return 0;
		if (found->fragment == FRAGMENT_LATER)
			return 1;
	}
	return 0;
}
