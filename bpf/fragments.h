/*
 * Fragments: only the first has ports, so it leaves word for the later ones where their datagram
 * goes, whatever becomes of the ring meanwhile. One table for all cores: fragments of a datagram
 * come by the queue of their addresses, whole packets of the same flow by another.
 */
#pragma once

#include "datagram.h"
#include "maps.h"
#include "parse.h"

#define MAX_DATAGRAMS 16384 /* under way at once; the oldest gives way */

struct datagram_value {
	__be16 client_port;
	__be16 vip_port;
	__u32 real;
	__u32 epoch;
	__u32 pad;     /* always zero */
	__u64 seen_ns; /* CLOCK_MONOTONIC */
};

_Static_assert(sizeof(struct datagram_value) == 24, "datagram value layout");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_DATAGRAMS);
	__type(key, struct datagram_key);
	__type(value, struct datagram_value);
} datagrams SEC(".maps");

static __always_inline struct datagram_key key_of_datagram(const struct packet *packet)
{
	return (struct datagram_key){
		.client = packet->flow.client,
		.vip = packet->flow.vip,
		.id = packet->fragment_id,
		.protocol = packet->flow.protocol,
	};
}

/* Completes a later fragment's flow, and names its real, from what the first one left. */
static __always_inline void recall_datagram(struct packet *packet)
{
	struct datagram_key key = key_of_datagram(packet);
	const struct datagram_value *datagram = bpf_map_lookup_elem(&datagrams, &key);

	if (!datagram || bpf_ktime_get_ns() - datagram->seen_ns > fragment_age_ns) {
		packet->fragment = FRAGMENT_ORPHAN;
		return;
	}
	packet->flow.client_port = datagram->client_port;
	packet->flow.vip_port = datagram->vip_port;
	packet->real_index = datagram->real;
	packet->real_epoch = datagram->epoch;
}

static __always_inline void remember_datagram(const struct packet *packet, __u32 epoch)
{
	struct datagram_key key = key_of_datagram(packet);
	struct datagram_value value = {
		.client_port = packet->flow.client_port,
		.vip_port = packet->flow.vip_port,
		.real = packet->real_index,
		.epoch = epoch,
		.seen_ns = bpf_ktime_get_ns(),
	};

	bpf_map_update_elem(&datagrams, &key, &value, BPF_ANY);
}
