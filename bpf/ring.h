/*
 * From a flow to a real by the VIP's ring: the hash's upper bits are the slot. A ring is replaced
 * whole by one pointer write, so a packet sees the old ring or the new one. A VIP's service says
 * whether its ring is the wide one, whose slots know earlier owners too.
 */
#pragma once

#include "maps.h"

/* A real that may hold flows, or null: one that is in its grace is the last to be asked for them.
 */
static __always_inline const struct real_value *find_candidate(__u32 index)
{
	const struct real_value *real = bpf_map_lookup_elem(&reals, &index);

	if (index == REAL_NONE || !real || real->state == REAL_DOWN)
		return NULL;
	return real;
}

/* A real that may carry packets now, or null. */
static __always_inline const struct real_value *find_live_real(__u32 index)
{
	const struct real_value *real = find_candidate(index);

	return real && real->state != REAL_IN_GRACE ? real : NULL;
}

static __always_inline __u32 slot_of(__u64 hash)
{
	return (__u32)(hash >> (64 - SLOT_BITS));
}

/* The slot of a wide ring, or null. */
static __always_inline const struct chain_slot *find_chain(__u32 vip_index, __u64 hash)
{
	void *ring = bpf_map_lookup_elem(&chains, &vip_index);
	__u32 slot = slot_of(hash);

	return ring ? bpf_map_lookup_elem(ring, &slot) : NULL;
}

static __always_inline int has_moved(const struct chain_slot *slot)
{
	return slot && slot->owners[1] != REAL_NONE;
}

static __always_inline enum verdict pick_by_ring(__u32 vip_index, __u64 hash, __u32 *real_index,
						 const struct real_value **real)
{
	__u32 slot = slot_of(hash);
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

/*
 * The owner of a wide ring's slot. Where there is none, because the VIP has no serving real, a
 * connection that is already there goes to the latest earlier owner that still keeps its flows;
 * those in their grace are behind the others.
 */
static __always_inline enum verdict pick_by_chain(const struct chain_slot *slot,
						  int starts_connection, __u32 *real_index,
						  const struct real_value **real)
{
	if (!slot)
		return VERDICT_DROPPED_NO_RING;
	*real_index = slot->owners[0];
	*real = find_live_real(*real_index);
	for (int i = 1; i < SLOT_OWNERS && !*real && !starts_connection; i++) {
		*real_index = slot->owners[i];
		*real = find_candidate(*real_index);
	}
	if (*real)
		return VERDICT_UNDECIDED;
	*real_index = slot->owners[0];
	return VERDICT_DROPPED_NO_REAL;
}
