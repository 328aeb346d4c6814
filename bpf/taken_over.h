/*
 * Flows that other edges of the site told of (decision 14): asked when a packet that begins no
 * connection is of a flow that this edge does not remember, and its VIP shares its flows. The agent
 * writes the table (bpf/share.c); what is used of it goes over into this edge's own flow memory.
 */
#pragma once

#include "flows.h"

#define TAKEN_OVER_NOW 0 /* the only index of the array of tables */

/* A table as those of flow memory, behind a first bucket that tells how many follow. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct flow_table);
} taken_over SEC(".maps");

static __always_inline struct flow_entry *find_taken_over(__u64 hash)
{
	__u32 now = TAKEN_OVER_NOW, bucket = 0;
	void *table = bpf_map_lookup_elem(&taken_over, &now);
	struct flow_bucket *found;

	if (!table)
		return NULL;
	found = bpf_map_lookup_elem(table, &bucket);
	if (!found)
		return NULL;
	bucket = 1 + (__u32)((hash & 0xffffffff) * found->entries[0].value >> 32);
	found = bpf_map_lookup_elem(table, &bucket);
	return found ? recall_flow(found, hash) : NULL;
}

/* What was told of a flow, or 0. A function of its own: a flow needs it once. */
__noinline __u64 recall_taken_over(__u64 hash)
{
	struct flow_entry *entry = find_taken_over(hash);

	return entry ? entry->value : 0;
}

/* The client begins anew with a flow's ports: what was told is of an earlier connection. */
__noinline int forget_taken_over(__u64 hash)
{
	struct flow_entry *entry = find_taken_over(hash);

	if (entry)
		forget_flow(entry);
	return entry != NULL;
}
