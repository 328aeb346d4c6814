/*
 * From a flow to a real by the VIP's ring: the hash's upper half scaled to RING_SLOTS, which
 * costs a multiplication and no division. A ring is replaced whole by one pointer write, so a
 * packet sees the old ring or the new one.
 */
#pragma once

#include "maps.h"

/* A real that may carry packets now, or null. */
static __always_inline const struct real_value *find_live_real(__u32 index)
{
	const struct real_value *real = bpf_map_lookup_elem(&reals, &index);

	if (index == REAL_NONE || !real || real->state == REAL_DOWN)
		return NULL;
	return real;
}

static __always_inline enum verdict pick_by_ring(__u32 vip_index, __u64 hash, __u32 *real_index,
						 const struct real_value **real)
{
	__u32 slot = (__u32)((hash >> 32) * RING_SLOTS >> 32);
	__u32 place = slot / SLOTS_TOGETHER;
	void *ring = bpf_map_lookup_elem(&rings, &vip_index);
	const struct ring_slots *slots;

	if (!ring)
		return VERDICT_DROPPED_NO_RING;
	slots = bpf_map_lookup_elem(ring, &place);
	if (!slots)
		return VERDICT_DROPPED_NO_REAL;
	*real_index = slots->reals[slot % SLOTS_TOGETHER];
	*real = find_live_real(*real_index);
	return *real ? VERDICT_UNDECIDED : VERDICT_DROPPED_NO_REAL;
}
