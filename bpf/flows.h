/*
 * Flow memory: which real a flow has, so that a change of the ring does not move it. A TCP flow is
 * remembered at its first packet that is not a SYN, so a SYN flood evicts nobody. A SYN forgets:
 * the client reuses its port, and the ring decides. A UDP flow is remembered at once, and for a
 * time.
 *
 * A table is an array of buckets of two cache lines. A flow's hash names its bucket and the line
 * where it is looked for first. An entry does not hold the flow but its whole hash, which no other
 * flow of the same ports has, and one in 2^60 of others. Tables are by receive queue: a flow's
 * packets meet one queue (RSS), and a queue is served by one core at a time, so they need no lock.
 * By CPU they would be lost when a queue's interrupt moves. Should two cores meet in an entry
 * nevertheless, its seal is broken, and it names no flow.
 */
#pragma once

#include "maps.h"
#include "parse.h"

#define MAX_QUEUES      1024
#define MAX_FLOW_TABLES 64 /* 0 is shared by all VIPs that want no room of their own */
#define LINE_FLOWS      4
#define BUCKET_FLOWS    (2 * LINE_FLOWS)

/*
 * A flow's value: its real, what proves that the real's index has no new owner, whether the flow is
 * in use (the bit of the clock algorithm), and for UDP, and for VIPs that share their flows, when
 * it had its last packet.
 */
#define FLOW_REAL_BITS  16
#define FLOW_EPOCH_BITS 23
#define FLOW_EPOCH_MASK ((1U << FLOW_EPOCH_BITS) - 1)
#define FLOW_AGAIN      (1ULL << 39) /* it had more than one packet since it was passed over */
#define FLOW_TICK_SHIFT 40
#define FLOW_TICK_MASK  0xffffff

/* A tick is 2^27 ns of CLOCK_MONOTONIC, about an eighth of a second. */
#define TICK_NS_SHIFT 27

enum flow_numbers {
	FLOW_NUMBER_BUCKET_FLOWS = BUCKET_FLOWS,
	FLOW_NUMBER_MAX_QUEUES = MAX_QUEUES,
	FLOW_NUMBER_MAX_TABLES = MAX_FLOW_TABLES,
	FLOW_NUMBER_EPOCH_BITS = FLOW_EPOCH_BITS,
	FLOW_NUMBER_TICK_SHIFT = FLOW_TICK_SHIFT,
	FLOW_NUMBER_TICK_NS_SHIFT = TICK_NS_SHIFT,
};

/* Keeps these numbers in BTF. */
const volatile enum flow_numbers flow_numbers = FLOW_NUMBER_BUCKET_FLOWS;

const volatile __u32 udp_flow_age_ticks = 224; /* 30 seconds */

struct flow_entry {
	__u64 seal; /* the flow's hash, exclusive-or the value */
	__u64 value;
};

struct flow_bucket {
	struct flow_entry entries[BUCKET_FLOWS];
};

_Static_assert(sizeof(struct flow_bucket) == 128, "two cache lines");
_Static_assert(MAX_REALS <= 1 << FLOW_REAL_BITS, "a real's index fits");

/* Inner maps name their types by pointer only; this keeps the layout in BTF. */
const volatile struct flow_bucket flow_bucket_layout;

/* Made by the agent in the size that it wants. */
struct flow_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_bucket);
};

/* By table and receive queue. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_FLOW_TABLES *MAX_QUEUES);
	__type(key, __u32);
	__array(values, struct flow_table);
} flows SEC(".maps");

static __always_inline __u32 ticks_now(void)
{
	return bpf_ktime_get_coarse_ns() >> TICK_NS_SHIFT & FLOW_TICK_MASK;
}

/* The bucket of a flow in the memory of its VIP and receive queue, or null. */
static __always_inline struct flow_bucket *find_bucket(const struct xdp_md *ctx,
						       const struct vip *vip, __u64 hash)
{
	__u32 index = vip->flow_table * MAX_QUEUES + ctx->rx_queue_index;
	__u32 bucket = (hash & 0xffffffff) * vip->flow_buckets >> 32;
	void *table;

	if (ctx->rx_queue_index >= MAX_QUEUES)
		return NULL;
	table = bpf_map_lookup_elem(&flows, &index);
	return table ? bpf_map_lookup_elem(table, &bucket) : NULL;
}

/* The number of a flow's own line. */
static __always_inline __u32 own_line(__u64 hash)
{
	return hash & 1;
}

static __always_inline struct flow_entry *find_in_line(struct flow_entry *line, __u64 hash)
{
	for (int i = 0; i < LINE_FLOWS; i++)
		if ((line[i].seal ^ line[i].value) == hash)
			return &line[i];
	return NULL;
}

static __always_inline struct flow_entry *recall_flow(struct flow_bucket *bucket, __u64 hash)
{
	struct flow_entry *first = &bucket->entries[own_line(hash) * LINE_FLOWS];
	struct flow_entry *second = &bucket->entries[LINE_FLOWS - own_line(hash) * LINE_FLOWS];
	struct flow_entry *found = find_in_line(first, hash);

	return found ? found : find_in_line(second, hash);
}

static __always_inline void write_flow(struct flow_entry *entry, __u64 hash, __u64 value)
{
	entry->seal = hash ^ value;
	entry->value = value;
}

/* Of UDP, and of flows that are told to others: reading the clock costs as much as all else here.
 */
static __always_inline __u64 ticks_of(const struct flow *flow, const struct vip *vip)
{
	return flow->protocol == IPPROTO_UDP || vip->flags & VIP_SHARES_FLOWS ? ticks_now() : 0;
}

static __always_inline __u64 flow_value(const struct packet *packet, const struct vip *vip,
					const struct real_value *real)
{
	return packet->real_index | (__u64)(real->epoch & FLOW_EPOCH_MASK) << FLOW_REAL_BITS |
	       ticks_of(&packet->flow, vip) << FLOW_TICK_SHIFT;
}

static __always_inline __u32 real_of(__u64 value)
{
	return value & ((1U << FLOW_REAL_BITS) - 1);
}

static __always_inline int is_owner(__u64 value, const struct real_value *real)
{
	return (value >> FLOW_REAL_BITS & FLOW_EPOCH_MASK) == (real->epoch & FLOW_EPOCH_MASK);
}

static __always_inline __u32 idle_ticks(__u64 value, __u32 now)
{
	return (now - (__u32)(value >> FLOW_TICK_SHIFT)) & FLOW_TICK_MASK;
}

/* The flow has one packet more: written down if that is news. */
static __always_inline void touch_flow(struct flow_entry *entry, __u64 hash, __u64 value, __u32 now)
{
	__u64 touched = (value & (FLOW_AGAIN - 1)) | FLOW_AGAIN | (__u64)now << FLOW_TICK_SHIFT;

	if (touched != value)
		write_flow(entry, hash, touched);
}

/* Who gives way in a full line: a flow that had no packet since it was last passed over. */
static __always_inline struct flow_entry *find_idle(struct flow_entry *line)
{
	for (int i = 0; i < LINE_FLOWS; i++)
		if (!(line[i].value & FLOW_AGAIN))
			return &line[i];
	return NULL;
}

/* From now on they have to be met again to stay. */
static __always_inline void pass_over(struct flow_entry *line)
{
	for (int i = 0; i < LINE_FLOWS; i++)
		write_flow(&line[i], line[i].seal ^ line[i].value, line[i].value & ~FLOW_AGAIN);
}

/*
 * Enters a flow: into a free place of its own line, or of the bucket's other line, or in place of
 * an idle flow of its line; 0 when all of them are in use. A function of its own: a flow needs it
 * once.
 */
__noinline int remember_flow(struct flow_bucket *bucket, __u64 hash, __u64 value)
{
	struct flow_entry *entry, *line;

	if (!bucket)
		return 0;
	line = &bucket->entries[own_line(hash) * LINE_FLOWS];
	for (__u32 i = 0; i < BUCKET_FLOWS; i++) {
		entry = &bucket->entries[(own_line(hash) * LINE_FLOWS ^ i) % BUCKET_FLOWS];
		if (!entry->value) {
			write_flow(entry, hash, value);
			return 1;
		}
	}
	entry = find_idle(line);
	if (entry)
		write_flow(entry, hash, value);
	else
		pass_over(line);
	return entry != NULL;
}

static __always_inline void forget_flow(struct flow_entry *entry)
{
	entry->seal = entry->value = 0;
}
