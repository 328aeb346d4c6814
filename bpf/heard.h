/*
 * What each edge says of the site's history: the generation that came with its chains last. Edges
 * that differ for long do not follow the same history, and an operator is to see it.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "tunnel.h"

#define MAX_EDGES_HEARD 256 /* the one that was silent for longest gives way */

struct heard_value {
	__u64 packets; /* with a chain */
	__u64 seen_ns; /* CLOCK_MONOTONIC, of the last of them */
	__u32 generation;
	__u32 pad; /* always zero */
};

_Static_assert(sizeof(struct heard_value) == 24, "heard value layout");

/* By the edge's tunnel address. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, MAX_EDGES_HEARD);
	__type(key, struct address);
	__type(value, struct heard_value);
} edges_heard SEC(".maps");

/* Only what an edge sent itself: a packet that was handed on comes from a real. */
static __always_inline void hear_edge(const struct tunnel *tunnel)
{
	struct heard_value *heard, first = {};

	if (tunnel->next)
		return;
	heard = bpf_map_lookup_elem(&edges_heard, &tunnel->source);
	if (!heard) {
		bpf_map_update_elem(&edges_heard, &tunnel->source, &first, BPF_NOEXIST);
		heard = bpf_map_lookup_elem(&edges_heard, &tunnel->source);
	}
	if (!heard)
		return;
	heard->packets++;
	heard->seen_ns = bpf_ktime_get_coarse_ns();
	heard->generation = tunnel->generation;
}
