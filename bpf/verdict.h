/*
 * Counting. Every exit of a packet is one verdict, counted once, and its prefix is the action:
 * VERDICT_PASSED_, VERDICT_DROPPED_, VERDICT_ANSWERED_ (sent back), VERDICT_FORWARDED_. Each
 * program's enum is in its own header and stays in BTF, where Python reads the names. Counters are
 * per CPU, so they need no atomics.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct counter {
	__u64 packets;
	__u64 bytes;
};

_Static_assert(sizeof(struct counter) == 16, "counter layout");

static __always_inline void count(void *counters, __u32 index, __u32 bytes)
{
	struct counter *counter = bpf_map_lookup_elem(counters, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}
