/*
 * A packet whose flow is not held here goes on, in its tunnel, to the next real of its owner chain:
 * from us, one hop older, by the way that the agent keeps for that real. Only reals of the site get
 * anything, whatever the chain says. All questions are asked before the first byte changes, so a
 * drop never leaves half a packet.
 */
#pragma once

#include "chain.h"
#include "csum.h"
#include "cursor.h"
#include "fib.h"
#include "tunnel.h"
#include "way_out.h"

#define MAX_PEERS 65536 /* as many as reals */

/* The other reals of the site that edges reach by GUE, and the way to each. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PEERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, struct next_hop);
} peers SEC(".maps");

/* Reads one address of the chain. */
static __always_inline int read_candidate(struct xdp_md *ctx, const struct tunnel *tunnel,
					  __u32 number, struct address *candidate)
{
	__u32 at = tunnel->chain_at + sizeof(struct chain_header);
	struct in6_addr ipv6;
	__be32 ipv4;

	at += number * candidate_bytes(tunnel->is_ipv6);
	if (tunnel->is_ipv6) {
		if (bpf_xdp_load_bytes(ctx, at, &ipv6, sizeof(ipv6)))
			return 0;
		copy_ipv6(candidate, &ipv6);
		return 1;
	}
	if (bpf_xdp_load_bytes(ctx, at, &ipv4, sizeof(ipv4)))
		return 0;
	map_ipv4(candidate, ipv4);
	return 1;
}

/* The first candidate from `next` on that is not ourselves; `count` when none is left. */
static __always_inline __u32 find_candidate(struct xdp_md *ctx, const struct tunnel *tunnel,
					    struct address *candidate)
{
	__u32 count = tunnel->count;

	for (__u32 number = 0; number < CHAIN_MAX_CANDIDATES; number++) {
		if (number < tunnel->next)
			continue;
		if (number >= count || !read_candidate(ctx, tunnel, number, candidate))
			return count;
		if (!is_ours(candidate))
			return number;
	}
	return count;
}

/* What the agent did not know, the kernel may; it tells if it forwards. */
static __always_inline enum verdict ask_way(struct xdp_md *ctx, const struct tunnel *tunnel,
					    const struct address *candidate, __u32 ip_bytes,
					    struct next_hop *hop)
{
	struct bpf_fib_lookup lookup;
	long found;

	found = ask_kernel(ctx, &tunnel->destination, candidate, tunnel->is_ipv6, ip_bytes,
			   ctx->ingress_ifindex, &lookup);
	if (found == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return VERDICT_DROPPED_TOO_BIG;
	if (found != BPF_FIB_LKUP_RET_SUCCESS)
		return VERDICT_DROPPED_NO_WAY;
	resolve_device(ctx, lookup.ifindex, hop);
	__builtin_memcpy(hop->destination, lookup.dmac, ETH_ALEN);
	__builtin_memcpy(hop->source, lookup.smac, ETH_ALEN);
	return VERDICT_UNDECIDED;
}

/* From us to the candidate, one hop older: in the IP header and its checksum. */
static __always_inline int readdress(struct xdp_md *ctx, const struct tunnel *tunnel,
				     const struct address *candidate)
{
	struct ipv6hdr *ipv6;
	struct cursor cursor;
	struct iphdr *ipv4;
	__u64 change;

	if (!cursor_stand_at(&cursor, ctx, tunnel->link_bytes))
		return 0;
	if (tunnel->is_ipv6) {
		ipv6 = cursor_take(&cursor, sizeof(*ipv6));
		if (!ipv6)
			return 0;
		ipv6->hop_limit--;
		__builtin_memcpy(&ipv6->saddr, tunnel->destination.words, sizeof(ipv6->saddr));
		__builtin_memcpy(&ipv6->daddr, candidate->words, sizeof(ipv6->daddr));
		return 1;
	}
	ipv4 = cursor_take(&cursor, sizeof(*ipv4));
	if (!ipv4)
		return 0;
	/* Our own address moves from one place to the other. */
	change = mapped_ipv4(candidate) + negated_sum(mapped_ipv4(&tunnel->source));
	ipv4->check = changed_checksum(ipv4->check, change);
	ipv4->saddr = mapped_ipv4(&tunnel->destination);
	ipv4->daddr = mapped_ipv4(candidate);
	decrement_ttl(ipv4);
	return 1;
}

/* `next` in the chain, and the UDP checksum of that and of the addresses; none stays none. */
static __always_inline int advance(struct xdp_md *ctx, const struct tunnel *tunnel,
				   const struct address *candidate, __u8 next)
{
	__u64 change = address_sum(candidate) + negated_sum(address_sum(&tunnel->source));
	struct chain_header *chain;
	struct cursor cursor;
	struct udphdr *udp;

	if (!cursor_stand_at(&cursor, ctx, tunnel->udp_at))
		return 0;
	udp = cursor_take(&cursor, sizeof(*udp));
	if (!udp)
		return 0;
	if (udp->check) {
		/* `next` is the low byte of its word. */
		change += bpf_htons(next - tunnel->next);
		udp->check = changed_checksum(udp->check, change);
		if (!udp->check)
			udp->check = 0xffff;
	}
	if (!cursor_stand_at(&cursor, ctx, tunnel->chain_at))
		return 0;
	chain = cursor_take(&cursor, sizeof(*chain));
	if (!chain)
		return 0;
	chain->next = next;
	return 1;
}

/* Undecided means: written, and it leaves by the hop. */
static __always_inline enum verdict send_on(struct xdp_md *ctx, const struct tunnel *tunnel,
					    const struct address *candidate, __u8 next,
					    const struct next_hop *hop)
{
	struct ethhdr *ethernet;
	struct cursor cursor;

	if (!readdress(ctx, tunnel, candidate) || !advance(ctx, tunnel, candidate, next))
		return VERDICT_DROPPED_GUE_SHORT;
	if (tunnel->link_bytes > sizeof(*ethernet) && !take_tags_off(ctx, tunnel->link_bytes))
		return VERDICT_DROPPED_GUE_SHORT;
	cursor = cursor_at_start(ctx);
	ethernet = cursor_take(&cursor, sizeof(*ethernet));
	if (!ethernet)
		return VERDICT_DROPPED_GUE_SHORT;
	write_macs(ethernet, hop);
	if (hop->outer.protocol && !put_tags_on(ctx, hop))
		return VERDICT_DROPPED_NO_HEADROOM;
	return VERDICT_UNDECIDED;
}

/* Outer TTL or hop limit. */
static __always_inline __u8 hops_left(struct xdp_md *ctx, const struct tunnel *tunnel)
{
	const struct ipv6hdr *ipv6;
	const struct iphdr *ipv4;
	struct cursor cursor;

	if (!cursor_stand_at(&cursor, ctx, tunnel->link_bytes))
		return 0;
	if (tunnel->is_ipv6) {
		ipv6 = cursor_take(&cursor, sizeof(*ipv6));
		return ipv6 ? ipv6->hop_limit : 0;
	}
	ipv4 = cursor_take(&cursor, sizeof(*ipv4));
	return ipv4 ? ipv4->ttl : 0;
}

/* Undecided means: no candidate is left, so the packet stays. Else `ifindex` is where it leaves. */
__noinline int hand_on(struct xdp_md *ctx, const struct tunnel *tunnel, __u32 *ifindex)
{
	struct address candidate = {};
	const struct next_hop *hop;
	struct next_hop asked = {};
	enum verdict verdict;
	__u32 number, ip_bytes;

	if (!tunnel || !ifindex)
		return VERDICT_DROPPED_NO_WAY;
	number = find_candidate(ctx, tunnel, &candidate);
	if (number >= tunnel->count)
		return VERDICT_UNDECIDED;
	hop = bpf_map_lookup_elem(&peers, &candidate);
	if (!hop)
		return VERDICT_DROPPED_NOT_PEER;
	if (hops_left(ctx, tunnel) <= 1)
		return VERDICT_DROPPED_TTL;
	ip_bytes = tunnel->frame_bytes - tunnel->link_bytes;
	if (!hop->ifindex) {
		verdict = ask_way(ctx, tunnel, &candidate, ip_bytes, &asked);
		if (verdict != VERDICT_UNDECIDED)
			return verdict;
		hop = &asked;
	} else if (ip_bytes > hop->mtu) {
		return VERDICT_DROPPED_TOO_BIG;
	}
	*ifindex = hop->ifindex;
	verdict = send_on(ctx, tunnel, &candidate, number + 1, hop);
	return verdict == VERDICT_UNDECIDED ? VERDICT_HANDED_ON : verdict;
}
