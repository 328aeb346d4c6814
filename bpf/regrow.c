/*
 * Takes the flows of one table of bpf/flows.h over into another of another size, by the host's own
 * machine code: a million of them in milliseconds. Not a BPF program: edge_lb/flow_memory.py calls
 * it. Touches no memory but its arguments, and needs no library.
 */
#include <stdint.h>

#define LINE_FLOWS   4
#define BUCKET_FLOWS (2 * LINE_FLOWS)

struct entry {
	uint64_t seal;
	uint64_t value;
};

/* A free place of the flow's own line or of the other line of its bucket; null if both are full. */
static struct entry *find_place(struct entry *table, uint64_t buckets, uint64_t hash)
{
	struct entry *bucket = table + ((hash & 0xffffffff) * buckets >> 32) * BUCKET_FLOWS;
	uint32_t line = (hash & 1) * LINE_FLOWS;

	for (uint32_t i = 0; i < BUCKET_FLOWS; i++)
		if (!bucket[line ^ i].value)
			return bucket + (line ^ i);
	return 0;
}

/* How many flows found no place. The new table is empty before. */
uint64_t regrow(struct entry *fresh, uint64_t fresh_buckets, const struct entry *old,
		uint64_t old_buckets)
{
	uint64_t lost = 0;

	for (uint64_t i = 0; i < old_buckets * BUCKET_FLOWS; i++) {
		struct entry *place;

		if (!old[i].value)
			continue;
		place = find_place(fresh, fresh_buckets, old[i].seal ^ old[i].value);
		if (place)
			*place = old[i];
		else
			lost++;
	}
	return lost;
}
