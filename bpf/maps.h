/*
 * With reals.h the one declaration of everything that lb.bpf.c shares with the agent. Python reads
 * names, sizes and offsets out of this object's BTF; limits are max_entries.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "flow.h"
#include "lb_verdict.h"
#include "reals.h"
#include "verdict.h"

#define MAX_VIPS       16384
#define SLOT_BITS      16 /* of the hash; about 100 slots for each of 650 reals */
#define RING_SLOTS     (1 << SLOT_BITS)
#define SLOTS_TOGETHER 4
#define SLOT_OWNERS    4 /* of a slot of a wide ring: the present one, and three before it */

/* What becomes of a packet whose VIP has no real that is up. */
enum __attribute__((packed)) fallback {
	FALLBACK_DROP = 0,
	FALLBACK_PASS = 1,  /* to the edge's own stack */
	FALLBACK_RESET = 2, /* TCP: the client is told at once */
};

/* What a VIP wants or has, one bit each. */
enum __attribute__((packed)) vip_flag {
	VIP_BY_SOURCE = 1, /* the ring is entered by the client's address, whatever the ports */
	VIP_TWO_TUPLE = 2, /* a flow is all between two addresses, so later fragments belong too */
	VIP_CHAINED = 4,   /* its ring is the wide one, in `chains` */
	VIP_HANDS_ON = 8,  /* and packets carry the owners of their slot */
	VIP_REMEMBERS_MOVED = 16, /* no flow memory for slots that had no other owner */
	VIP_SHARES_FLOWS = 32,    /* other edges of the site may have told of a flow */
};

/* What holds for all packets of a VIP. */
struct vip {
	__u32 flow_buckets; /* of its flow memory; 0: it has none, the ring decides about every
			       packet */
	__u16 index;        /* into rings, chains and vip_counters */
	__u8 flow_table;    /* whose flow memory: 0 is shared */
	enum vip_flag flags;
	enum fallback fallback;
	__u8 quic_id_bytes; /* of the server's id in a QUIC connection id; 0: ids are not read */
	__u8 quic_rotation; /* which connection ids hold one */
	__u8 pad;           /* always zero */
};

struct vip_counter {
	__u64 packets; /* that came, whatever became of them */
	__u64 bytes;
	__u64 dropped;
	__u64 flows_new; /* entered into flow memory */
	__u64 flow_hits; /* packets whose real flow memory named */
};

_Static_assert(sizeof(struct vip) == 12, "VIP layout");
_Static_assert(sizeof(struct vip_counter) == 40, "VIP counter layout");
_Static_assert(RING_SLOTS % SLOTS_TOGETHER == 0, "every slot of a ring has its place");

/* Slots of a ring side by side, so that a ring fills an eighth of a megabyte. */
struct ring_slots {
	__u16 reals[SLOTS_TOGETHER];
};

/* Inner maps name their types by pointer only; this keeps the layout in BTF. */
const volatile struct ring_slots ring_slots_layout;

/* Mapped into the agent's memory to be written: a system call for each slot would cost 40 ms. */
struct ring {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, RING_SLOTS / SLOTS_TOGETHER);
	__type(key, __u32);
	__type(value, struct ring_slots);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

/*
 * A slot of a wide ring: its owner, as the narrow ring has it, then those that had it before and
 * may still hold flows of it, the latest to lose it first, then REAL_NONE.
 */
struct chain_slot {
	__u16 owners[SLOT_OWNERS];
};

_Static_assert(sizeof(struct chain_slot) == 8, "slots of a wide ring lie side by side");

const volatile struct chain_slot chain_slot_layout;

struct wide_ring {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, RING_SLOTS);
	__type(key, __u32);
	__type(value, struct chain_slot);
};

/* Of VIPs with VIP_CHAINED: used in place of their `rings`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__array(values, struct wide_ring);
} chains SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICT_COUNT);
	__type(key, __u32);
	__type(value, struct counter);
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct vip_counter);
} vip_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_REALS);
	__type(key, __u32);
	__type(value, struct counter);
} real_counters SEC(".maps");

/* Packets that left with a chain, by its number of candidates, and the bytes of their chains. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOT_OWNERS + 1);
	__type(key, __u32);
	__type(value, struct counter);
} chain_counters SEC(".maps");
