/*
 * A flow is the 5-tuple of a client's packets, and its hash is the same number on every edge and in
 * edge_lb/flow.py: change both or none. A round is xor, multiply, shift; IPv4 takes two rounds of
 * 64 bits, IPv6 five, and a last multiplication carries every input bit to the bits that choose.
 */
#pragma once

#include "packet.h"

#define FLOW_HASH_SEED       0x57a7905700000001ULL
#define FLOW_HASH_MULTIPLIER 0x9e3779b97f4a7c15ULL /* 2^64 / golden ratio, odd */
#define FLOW_HASH_FINISH     0xbf58476d1ce4e5b9ULL

struct flow {
	struct address client;
	struct address vip;
	__be16 client_port;
	__be16 vip_port;
	__u8 protocol;
	__u8 is_ipv6;
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the hash reads little-endian words");

static __always_inline __u64 hash_round(__u64 hash, __u32 low, __u32 high)
{
	hash = (hash ^ (low | (__u64)high << 32)) * FLOW_HASH_MULTIPLIER;
	return hash ^ (hash >> 32);
}

/* With `by_source` all flows of a client to one address are alike. */
static __always_inline __u64 flow_hash(const struct flow *flow, int by_source)
{
	__u32 ports = by_source ? 0 : flow->client_port | (__u32)flow->vip_port << 16;
	const __be32 *client = flow->client.words;
	const __be32 *vip = flow->vip.words;
	__u64 hash = FLOW_HASH_SEED;

	if (flow->is_ipv6) {
		hash = hash_round(hash, client[0], client[1]);
		hash = hash_round(hash, client[2], vip[2]);
		hash = hash_round(hash, vip[0], vip[1]);
	}
	hash = hash_round(hash, client[3], vip[3]);
	hash = hash_round(hash, ports, flow->protocol);
	hash *= FLOW_HASH_FINISH;
	return hash ^ (hash >> 32);
}
