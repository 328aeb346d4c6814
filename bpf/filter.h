/*
 * The source filter: may this client send to a VIP, and how fast? Rules for all VIPs are judged
 * before the VIP is looked up, a VIP's own rules and its limit after. In each step the longest
 * prefix decides. Only what is for a VIP's address is dropped or charged: a rule that covers the
 * edge's own router or reals takes nothing from them. Without rules it costs one branch.
 */
#pragma once

#include "maps.h"
#include "parse.h"

#define MAX_FILTER_RULES     8192 /* the tries hold twice as many: before and after a change */
#define FILTER_SCOPE_BITS    32
#define FILTER_ALL_VIPS      0  /* as a scope; a VIP's is its index + 1 */
#define FILTER_BUCKET_STRIDE 64 /* a cache line each: buckets are written by many cores */

enum filter_clock {
	FILTER_TICKS_PER_NS = 16, /* finer than ktime, so that any rate is exact to 0.5% */
};

/* Keeps the unit of time in BTF. */
const volatile enum filter_clock filter_clock_names = FILTER_TICKS_PER_NS;

enum filter_action {
	FILTER_ALLOW = 0,
	FILTER_DENY = 1,
	FILTER_LIMIT = 2,
};

struct filter_key_ipv4 {
	__u32 prefix_bits; /* of what follows: the scope's, and the address's */
	__be32 scope;
	__u8 address[4];
};

struct filter_key_ipv6 {
	__u32 prefix_bits;
	__be32 scope;
	__u8 address[16];
};

/* A token every `interval_ticks`; the bucket holds one more than `room_ticks` has intervals. */
struct filter_rule {
	__u32 index; /* into filter_buckets and the counters */
	enum filter_action action;
	__u64 interval_ticks;
	__u64 room_ticks;
};

struct vip_limit {
	__u64 interval_ticks; /* 0: no limit */
	__u64 room_ticks;
	__u32 own_rules; /* 1: some rule names this VIP */
	__u32 pad;
};

/* One number in place of tokens and a time: no refill, and one atomic addition takes a token. */
struct bucket {
	__u64 full_at_ticks; /* when the bucket is full again; in the past: it is */
	__u8 pad[FILTER_BUCKET_STRIDE - 8];
};

struct filter_settings {
	__u32 ipv4_rules; /* 0: no look-up for this family */
	__u32 ipv6_rules;
	__u32 vip_limits; /* VIPs with a limit or rules of their own */
};

_Static_assert(sizeof(struct filter_key_ipv4) == 12, "filter key layout");
_Static_assert(sizeof(struct filter_key_ipv6) == 24, "filter key layout");
_Static_assert(sizeof(struct filter_rule) == 24, "filter rule layout");
_Static_assert(sizeof(struct vip_limit) == 24, "vip limit layout");
_Static_assert(sizeof(struct bucket) == FILTER_BUCKET_STRIDE, "a bucket fills its cache line");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 2 * MAX_FILTER_RULES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct filter_key_ipv4);
	__type(value, struct filter_rule);
} filter_ipv4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 2 * MAX_FILTER_RULES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct filter_key_ipv6);
	__type(value, struct filter_rule);
} filter_ipv6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct filter_settings);
} filter_settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_FILTER_RULES);
	__type(key, __u32);
	__type(value, struct bucket);
} filter_buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_FILTER_RULES);
	__type(key, __u32);
	__type(value, struct counter);
} filter_passed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_FILTER_RULES);
	__type(key, __u32);
	__type(value, struct counter);
} filter_dropped SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct vip_limit);
} vip_limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct bucket);
} vip_buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct counter);
} vip_limited SEC(".maps");

static __always_inline __s64 ticks_until_full(__u64 full_at, __u64 now)
{
	return (__s64)(full_at - now);
}

/*
 * Takes a token from a bucket that all cores share. An empty bucket is only read, so a flood from
 * many cores moves no cache line. Never hands out one too many: who loses a race for the last token
 * gives it back.
 */
static __always_inline int take_token(struct bucket *bucket, __u64 interval, __u64 room)
{
	__u64 now = bpf_ktime_get_ns() * FILTER_TICKS_PER_NS;
	__u64 full_at = *(volatile __u64 *)&bucket->full_at_ticks;

	if (ticks_until_full(full_at, now) > (__s64)room)
		return 0;
	if (ticks_until_full(full_at, now) < 0)
		__sync_val_compare_and_swap(&bucket->full_at_ticks, full_at, now);
	full_at = __sync_fetch_and_add(&bucket->full_at_ticks, interval);
	if (ticks_until_full(full_at, now) <= (__s64)room)
		return 1;
	__sync_fetch_and_add(&bucket->full_at_ticks, -interval);
	return 0;
}

/* Null only where the map is missing, which it never is. */
static __always_inline const struct filter_settings *find_filter(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&filter_settings, &zero);
}

/* The rule of the longest prefix within a scope, or null. */
static __always_inline const struct filter_rule *
find_rule(const struct filter_settings *setting, const struct address *client, __u32 scope)
{
	struct filter_key_ipv4 ipv4 = {
		.prefix_bits = FILTER_SCOPE_BITS + 32,
		.scope = bpf_htonl(scope),
	};
	struct filter_key_ipv6 ipv6 = {
		.prefix_bits = FILTER_SCOPE_BITS + 128,
		.scope = bpf_htonl(scope),
	};

	if (is_mapped_ipv4(client)) {
		if (!setting->ipv4_rules)
			return NULL;
		__builtin_memcpy(ipv4.address, &client->words[3], sizeof(ipv4.address));
		return bpf_map_lookup_elem(&filter_ipv4, &ipv4);
	}
	if (!setting->ipv6_rules)
		return NULL;
	__builtin_memcpy(ipv6.address, client->words, sizeof(ipv6.address));
	return bpf_map_lookup_elem(&filter_ipv6, &ipv6);
}

static __always_inline enum verdict obey_rule(const struct packet *packet,
					      const struct filter_rule *rule)
{
	enum verdict verdict = VERDICT_UNDECIDED;
	__u32 index = rule->index;
	struct bucket *bucket;

	if (rule->action == FILTER_DENY) {
		verdict = VERDICT_DROPPED_DENIED;
	} else if (rule->action == FILTER_LIMIT) {
		bucket = bpf_map_lookup_elem(&filter_buckets, &index);
		if (bucket && !take_token(bucket, rule->interval_ticks, rule->room_ticks))
			verdict = VERDICT_DROPPED_PREFIX_RATE;
	}
	if (verdict == VERDICT_UNDECIDED)
		count(&filter_passed, index, packet->frame_bytes);
	else
		count(&filter_dropped, index, packet->frame_bytes);
	return verdict;
}

/* The rules for all VIPs. */
static __always_inline enum verdict filter_source(const struct filter_settings *setting,
						  const struct packet *packet)
{
	const struct filter_rule *rule;

	if (!setting || !(setting->ipv4_rules | setting->ipv6_rules))
		return VERDICT_UNDECIDED;
	rule = find_rule(setting, &packet->flow.client, FILTER_ALL_VIPS);
	if (!rule || !is_vip_address(&packet->flow.vip))
		return VERDICT_UNDECIDED;
	return obey_rule(packet, rule);
}

/* The rules that name the packet's VIP, then the VIP's own limit. */
static __always_inline enum verdict filter_vip(const struct filter_settings *setting,
					       const struct packet *packet)
{
	__u32 index = packet->vip_index;
	enum verdict verdict = VERDICT_UNDECIDED;
	const struct filter_rule *rule;
	const struct vip_limit *limit;
	struct bucket *bucket;

	if (!setting || !setting->vip_limits)
		return VERDICT_UNDECIDED;
	limit = bpf_map_lookup_elem(&vip_limits, &index);
	if (!limit)
		return VERDICT_UNDECIDED;
	if (limit->own_rules) {
		rule = find_rule(setting, &packet->flow.client, index + 1);
		if (rule)
			verdict = obey_rule(packet, rule);
	}
	if (verdict != VERDICT_UNDECIDED || !limit->interval_ticks)
		return verdict;
	bucket = bpf_map_lookup_elem(&vip_buckets, &index);
	if (!bucket || take_token(bucket, limit->interval_ticks, limit->room_ticks))
		return VERDICT_UNDECIDED;
	count(&vip_limited, index, packet->frame_bytes);
	return VERDICT_DROPPED_VIP_RATE;
}
