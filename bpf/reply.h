/*
 * Token buckets for what the edge itself says to clients, so that nobody can make it talk without
 * end. One for each kind of reply, on each core. Credit is time: it grows with the clock up to the
 * burst, and a reply costs a fixed share of it, so there is no division and no rounding.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

const volatile __u64 reply_cost_ns = 1000ULL * 1000;        /* 1000 replies a second */
const volatile __u64 reply_burst_ns = 100 * 1000ULL * 1000; /* 100 at once */

/* Each address family has its own, so that one cannot silence the other; IPv6 stands behind IPv4.
 */
enum reply {
	REPLY_PING_IPV4,
	REPLY_PING_IPV6,
	REPLY_TOO_BIG_IPV4,
	REPLY_TOO_BIG_IPV6,
	REPLY_RESET_IPV4,
	REPLY_RESET_IPV6,
	REPLY_TIME_EXCEEDED_IPV4,
	REPLY_TIME_EXCEEDED_IPV6,
	REPLY_COUNT,
};

struct reply_bucket {
	__u64 credit_ns;
	__u64 refilled_ns; /* CLOCK_MONOTONIC */
};

_Static_assert(sizeof(struct reply_bucket) == 16, "reply bucket layout");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REPLY_COUNT);
	__type(key, __u32);
	__type(value, struct reply_bucket);
} reply_buckets SEC(".maps");

/* Pays for one reply; 0 when there were too many of its kind lately. */
static __always_inline int may_reply(enum reply kind)
{
	__u32 index = kind;
	struct reply_bucket *bucket = bpf_map_lookup_elem(&reply_buckets, &index);
	__u64 now = bpf_ktime_get_ns();

	if (!bucket)
		return 0;
	if (now > bucket->refilled_ns) {
		bucket->credit_ns += now - bucket->refilled_ns;
		if (bucket->credit_ns > reply_burst_ns)
			bucket->credit_ns = reply_burst_ns;
		bucket->refilled_ns = now;
	}
	if (bucket->credit_ns < reply_cost_ns)
		return 0;
	bucket->credit_ns -= reply_cost_ns;
	return 1;
}
