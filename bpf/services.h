/*
 * Which VIP a packet is for: a table of services, found by address, port and protocol at once.
 * Every service lies in one of two buckets of its hash, each a cache line, so a look-up never
 * walks. The agent builds the table (bpf/services.py, the same hash) and replaces it whole by one
 * pointer write; a packet sees the old one or the new one. Beside services the table holds each
 * VIP's address, which tells a VIP's closed port from the edge's own traffic.
 */
#pragma once

#include "flow.h"
#include "maps.h"

#define MAX_SERVICE_BUCKETS 32768
#define BUCKET_SERVICES     2
#define MARK_WORDS          7 /* as many bits as fill the head */
#define SERVICES_NOW        0 /* the only index of the array of tables */

enum __attribute__((packed)) service_kind {
	SERVICE_FREE = 0,    /* nothing is here */
	SERVICE_VIP = 1,     /* port 0: any port */
	SERVICE_ADDRESS = 2, /* some VIP has this address; port and protocol are 0 */
};

struct service {
	struct address address;
	__be16 port;
	__u8 protocol;
	enum service_kind kind;
	struct vip vip;
};

struct service_bucket {
	struct service services[BUCKET_SERVICES];
};

/*
 * The first value of a table. Every VIP's address has a mark here, one of its hash: a packet for an
 * address without one is not a VIP's, and costs no bucket.
 */
struct service_head {
	__u32 buckets; /* that follow */
	__u32 pad;     /* always zero */
	__u64 marks[MARK_WORDS];
};

_Static_assert(sizeof(struct service) == 32, "two services fill a cache line");
_Static_assert(sizeof(struct service_head) == sizeof(struct service_bucket), "one value each");

/* Inner maps name their types by pointer only; this keeps a service's layout in BTF. */
const volatile struct service service_layout;
const volatile struct service_bucket service_bucket_layout;

/* Index 0 is the head. */
struct service_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 + MAX_SERVICE_BUCKETS);
	__type(key, __u32);
	__type(value, struct service_bucket);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct service_table);
} services SEC(".maps");

/* Port, protocol and kind as the word that they are in `struct service`. */
static __always_inline __u32 service_word(__be16 port, __u8 protocol, enum service_kind kind)
{
	return port | (__u32)protocol << 16 | (__u32)kind << 24;
}

static __always_inline __u64 address_hash(const struct address *address)
{
	__u64 hash = half(address, 0) * FLOW_HASH_MULTIPLIER; /* 0 of IPv4 */

	hash = ((hash ^ hash >> 32) ^ half(address, 1)) * FLOW_HASH_MULTIPLIER;
	return hash ^ hash >> 32;
}

static __always_inline __u64 service_hash(__u64 hash_of_address, __u32 word)
{
	__u64 hash = (hash_of_address ^ word) * FLOW_HASH_MULTIPLIER;

	return hash ^ hash >> 32;
}

static __always_inline int is_marked(const struct service_head *head, __u64 hash_of_address)
{
	__u32 mark = (hash_of_address >> 32) * (64 * MARK_WORDS) >> 32;
	__u32 word = mark / 64;

	barrier_var(word); /* else clang proves the bound to itself, out of the verifier's sight */
	return word < MARK_WORDS && head->marks[word] >> mark % 64 & 1;
}

static __always_inline const struct service *
find_in_bucket(void *table, __u32 bucket_index, const struct address *address, __u32 word)
{
	const struct service_bucket *bucket = bpf_map_lookup_elem(table, &bucket_index);

	if (!bucket)
		return NULL;
	for (int i = 0; i < BUCKET_SERVICES; i++) {
		const struct service *service = &bucket->services[i];

		if (*(const __u32 *)&service->port == word &&
		    is_same_address(&service->address, address))
			return service;
	}
	return NULL;
}

static __always_inline const struct service *find_service(const struct address *address, __u32 word)
{
	__u32 now = SERVICES_NOW, first = 0;
	void *table = bpf_map_lookup_elem(&services, &now);
	__u64 hash = address_hash(address);
	const struct service_head *head;
	const struct service *service;

	if (!table)
		return NULL;
	head = bpf_map_lookup_elem(table, &first);
	if (!head || !is_marked(head, hash))
		return NULL;
	hash = service_hash(hash, word);
	service = find_in_bucket(table, 1 + (__u32)((hash >> 32) * head->buckets >> 32), address,
				 word);
	if (service)
		return service;
	return find_in_bucket(table, 1 + (__u32)((hash & 0xffffffff) * head->buckets >> 32),
			      address, word);
}

/* A function of its own: asked in many places, all off the common path. */
__noinline int is_vip_address(const struct address *address)
{
	return address && find_service(address, service_word(0, 0, SERVICE_ADDRESS));
}
