/*
 * The ring of edge_lb/rendezvous.py by the host's own machine code: the same slots, drawn many at a
 * time. Not a BPF program: edge_lb/fastring.py calls it. Touches no memory but its arguments, and
 * needs no library. Compiled for vectors of the plain processor and for wider ones (compile.py).
 */
#include <stdint.h>

#define BLOCK_SLOTS    1024 /* drawn together: 20 KiB, which stay in the nearest cache */
#define SLOTS_TOGETHER 16   /* whose prices are asked for together */
#define RANKS          8    /* members that are told for a slot, the cheapest first */
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

static inline void bound(struct member *member, uint32_t slots, uint64_t total)
{
	member->room = (uint64_t)slots * member->weight * BOUND_MOST / (BOUND_OF * total) + 1;
}

/* Members in their order, with weights above zero; their `room` is filled in here. */
void build_ring(uint16_t *ring, uint32_t slots, struct member *members, uint32_t count)
{
	struct block block;
	uint64_t total = 0;

	for (uint32_t at = 0; at < count; at++)
		total += members[at].weight;
	for (uint32_t at = 0; at < count; at++)
		bound(members + at, slots, total);
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

/* For each slot of a block, of members of one weight: the greatest lots, the first of like ones. */
struct rows {
	uint32_t lots[BLOCK_SLOTS][RANKS];
	uint16_t holders[BLOCK_SLOTS][RANKS]; /* places among the members */
	uint32_t drawn[BLOCK_SLOTS];          /* by the member that is looked at */
	uint32_t least[BLOCK_SLOTS];          /* that is among the greatest */
};

static inline void take_lot(struct rows *rows, uint32_t at, uint16_t holder, uint32_t known)
{
	uint32_t lot = rows->drawn[at], rank = known;

	for (; rank && rows->lots[at][rank - 1] < lot; rank--) {
		if (rank == RANKS)
			continue; /* the last one falls out */
		rows->lots[at][rank] = rows->lots[at][rank - 1];
		rows->holders[at][rank] = rows->holders[at][rank - 1];
	}
	if (rank == RANKS)
		return;
	rows->lots[at][rank] = lot;
	rows->holders[at][rank] = holder;
}

/* How many ranks members of one weight fill. */
static uint32_t draw_rows(struct rows *rows, uint32_t from, const struct member *members,
			  uint32_t first, uint32_t end)
{
	uint32_t known = 0;

	for (uint32_t member = first; member < end; member++) {
		const uint32_t seeds[2] = {members[member].seeds[0], members[member].seeds[1]};

		for (uint32_t at = 0; at < BLOCK_SLOTS; at++)
			rows->drawn[at] = draw(from + at, seeds);
		for (uint32_t at = 0; at < BLOCK_SLOTS; at++) {
			if (known == RANKS && rows->drawn[at] <= rows->least[at])
				continue;
			take_lot(rows, at, (uint16_t)member, known);
			rows->least[at] = rows->lots[at][RANKS - 1];
		}
		known += known < RANKS;
	}
	return known;
}

/* One more member for a slot of which so many are `known`: 0 if RANKS others are cheaper. */
static inline int take_rank(uint16_t *ranks, double *prices, uint32_t known, uint16_t member,
			    double price)
{
	uint32_t rank = known < RANKS ? known : RANKS - 1;

	if (known >= RANKS && price >= prices[RANKS - 1])
		return 0;
	for (; rank && prices[rank - 1] > price; rank--) {
		prices[rank] = prices[rank - 1];
		ranks[rank] = ranks[rank - 1];
	}
	prices[rank] = price;
	ranks[rank] = member;
	return 1;
}

/*
 * The members with the lowest prices for each slot, RANKS of them; of fewer members the last one
 * again. Members in their order; a name may be there with several weights. `slots` are whole
 * blocks.
 */
void rank_members(uint16_t *ranks, uint32_t slots, const struct member *members, uint32_t count)
{
	double prices[BLOCK_SLOTS][RANKS];
	struct rows rows;

	for (uint32_t from = 0; from < slots; from += BLOCK_SLOTS) {
		uint16_t *block = ranks + (uint64_t)from * RANKS;
		uint32_t known = 0;

		for (uint32_t first = 0, end; first < count; first = end) {
			double scale = 1.0 / members[first].weight;
			uint32_t drawn;

			end = first + 1;
			while (end < count && members[end].weight == members[first].weight)
				end++;
			drawn = draw_rows(&rows, from, members, first, end);
			for (uint32_t at = 0; at < BLOCK_SLOTS; at++) {
				for (uint32_t rank = 0; rank < drawn; rank++) {
					double price = cost(rows.lots[at][rank]) * scale;

					if (!take_rank(block + at * RANKS, prices[at], known + rank,
						       rows.holders[at][rank], price))
						break;
				}
			}
			known += drawn;
		}
		for (uint32_t at = 0; at < BLOCK_SLOTS; at++) {
			for (uint32_t rank = known; rank < RANKS; rank++)
				block[at * RANKS + rank] = block[at * RANKS + rank - 1];
		}
	}
}

/*
 * The ring of those members that have an index, as `build_ring` builds it: their `room` is filled
 * in here, and a member without an index has none. `ranks` are of all the members.
 */
void build_ranked(uint16_t *ring, uint32_t slots, const uint16_t *ranks, struct member *members,
		  uint32_t count, const uint16_t *indexes)
{
	uint64_t total = 0;

	for (uint32_t at = 0; at < count; at++)
		total += indexes[at] ? members[at].weight : 0;
	for (uint32_t at = 0; at < count; at++) {
		members[at].index = indexes[at];
		members[at].room = 0;
		if (indexes[at])
			bound(members + at, slots, total);
	}
	for (uint32_t slot = 0; slot < slots; slot++) {
		const uint16_t *ranked = ranks + (uint64_t)slot * RANKS;
		struct member *owner = members + ranked[0];

		for (uint32_t rank = 1; !owner->room && rank < RANKS; rank++)
			owner = members + ranked[rank];
		if (!owner->room)
			owner = next_best(members, count, slot);
		owner->room--;
		ring[slot] = (uint16_t)owner->index;
	}
}
