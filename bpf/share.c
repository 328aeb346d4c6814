/*
 * Shared flows, by the host's own machine code: finds in the tables of bpf/flows.h what is news to
 * the other edges of a site, and enters what they told into the table of bpf/taken_over.h. Not a
 * BPF program: edge_lb/shared_tables.py calls it. Touches no memory but its arguments, and needs
 * no library. Tables are written by packets meanwhile; an entry that is met half-written names a
 * flow that nobody has.
 */
#include <stdint.h>

#define LINE_FLOWS   4
#define BUCKET_FLOWS (2 * LINE_FLOWS)

#define REAL_MASK   0xffff
#define EPOCH_SHIFT 16
#define EPOCH_MASK  0x7fffff
#define OWNER_MASK  ((1ULL << 39) - 1) /* real and epoch */
#define TICK_SHIFT  40
#define TICK_MASK   0xffffff

#define IDLE_SHIFT  3      /* a flow's idle time is told in eight ticks, about a second */
#define IDLE_MOST   0xffff /* and longer ones as this */
#define LATE_TICKS  32     /* word from another edge may be so late */
#define MARK_FACTOR 0x9e3779b97f4a7c15ULL

struct entry {
	uint64_t seal;
	uint64_t value;
};

/* What a real's index means now. */
struct seat {
	uint32_t epoch;
	uint32_t age; /* so long an idle flow counts, in ticks; 0: flows of this VIP are not shared
		       */
};

/* One flow as it is told. */
struct told {
	uint64_t hash;
	uint16_t name; /* of the real: an index into the names of its batch */
	uint16_t idle;
} __attribute__((packed));

/* What is told together. */
struct batch {
	struct told *flows;
	uint32_t count;
	uint32_t room;
	uint16_t *numbers; /* by real: 1 + its name's index in this batch; 0: none yet */
	uint16_t *reals;   /* by that index */
	uint32_t named;
};

/* What became of flows that were told. */
struct outcome {
	uint64_t taken;     /* new here, or another real than before */
	uint64_t renewed;   /* known; now they last longer */
	uint64_t outdated;  /* somebody else told of the flow since */
	uint64_t refused;   /* of a real that is none here, or of a VIP that is not shared */
	uint64_t evicted;   /* the most idle ones, in favour of those taken */
	uint64_t no_room;   /* all in their place are used more */
	uint64_t forgotten; /* of this edge's own flows, that have another real now */
};

static inline uint32_t bucket_of(uint64_t hash, uint32_t buckets)
{
	return (hash & 0xffffffff) * buckets >> 32;
}

static inline uint32_t idle_ticks(uint64_t value, uint32_t now)
{
	return (now - (uint32_t)(value >> TICK_SHIFT)) & TICK_MASK;
}

static inline int counts(uint64_t value, const struct seat *seats, uint32_t now)
{
	const struct seat *seat = &seats[value & REAL_MASK];

	return seat->age && (seat->epoch & EPOCH_MASK) == (value >> EPOCH_SHIFT & EPOCH_MASK) &&
	       idle_ticks(value, now) <= seat->age;
}

/* What a sweep keeps of an entry: one in 2^31 other flows or owners looks the same. */
static inline uint32_t mark_of(uint64_t hash, uint64_t value)
{
	return (uint32_t)(((hash ^ (value & OWNER_MASK)) * MARK_FACTOR) >> 32) | 1;
}

static void tell(struct batch *batch, uint64_t hash, uint64_t value, uint32_t now)
{
	uint32_t real = value & REAL_MASK;
	uint32_t idle = idle_ticks(value, now) >> IDLE_SHIFT;
	struct told *told = &batch->flows[batch->count++];

	if (!batch->numbers[real]) {
		batch->reals[batch->named++] = real;
		batch->numbers[real] = batch->named;
	}
	told->hash = hash;
	told->name = batch->numbers[real] - 1;
	told->idle = idle < IDLE_MOST ? idle : IDLE_MOST;
}

/*
 * Adds to the batch the flows from place `at` on that were not told as they are, and those of the
 * places `again` to `again_end` once more. Returns the place that follows: it is the end of the
 * table, or the batch is full. `marks` has one word for each place, zero at first.
 */
uint32_t find_news(const struct entry *table, uint32_t buckets, uint32_t at, uint32_t *marks,
		   const struct seat *seats, uint32_t now, uint32_t again, uint32_t again_end,
		   struct batch *batch)
{
	for (; at < buckets * BUCKET_FLOWS; at++) {
		uint64_t value = *(const volatile uint64_t *)&table[at].value;
		uint64_t hash = *(const volatile uint64_t *)&table[at].seal ^ value;
		uint32_t mark;

		if (!value || !counts(value, seats, now)) {
			if (marks[at])
				marks[at] = 0;
			continue;
		}
		mark = mark_of(hash, value);
		if (mark == marks[at] && (at < again || at >= again_end))
			continue;
		if (bucket_of(hash, buckets) != at / BUCKET_FLOWS)
			continue; /* being written */
		if (batch->count == batch->room)
			break;
		tell(batch, hash, value, now);
		marks[at] = mark;
	}
	return at;
}

static inline void write_entry(struct entry *entry, uint64_t hash, uint64_t value)
{
	*(volatile uint64_t *)&entry->seal = hash ^ value;
	*(volatile uint64_t *)&entry->value = value;
}

/* The flow's own entry of a bucket; else a free one; else the most idle one. */
static struct entry *find_place(struct entry *bucket, uint64_t hash, uint32_t now)
{
	uint32_t line = (hash & 1) * LINE_FLOWS;
	struct entry *best = &bucket[line];
	uint32_t longest = 0;

	for (uint32_t i = 0; i < BUCKET_FLOWS; i++) {
		struct entry *entry = &bucket[line ^ i];
		uint32_t idle = entry->value ? idle_ticks(entry->value, now) : TICK_MASK + 1;

		if (entry->value && (entry->seal ^ entry->value) == hash)
			return entry;
		if (idle > longest) {
			longest = idle;
			best = entry;
		}
	}
	return best;
}

static void take(struct entry *bucket, uint64_t hash, uint64_t value, uint32_t now,
		 struct outcome *outcome)
{
	struct entry *entry = find_place(bucket, hash, now);
	int is_used_more = entry->value && idle_ticks(entry->value, now) < idle_ticks(value, now);
	int is_same = entry->value && (entry->seal ^ entry->value) == hash;

	if (is_same && (entry->value & OWNER_MASK) == (value & OWNER_MASK)) {
		outcome->renewed++;
		if (is_used_more)
			return;
	} else if (is_used_more) {
		if (is_same)
			outcome->outdated++;
		else
			outcome->no_room++;
		return;
	} else {
		outcome->taken++;
		outcome->evicted += entry->value && !is_same;
	}
	write_entry(entry, hash, value);
}

static uint64_t value_of(const struct told *told, const uint16_t *targets, uint32_t names,
			 const struct seat *seats, uint32_t now)
{
	uint32_t real = told->name < names ? targets[told->name] : 0;
	uint64_t met = (now - ((uint32_t)told->idle << IDLE_SHIFT)) & TICK_MASK;

	if (!real || !seats[real].age || (uint32_t)told->idle << IDLE_SHIFT > seats[real].age)
		return 0;
	return real | (uint64_t)(seats[real].epoch & EPOCH_MASK) << EPOCH_SHIFT | met << TICK_SHIFT;
}

/*
 * Enters flows that another edge told into the table of those that can be taken over. `targets`
 * are the reals' indexes here by the names of the batch, 0 for one that is none.
 */
void take_flows(struct entry *table, uint32_t buckets, const struct told *flows, uint32_t count,
		const uint16_t *targets, uint32_t names, const struct seat *seats, uint32_t now,
		struct outcome *outcome)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t value = value_of(&flows[i], targets, names, seats, now);
		uint64_t hash = flows[i].hash;

		if (value)
			take(table + (uint64_t)bucket_of(hash, buckets) * BUCKET_FLOWS, hash, value,
			     now, outcome);
		else
			outcome->refused++;
	}
}

/*
 * Forgets what a table of this edge's own flow memory says of flows that another edge saw later,
 * with another real: the client used its port again. Only the value is cleared: should a packet
 * write the entry now, it stays whole, or names no flow.
 */
void forget_older(struct entry *table, uint32_t buckets, const struct told *flows, uint32_t count,
		  const uint16_t *targets, uint32_t names, const struct seat *seats, uint32_t now,
		  struct outcome *outcome)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t value = value_of(&flows[i], targets, names, seats, now);
		uint64_t hash = flows[i].hash;
		struct entry *bucket = table + (uint64_t)bucket_of(hash, buckets) * BUCKET_FLOWS;

		for (uint32_t at = 0; value && at < BUCKET_FLOWS; at++) {
			uint64_t own = bucket[at].value;

			if (!own || (bucket[at].seal ^ own) != hash ||
			    (own & OWNER_MASK) == (value & OWNER_MASK) ||
			    idle_ticks(own, now) <= idle_ticks(value, now) + LATE_TICKS)
				continue;
			*(volatile uint64_t *)&bucket[at].value = 0;
			outcome->forgotten++;
		}
	}
}

/* Empties the places from `at` to `end` of what counts no more; how many flows are left there. */
uint32_t expire(struct entry *table, uint32_t at, uint32_t end, const struct seat *seats,
		uint32_t now)
{
	uint32_t left = 0;

	for (; at < end; at++) {
		if (!table[at].value)
			continue;
		if (counts(table[at].value, seats, now))
			left++;
		else
			write_entry(&table[at], 0, 0);
	}
	return left;
}
