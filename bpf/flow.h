/*
 * A flow is the 5-tuple of a client's packets, and its hash is the same number on every edge and in
 * edge_lb/flow.py: change both or none. Rounds are xor, multiply, shift over five 64-bit words
 * and end in the finisher of splitmix64 (Steele, Lea, Flood 2014), so every input bit reaches every
 * output bit.
 */
#pragma once

#include "packet.h"

#define FLOW_HASH_SEED       0x57a7905700000001ULL
#define FLOW_HASH_MULTIPLIER 0x9e3779b97f4a7c15ULL /* 2^64 / golden ratio, odd */
#define FLOW_HASH_FINISH_1   0xbf58476d1ce4e5b9ULL
#define FLOW_HASH_FINISH_2   0x94d049bb133111ebULL

struct flow_key {
	struct address client;
	struct address vip;
	__be16 client_port;
	__be16 vip_port;
	__u8 protocol;
	__u8 pad[3]; /* always zero */
};

#define FLOW_KEY_WORDS 5

_Static_assert(sizeof(struct flow_key) == FLOW_KEY_WORDS * sizeof(__u64), "flow key is five words");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the hash reads little-endian words");

static __always_inline __u64 flow_hash(const struct flow_key *flow)
{
	__u64 hash = FLOW_HASH_SEED;
	__u64 word;

#pragma unroll
	for (int i = 0; i < FLOW_KEY_WORDS; i++) {
		__builtin_memcpy(&word, (const __u8 *)flow + i * sizeof(word), sizeof(word));
		hash = (hash ^ word) * FLOW_HASH_MULTIPLIER;
		hash ^= hash >> 32;
	}
	hash = (hash ^ (hash >> 30)) * FLOW_HASH_FINISH_1;
	hash = (hash ^ (hash >> 27)) * FLOW_HASH_FINISH_2;
	return hash ^ (hash >> 31);
}
