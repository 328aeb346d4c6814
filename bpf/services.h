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

_Static_assert(sizeof(struct service) == 32, "two services fill a cache line");

/* Inner maps name their types by pointer only; this keeps a service's layout in BTF. */
const volatile struct service service_layout;
const volatile struct service_bucket service_bucket_layout;

/* Index 0 holds no service: its first word is the number of buckets, which follow it. */
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

static __always_inline __u64 service_hash(const struct address *address, __u32 word)
{
	__u64 hash = half(address, 0) * FLOW_HASH_MULTIPLIER; /* 0 of IPv4 */

	hash = ((hash ^ hash >> 32) ^ half(address, 1)) * FLOW_HASH_MULTIPLIER;
	hash = ((hash ^ hash >> 32) ^ word) * FLOW_HASH_MULTIPLIER;
	return hash ^ hash >> 32;
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
	__u32 now = SERVICES_NOW, head = 0;
	void *table = bpf_map_lookup_elem(&services, &now);
	const struct service *service;
	const __u32 *buckets;
	__u64 hash;

	if (!table)
		return NULL;
	buckets = bpf_map_lookup_elem(table, &head);
	if (!buckets)
		return NULL;
	hash = service_hash(address, word);
	service = find_in_bucket(table, 1 + (__u32)((hash >> 32) * *buckets >> 32), address, word);
	if (service)
		return service;
	return find_in_bucket(table, 1 + (__u32)((hash & 0xffffffff) * *buckets >> 32), address,
			      word);
}

/* A function of its own: asked in many places, all off the common path. */
__noinline int is_vip_address(const struct address *address)
{
	return address && find_service(address, service_word(0, 0, SERVICE_ADDRESS));
}
