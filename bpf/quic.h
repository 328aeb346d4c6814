/*
 * QUIC: a server puts its own id into the connection ids it gives out, in the plain form of
 * draft-ietf-quic-load-balancers: the upper three bits of the first octet tell the configuration,
 * the next octets are the server's id. So a connection keeps its real when the client's address
 * changes. An id of nobody, as clients make up for their first packets, leaves it to the flow.
 */
#pragma once

#include "cursor.h"
#include "maps.h"
#include "parse.h"
#include "reals.h"

#define QUIC_LONG_HEADER    0x80 /* RFC 9000 section 17.2; RFC 8999: in every version */
#define QUIC_ROTATION_SHIFT 5
#define QUIC_MAX_ID_BYTES   4
#define MAX_SERVER_IDS      65536 /* of all VIPs that read them: one for each real of each */

struct quic_key {
	__u32 vip_index;
	__u32 server_id;
};

struct quic_value {
	__u32 real;
	__u32 epoch;
};

_Static_assert(sizeof(struct quic_key) == 8, "quic key layout");
_Static_assert(sizeof(struct quic_value) == 8, "quic value layout");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SERVER_IDS);
	__type(key, struct quic_key);
	__type(value, struct quic_value);
} quic_servers SEC(".maps");

/* RFC 8999 section 5.1: a long header's version, then the length of the id. */
struct quic_long_header {
	__u8 first;
	__u8 version[4];
	__u8 id_bytes;
};

_Static_assert(sizeof(struct quic_long_header) == 6, "no holes");

/* Stands at the connection id that the packet is for; 0 when it cannot hold a server's id. */
static __always_inline int stand_at_connection_id(struct cursor *cursor, __u32 id_bytes)
{
	const struct quic_long_header *header;
	struct cursor start = *cursor;
	const __u8 *first = cursor_take(cursor, sizeof(*first));

	if (!first)
		return 0;
	if (!(*first & QUIC_LONG_HEADER))
		return 1;
	header = cursor_take(&start, sizeof(*header));
	if (!header || header->id_bytes < 1 + id_bytes)
		return 0;
	*cursor = start;
	return 1;
}

/* Stands behind the UDP header of a packet without extension headers. */
static __always_inline int stand_at_datagram(struct cursor *cursor, const struct xdp_md *ctx,
					     const struct packet *packet)
{
	struct iphdr *ip;

	if (!cursor_stand_at(cursor, ctx, packet->link_bytes))
		return 0;
	if (packet->flow.is_ipv6)
		return cursor_take(cursor, sizeof(struct ipv6hdr) + sizeof(struct udphdr)) != NULL;
	ip = cursor_take(cursor, sizeof(*ip));
	return ip && cursor_stand_after(cursor, ip, ipv4_header_bytes(ip)) &&
	       cursor_take(cursor, sizeof(struct udphdr));
}

/*
 * Names the real and its epoch in the packet, if its connection id does; tells whether. A function
 * of its own: it costs other VIPs' packets nothing.
 */
__noinline int read_server_id(struct xdp_md *ctx, struct packet *packet, __u32 id_bytes,
			      __u32 rotation)
{
	const struct quic_value *server;
	struct quic_key key = {};
	struct cursor cursor;
	const __u8 *octet;

	if (!packet || !stand_at_datagram(&cursor, ctx, packet) ||
	    !stand_at_connection_id(&cursor, id_bytes))
		return 0;
	octet = cursor_take(&cursor, sizeof(*octet));
	if (!octet || *octet >> QUIC_ROTATION_SHIFT != rotation)
		return 0;
	for (__u32 i = 0; i < QUIC_MAX_ID_BYTES && i < id_bytes; i++) {
		octet = cursor_take(&cursor, sizeof(*octet));
		if (!octet)
			return 0;
		key.server_id = key.server_id << 8 | *octet;
	}
	key.vip_index = packet->vip_index;
	server = bpf_map_lookup_elem(&quic_servers, &key);
	if (!server)
		return 0;
	packet->real_index = server->real;
	packet->real_epoch = server->epoch;
	return 1;
}
