/*
 * The ring of edge_lb/rendezvous.py by the host's own machine code: the same slots, drawn many at a
 * time. Not a BPF program: edge_lb/fastring.py calls it. Touches no memory but its arguments, and
 * needs no library. Compiled for vectors of the plain processor and for wider ones (compile.py).
 */
#include <stdint.h>

#define BLOCK_SLOTS    1024 /* drawn together: 20 KiB, which stay in the nearest cache */
#define SLOTS_TOGETHER 16   /* whose prices are asked for together */
#define BOUND_MOST     11   /* of its fair share a member takes so many ... */
#define BOUND_OF       10   /* ... of these, and one slot */

#define MANTISSA_BITS 52
#define MANTISSA      ((1ULL << MANTISSA_BITS) - 1)
#define HALF          1022 /* the exponent of a double from 1/2 to 1, as it is stored */
#define ROOT_OF_HALF  0.7071067811865476
#define DEAR          1e300 /* more than any price */
#define ALL_LOTS      4294967295.5
#define COST_OF_LOT   3.3590e-10 /* at least, 1 / (2^32 ln 2) being 3.359036e-10 */
#define COST_ERROR    1e-11      /* more than the series lacks */

/* The heaviest first, then by name: of like prices the first has the slot. */
struct member {
	uint32_t seeds[2];
	uint32_t weight;
	uint32_t index; /* what is written into its slots */
	uint32_t room;  /* how many slots it may still take */
};

/* For each slot of a block: who has the lowest price so far. */
struct block {
	double prices[BLOCK_SLOTS];
	uint32_t winners[BLOCK_SLOTS]; /* places among the members */
	uint32_t lots[BLOCK_SLOTS];    /* of the members of one weight: the greatest lot, */
	uint32_t holders[BLOCK_SLOTS]; /* and who drew it */
};

static inline uint32_t draw(uint32_t slot, const uint32_t seeds[2])
{
	uint32_t value = (slot ^ seeds[0]) * 0x85ebca6b;

	value = ((value ^ value >> 15) + seeds[1]) * 0xc2b2ae35;
	value = (value ^ value >> 13) * 0x9e3779b1;
	return value ^ value >> 16;
}

/* Minus the logarithm to base 2 of a lot's place among all; each operation as in Python. */
static inline double cost(uint32_t lot)
{
	double place = lot + 0.5;
	double part, square, series;
	uint64_t bits;
	int32_t exponent;

	__builtin_memcpy(&bits, &place, sizeof(bits));
	exponent = (int32_t)(bits >> MANTISSA_BITS) - HALF;
	bits = (bits & MANTISSA) | (uint64_t)HALF << MANTISSA_BITS;
	__builtin_memcpy(&place, &bits, sizeof(place));
	part = (place - ROOT_OF_HALF) / (place + ROOT_OF_HALF);
	square = part * part;
	series = 0.22195308321368667;
	series = series * square + 0.2623081892525388;
	series = series * square + 0.3205988979753252;
	series = series * square + 0.4121985831111324;
	series = series * square + 0.5770780163555853;
	series = series * square + 0.9617966939259756;
	series = series * square + 2.8853900817779268;
	return (32.5 - exponent) - series * part;
}

/* The greatest lots that members of one weight, from `first` on, draw for the slots from `from`. */
static void draw_lots(struct block *block, uint32_t from, const struct member *members,
		      uint32_t first, uint32_t end)
{
	for (uint32_t at = 0; at < BLOCK_SLOTS; at++) {
		block->lots[at] = draw(from + at, members[first].seeds);
		block->holders[at] = first;
	}
	for (uint32_t member = first + 1; member < end; member++) {
		const uint32_t seeds[2] = {members[member].seeds[0], members[member].seeds[1]};

		for (uint32_t at = 0; at < BLOCK_SLOTS; at++) {
			uint32_t lot = draw(from + at, seeds);
			uint32_t held = block->lots[at], holder = block->holders[at];

			block->lots[at] = lot > held ? lot : held;
			block->holders[at] = lot > held ? member : holder;
		}
	}
}

/*
 * Whether one of the lots from `at` on may win its slot: a logarithm's tangent is never below it,
 * so this costs less than the cost does, by more than that is wrong by. Most lots are lost so.
 */
static inline int may_win(const struct block *block, uint32_t at, double scale)
{
	int may = 0;

	for (uint32_t end = at + SLOTS_TOGETHER; at < end; at++) {
		double least = (ALL_LOTS - block->lots[at]) * COST_OF_LOT - COST_ERROR;

		may |= least * scale < block->prices[at];
	}
	return may;
}

/* The greatest lot of one weight has the lowest price of it; does that win the slot? */
static inline void compare_prices(struct block *block, uint32_t at, double scale)
{
	for (uint32_t end = at + SLOTS_TOGETHER; at < end; at++) {
		double price = cost(block->lots[at]) * scale, lowest = block->prices[at];
		uint32_t holder = block->holders[at], winner = block->winners[at];

		block->prices[at] = price < lowest ? price : lowest;
		block->winners[at] = price < lowest ? holder : winner;
	}
}

static void find_winners(struct block *block, uint32_t from, const struct member *members,
			 uint32_t count)
{
	for (uint32_t at = 0; at < BLOCK_SLOTS; at++)
		block->prices[at] = DEAR;
	for (uint32_t first = 0, end; first < count; first = end) {
		double scale;

		end = first + 1;
		while (end < count && members[end].weight == members[first].weight)
			end++;
		draw_lots(block, from, members, first, end);
		scale = 1.0 / members[first].weight;
		for (uint32_t at = 0; at < BLOCK_SLOTS; at += SLOTS_TOGETHER) {
			if (may_win(block, at, scale))
				compare_prices(block, at, scale);
		}
	}
}

/* The member with the lowest price of those with room; there is always one. */
static struct member *next_best(struct member *members, uint32_t count, uint32_t slot)
{
	struct member *best = members;
	double lowest = DEAR;

	for (struct member *member = members; member < members + count; member++) {
		double price;

		if (!member->room)
			continue;
		price = cost(draw(slot, member->seeds)) * (1.0 / member->weight);
		if (price < lowest) {
			lowest = price;
			best = member;
		}
	}
	return best;
}

/* Members in their order, with weights above zero; their `room` is filled in here. */
void build_ring(uint16_t *ring, uint32_t slots, struct member *members, uint32_t count)
{
	struct block block;
	uint64_t total = 0;

	for (uint32_t at = 0; at < count; at++)
		total += members[at].weight;
	for (uint32_t at = 0; at < count; at++)
		members[at].room =
			(uint64_t)slots * members[at].weight * BOUND_MOST / (BOUND_OF * total) + 1;
	for (uint32_t slot = 0; slot < slots; slot++) {
		struct member *owner;

		if (slot % BLOCK_SLOTS == 0)
			find_winners(&block, slot, members, count);
		owner = members + block.winners[slot % BLOCK_SLOTS];
		if (!owner->room)
			owner = next_best(members, count, slot);
		owner->room--;
		ring[slot] = (uint16_t)owner->index;
	}
}
