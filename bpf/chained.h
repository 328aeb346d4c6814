/*
 * The way out of a packet whose slot had other owners: by GUE, with the reals that may hold its
 * flow in the private data, so that a real which does not know the flow hands it on (chain.h). What
 * the chain costs is counted here, and only packets that may have one come here.
 */
#pragma once

#include "chain.h"
#include "encap.h"
#include "maps.h"
#include "ring.h"

#define CHAIN_MAX_WORDS (CHAIN_MAX_CANDIDATES * sizeof(struct address) / sizeof(__be32))
#define CHAIN_MAX_BYTES (sizeof(struct chain_header) + CHAIN_MAX_WORDS * sizeof(__be32))

_Static_assert(SLOT_OWNERS <= CHAIN_MAX_CANDIDATES, "all owners of a slot fit a chain");

/* A packet's chain before it is written: `header` and what `words` hold follow GUE's first word. */
struct chain {
	__u64 sum;    /* of what is written */
	__u64 header; /* struct chain_header */
	__u32 count;
	__u32 pad; /* always zero */
	__be32 words[CHAIN_MAX_WORDS];
};

/* Where a core makes the chain of its packet: there is no room for it on the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct chain);
} chain_made SEC(".maps");

/*
 * Whether some other real may hold the packet's flow: its slot moved, or flow memory knew better. A
 * SYN goes to the present owner alone; a connection id is the word of the very real that holds the
 * connection. A later fragment takes the chain of its first one, to follow it where it is handed
 * on.
 */
static __always_inline int wants_chain(const struct packet *packet, const struct vip *vip,
				       const struct chain_slot *slot, const struct real_value *real,
				       enum verdict chosen_by)
{
	return slot && vip->flags & VIP_HANDS_ON &&
	       (has_moved(slot) || slot->owners[0] != packet->real_index) &&
	       real->encap == ENCAP_GUE && !packet->starts_connection &&
	       chosen_by != VERDICT_FORWARDED_QUIC;
}

/* Puts an address behind those that are there. */
static __always_inline void add_candidate(struct chain *chain, const struct address *address,
					  int outer_ipv6)
{
	__u32 at = chain->count++ % CHAIN_MAX_CANDIDATES;

	if (outer_ipv6) {
		__builtin_memcpy(chain->words + 4 * at, address->words, sizeof(address->words));
		chain->sum += address_sum(address);
	} else {
		chain->words[at] = mapped_ipv4(address);
		chain->sum += mapped_ipv4(address);
	}
}

/* The header as one word: it is read as it was written, so the CPU need not wait in between. */
static __always_inline __u64 header_word(__u32 count, int outer_ipv6, __u32 generation)
{
	_Static_assert(__builtin_offsetof(struct chain_header, count) == 2, "third octet");
	_Static_assert(__builtin_offsetof(struct chain_header, candidate_bytes) == 3,
		       "fourth octet");
	return CHAIN_KIND | count << 16 | (__u64)candidate_bytes(outer_ipv6) << 24 |
	       (__u64)bpf_htonl(generation) << 32;
}

/*
 * Makes the chain of a packet that goes to `real`, of index `chosen`, first: the slot's other
 * owners that real.bpf.c may hand it on to, not dead, by GUE, of the outer header's family. Tells
 * how many there are. A function of its own, so that the many ways through it are verified once.
 */
__noinline int make_chain(const struct chain_slot *slot, const struct real_value *real,
			  __u32 chosen)
{
	__u32 zero = 0;
	const struct settings_value *setting = bpf_map_lookup_elem(&settings, &zero);
	struct chain *chain = bpf_map_lookup_elem(&chain_made, &zero);
	const struct real_value *other;
	int outer_ipv6;

	if (!chain || !setting || !slot || !real)
		return 0;
	outer_ipv6 = real->family == FAMILY_IPV6;
	chain->sum = chain->count = 0;
	for (int i = 0; i < SLOT_OWNERS; i++) {
		other = slot->owners[i] == chosen ? NULL : find_candidate(slot->owners[i]);
		if (other && other->encap == ENCAP_GUE && other->family == real->family)
			add_candidate(chain, &other->address, outer_ipv6);
	}
	chain->header = header_word(chain->count, outer_ipv6, setting->generation);
	chain->sum += (chain->header & 0xffffffff) + (chain->header >> 32);
	return chain->count;
}

/* Puts the chain where `cursor` stands; 0 when the frame ends earlier. */
static __always_inline int write_chain(struct cursor *cursor, const struct chain *chain,
				       const int outer_ipv6)
{
	const __u32 words = candidate_bytes(outer_ipv6) / sizeof(__be32);
	__u64 *header = cursor_take(cursor, sizeof(chain->header));
	__be32 *candidate;

	if (!header)
		return 0;
	*header = chain->header;
#pragma unroll
	for (__u32 i = 0; i < CHAIN_MAX_CANDIDATES; i++) {
		if (i >= chain->count)
			break;
		candidate = cursor_take(cursor, words * sizeof(*candidate));
		if (!candidate)
			return 0;
		__builtin_memcpy(candidate, chain->words + words * i, words * sizeof(*candidate));
	}
	return 1;
}

/*
 * send_tunnelled() of encap.h by GUE, with the chain between GUE's first word and the packet.
 */
static __always_inline enum verdict
send_by_chain(struct xdp_md *ctx, const struct packet *packet, const struct real_value *real,
	      const struct next_hop *hop, const struct settings_value *settings,
	      struct chain *chain, __u32 bytes, const int outer_ipv6)
{
	const __u32 wrapping = wrapping_bytes(outer_ipv6, 1);
	struct cursor cursor = cursor_at_start(ctx);
	struct wrapped inner = inside(packet);
	struct ethhdr *ethernet;
	void *outer;

	inner.chain_bytes = bytes;
	inner.chain_sum = chain->sum;
	if (!cursor_take(&cursor, sizeof(*ethernet)) || !age(&cursor, packet, &inner.sum))
		return VERDICT_PASSED_MALFORMED;
	cursor = cursor_grow_head(ctx, wrapping + bytes);
	ethernet = cursor_take(&cursor, sizeof(*ethernet));
	outer = cursor_take(&cursor, wrapping);
	if (!ethernet || !outer)
		return VERDICT_DROPPED_NO_HEADROOM;
	write_macs(ethernet, hop);
	ethernet->h_proto = outer_ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	write_wrapping(outer, &inner, real, settings, outer_ipv6, 1);
	return write_chain(&cursor, chain, outer_ipv6) ? VERDICT_UNDECIDED
						       : VERDICT_DROPPED_NO_HEADROOM;
}

/*
 * As send(), to a real by GUE, with the chain that make_chain() left. A function of its own:
 * packets without a chain pay neither its time nor its stack.
 */
__noinline int send_chained(struct xdp_md *ctx, struct packet *packet,
			    const struct real_value *real)
{
	__u32 zero = 0, bytes;
	const struct settings_value *setting = bpf_map_lookup_elem(&settings, &zero);
	struct chain *chain = bpf_map_lookup_elem(&chain_made, &zero);
	const struct next_hop *hop;
	struct next_hop asked;
	enum verdict verdict;

	if (!packet || !real || !chain || !setting || !has_source(setting, real))
		return VERDICT_DROPPED_NO_TUNNEL_SOURCE;
	bytes = chain_bytes(chain->count, real->family == FAMILY_IPV6);
	barrier_var(bytes); /* else clang proves the bound to itself, out of the verifier's sight */
	if (bytes == 0 || bytes > CHAIN_MAX_BYTES)
		return VERDICT_DROPPED_NO_HEADROOM;
	verdict = find_way(ctx, packet, real, setting, wrapping_of(real) + bytes, &asked, &hop);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	packet->out_ifindex = hop->ifindex;
	if (packet->link_bytes > sizeof(struct ethhdr) && !take_tags_off(ctx, packet->link_bytes))
		return VERDICT_PASSED_MALFORMED;
	verdict = real->family == FAMILY_IPV6
			  ? send_by_chain(ctx, packet, real, hop, setting, chain, bytes, 1)
			  : send_by_chain(ctx, packet, real, hop, setting, chain, bytes, 0);
	if (verdict == VERDICT_UNDECIDED && hop->outer.protocol)
		verdict = put_tags_on(ctx, hop);
	if (verdict == VERDICT_UNDECIDED)
		count(&chain_counters, chain->count, bytes);
	return verdict;
}
