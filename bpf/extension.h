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
	__u32 at; /* where in the frame it has come to */
	__u8 protocol;
	__u8 were_any;
	__u8 fragment; /* enum fragment */
	__u8 pad;
	__be32 id;
};

/*
 * 0 when the packet ends within, or there are too many. A later fragment has nothing behind. A
 * function of its own, by offsets: the verifier follows it once, however many the callers' paths.
 */
__noinline int walk_extensions(struct xdp_md *ctx, struct extension *found)
{
	struct extension_header header;
	__u8 protocol;

	if (!found)
		return 0;
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		protocol = found->protocol;
		if (protocol != EXTENSION_HOP_BY_HOP && protocol != EXTENSION_ROUTING &&
		    protocol != EXTENSION_DESTINATION && protocol != EXTENSION_AUTH &&
		    protocol != EXTENSION_FRAGMENT)
			return 1;
		if (bpf_xdp_load_bytes(ctx, found->at, &header, sizeof(header)))
			return 0;
		found->were_any = 1;
		found->protocol = header.next;
		if (protocol == EXTENSION_AUTH) {
			found->at += (header.units + 2) * EXTENSION_AUTH_UNIT;
			continue;
		}
		if (protocol != EXTENSION_FRAGMENT) {
			found->at += (header.units + 1) * EXTENSION_UNIT;
			continue;
		}
		found->at += EXTENSION_UNIT;
		found->id = header.id;
		if (header.offset_and_more & bpf_htons(IPV6_OFFSET_BITS)) {
			found->fragment = FRAGMENT_LATER;
			return 1;
		}
		if (header.offset_and_more & bpf_htons(IPV6_MORE_FRAGMENTS))
			found->fragment = FRAGMENT_FIRST;
	}
	return 0;
}
