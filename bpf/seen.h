/*
 * What is kept of a packet when it leaves: counters, and a sample while somebody captures. Called
 * once a packet, at the program's one exit, when nothing about the packet changes any more. The
 * maps of a capture are declared here, because nothing else touches them.
 */
#pragma once

#include "maps.h"
#include "parse.h"

#define VIP_NONE       0xffffffff
#define SAMPLE_BYTES   256       /* of a captured frame: tunnel, headers and a little payload */
#define CAPTURED_BYTES (1 << 20) /* unread samples; a full ring takes no more */

/* Which packets are captured. Read at every exit: `every` alone decides while nobody captures. */
struct capture_value {
	__u64 until_ns; /* CLOCK_MONOTONIC; a capture that nobody ends, ends then */
	__s32 left;     /* samples to take; several cores at once may take one more each */
	__u32 lost;     /* samples that found no room in the ring */
	__u32 every;    /* about one of so many that match, by chance; 0: none */
	__u32 verdict;  /* this one only; VERDICT_COUNT: any */
	__u32 vip;      /* this index only; VIP_NONE: any, and none */
	__u32 pad;      /* always zero */
};

/* One captured packet, as it leaves: with its tunnel if it was forwarded, else as it arrived. */
struct sample {
	__u64 seen_ns; /* CLOCK_MONOTONIC */
	__u64 hash;    /* 0 before a VIP is found */
	enum verdict verdict;
	__u32 vip;  /* VIP_NONE: for no VIP */
	__u32 real; /* the real that was chosen, also if the packet was dropped after that */
	__u32 queue;
	__u32 out_ifindex; /* 0: not forwarded */
	__u32 frame_bytes;
	__u32 captured_bytes; /* of `bytes` */
	__u32 pad;            /* always zero */
	__u8 bytes[SAMPLE_BYTES];
};

_Static_assert(sizeof(struct capture_value) == 32, "capture layout");
_Static_assert(sizeof(struct sample) == 48 + SAMPLE_BYTES, "sample layout");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct capture_value);
} capture SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, CAPTURED_BYTES);
} captured SEC(".maps");

/* A ring's values have no type of their own; this keeps their layout in BTF. */
const volatile struct sample sample_layout;

static __always_inline void count_vip(const struct packet *packet, enum verdict verdict)
{
	__u32 index = packet->vip_index;
	struct vip_counter *counter = bpf_map_lookup_elem(&vip_counters, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += packet->frame_bytes;
	if (verdict == VERDICT_FORWARDED_REMEMBERED)
		counter->flow_hits++;
	else if (verdict == VERDICT_FORWARDED_NEW)
		counter->flows_new++;
	else if (verdict >= VERDICT_FIRST_DROPPED && verdict < VERDICT_FIRST_FORWARDED)
		counter->dropped++;
}

static __always_inline int is_wanted(const struct capture_value *wish, const struct packet *packet,
				     enum verdict verdict)
{
	return wish->left > 0 && (wish->verdict == VERDICT_COUNT || wish->verdict == verdict) &&
	       (wish->vip == VIP_NONE || wish->vip == packet->vip_index) &&
	       (wish->every == 1 || bpf_get_prandom_u32() % wish->every == 0);
}

/* A sample that finds no room in the ring is lost: the packet never waits for its reader. */
static __always_inline void sample(struct xdp_md *ctx, const struct packet *packet,
				   enum verdict verdict, struct capture_value *wish)
{
	__u32 frame_bytes = ctx->data_end - ctx->data;
	__u32 bytes = frame_bytes < SAMPLE_BYTES ? frame_bytes : SAMPLE_BYTES;
	__u64 now = bpf_ktime_get_ns();
	struct sample *taken;

	barrier_var(bytes); /* else clang proves the bound to itself, out of the verifier's sight */
	if (now > wish->until_ns || bytes == 0 || bytes > SAMPLE_BYTES)
		return;
	taken = bpf_ringbuf_reserve(&captured, sizeof(*taken), 0);
	if (!taken) {
		__sync_fetch_and_add(&wish->lost, 1);
		return;
	}
	__sync_fetch_and_add(&wish->left, -1);
	taken->seen_ns = now;
	taken->hash = packet->hash;
	taken->verdict = verdict;
	taken->vip = packet->vip_index;
	taken->real = packet->real_index;
	taken->queue = ctx->rx_queue_index;
	taken->out_ifindex = packet->out_ifindex;
	taken->frame_bytes = frame_bytes;
	taken->captured_bytes = bytes;
	taken->pad = 0;
	if (bpf_xdp_load_bytes(ctx, 0, taken->bytes, bytes))
		bpf_ringbuf_discard(taken, 0);
	else
		bpf_ringbuf_submit(taken, 0);
}

static __always_inline void see(struct xdp_md *ctx, const struct packet *packet,
				enum verdict verdict)
{
	__u32 zero = 0;
	struct capture_value *wish = bpf_map_lookup_elem(&capture, &zero);

	count(&verdicts, verdict, packet->frame_bytes);
	if (packet->vip_index != VIP_NONE)
		count_vip(packet, verdict);
	if (verdict >= VERDICT_FIRST_FORWARDED)
		count(&real_counters, packet->real_index, packet->frame_bytes);
	if (wish && __builtin_expect(wish->every != 0, 0) && is_wanted(wish, packet, verdict))
		sample(ctx, packet, verdict, wish);
}
