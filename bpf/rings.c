/*
 * What is done with rings that rows.c has built, by the host's own machine code: the chains of
 * edge_lb/owners.py, and what moves between two rings. Not a BPF program: edge_lb/fastring.py calls
 * it. Touches no memory but its arguments, and needs no library.
 */
#include <stdint.h>

/* A ring of positions into one of seats[position]; how many slots name a position beyond. */
uint32_t seat_ring(uint16_t *ring, const uint16_t *shape, uint32_t slots, const uint16_t *seats,
		   uint32_t count)
{
	uint32_t beyond = 0;

	for (uint32_t slot = 0; slot < slots; slot++) {
		if (shape[slot] < count)
			ring[slot] = seats[shape[slot]];
		else
			beyond++;
	}
	return beyond;
}

uint32_t count_moved(const uint16_t *before, const uint16_t *after, uint32_t slots)
{
	uint32_t moved = 0;

	for (uint32_t slot = 0; slot < slots; slot++)
		moved += before[slot] != after[slot];
	return moved;
}

/* How many slots differ: `at` tells which, and `owners` what `after` has there. */
uint32_t list_moved(const uint16_t *before, const uint16_t *after, uint32_t slots, uint32_t *at,
		    uint16_t *owners)
{
	uint32_t moved = 0;

	for (uint32_t slot = 0; slot < slots; slot++) {
		if (before[slot] == after[slot])
			continue;
		at[moved] = slot;
		owners[moved++] = after[slot];
	}
	return moved;
}

struct candidate {
	const uint8_t *flows; /* that it told, by slot, or NULL: it did not */
	double told_s;        /* when it counted them */
	uint16_t seat;        /* 0: it is none */
};

struct earlier {
	const uint32_t *slots;         /* that differ from the ring before; NULL: all do */
	const uint16_t *owners;        /* of these slots, as numbers */
	const struct candidate *known; /* by number */
	double settled_s;              /* since when its owners may tell that they hold nothing */
	uint32_t moved;                /* how many slots differ */
	uint32_t numbers;              /* that are known */
};

static inline int is_among(const uint16_t *owners, uint32_t count, uint16_t seat)
{
	for (uint32_t at = 0; at < count; at++) {
		if (owners[at] == seat)
			return 1;
	}
	return 0;
}

/* The seat of a slot's earlier owner, 0 if it is no candidate there. */
static inline uint16_t candidate_seat(const struct earlier *ring, uint32_t slot, uint16_t number)
{
	const struct candidate *owner = ring->known + number;

	if (number >= ring->numbers)
		return 0;
	if (owner->flows && owner->told_s >= ring->settled_s && !owner->flows[slot])
		return 0;
	return owner->seat;
}

/*
 * The ring widened: `width` owners for each slot, the present one, then those of the earlier rings
 * in their order, each once, as many as `depth` of them. `chains` is all 0 before. An earlier ring
 * tells only what differs from the one before it: where none does, the owner was considered there.
 * `given` counts the owners that came of each ring. Returns how many slots have an earlier owner.
 */
uint32_t build_chains(uint16_t *chains, uint32_t width, const uint16_t *ring, uint32_t slots,
		      const struct earlier *rings, uint32_t count, uint32_t depth, uint32_t *given)
{
	uint32_t chained = 0;

	for (uint32_t slot = 0; slot < slots; slot++)
		chains[(uint64_t)slot * width] = ring[slot];
	for (uint32_t at = 0; at < count; at++) {
		for (uint32_t entry = 0; entry < rings[at].moved; entry++) {
			uint32_t slot = rings[at].slots ? rings[at].slots[entry] : entry;
			uint16_t seat = candidate_seat(rings + at, slot, rings[at].owners[entry]);
			uint16_t *owners = chains + (uint64_t)slot * width;
			uint32_t known = 1;

			while (known <= depth && owners[known])
				known++;
			if (!seat || known > depth || is_among(owners, known, seat))
				continue;
			owners[known] = seat;
			given[at]++;
			chained += known == 1;
		}
	}
	return chained;
}

/*
 * What another plan does to chains: `grown` slots get more owners, and `lost` slots lose one
 * because there is no room: `after` is a ring wider by one, whose last owner has no place.
 */
void compare_chains(const uint16_t *before, const uint16_t *after, uint32_t slots, uint32_t width,
		    uint32_t depth, uint32_t *grown, uint32_t *lost)
{
	for (uint32_t slot = 0; slot < slots; slot++) {
		const uint16_t *was = before + (uint64_t)slot * width;
		const uint16_t *is = after + (uint64_t)slot * (width + 1);
		uint32_t had = 0, has = 0;

		for (uint32_t at = 1; at <= depth; at++) {
			had += was[at] != 0;
			has += is[at] != 0;
		}
		*grown += has > had;
		*lost += is[depth + 1] && is_among(was, width, is[depth + 1]);
	}
}

/* How many of the flows that are told by slot are on slots with another real. */
uint64_t sum_moved(const uint16_t *before, const uint16_t *after, uint32_t slots,
		   const uint8_t *flows)
{
	uint64_t sum = 0;

	for (uint32_t slot = 0; slot < slots; slot++) {
		if (before[slot] != after[slot])
			sum += flows[slot];
	}
	return sum;
}
