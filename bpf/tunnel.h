/*
 * The tunnel's headers as a real server gets them: is the packet for us, what is inside and where,
 * and which owner chain came with it. Reads only.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "chain.h"
#include "cursor.h"
#include "link.h"
#include "packet.h"
#include "real_verdict.h"

#define MAX_TUNNELS 16

struct settings_value {
	__be16 gue_port;
	__u16 pad; /* always zero */
};

_Static_assert(sizeof(struct settings_value) == 4, "settings layout");

/* Our own addresses that edges may send tunnel packets to. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TUNNELS);
	__type(key, struct address);
	__type(value, __u32);
} tunnels SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings_value);
} settings SEC(".maps");

/* A tunnel packet and where its parts begin, as offsets in the frame. */
struct tunnel {
	struct address source; /* an edge, or a real that handed it on */
	struct address destination;
	__u32 frame_bytes;
	__u32 link_bytes; /* the outer IP header begins behind them */
	__u32 udp_at;
	__u32 chain_at; /* 0: it came without a chain */
	__u32 inner_at;
	__u32 generation; /* of the chain, as its two numbers */
	__u8 next;
	__u8 count;
	__u8 is_ipv6;  /* the tunnel */
	__u8 protocol; /* of what is inside; until GUE is read, the tunnel's own */
};

static __always_inline __u32 offset_of(const struct tunnel *tunnel, const struct cursor *cursor)
{
	return tunnel->frame_bytes - cursor_left(cursor);
}

static __always_inline int is_ours(const struct address *address)
{
	return bpf_map_lookup_elem(&tunnels, address) != NULL;
}

/* Takes the tunnel's IP header; tells the protocol of what follows and whom it was sent to. */
static __always_inline int take_outer_ip(struct cursor *cursor, __be16 ethertype,
					 struct tunnel *tunnel)
{
	const struct ipv6hdr *ipv6;
	struct iphdr *ipv4;

	if (ethertype == bpf_htons(ETH_P_IPV6)) {
		ipv6 = cursor_take(cursor, sizeof(*ipv6));
		if (!ipv6 || ipv6->version != IPV6_VERSION)
			return 0;
		copy_ipv6(&tunnel->source, &ipv6->saddr);
		copy_ipv6(&tunnel->destination, &ipv6->daddr);
		tunnel->is_ipv6 = 1;
		tunnel->protocol = ipv6->nexthdr;
		return 1;
	}
	if (ethertype != bpf_htons(ETH_P_IP))
		return 0;
	ipv4 = cursor_take(cursor, sizeof(*ipv4));
	/* A fragment is not ours: wrapped packets carry DF. */
	if (!ipv4 || ipv4->version != IPV4_VERSION || ipv4->ihl < IPV4_MIN_HEADER_WORDS ||
	    ipv4->frag_off & bpf_htons(IPV4_FRAGMENT_BITS))
		return 0;
	map_ipv4(&tunnel->source, ipv4->saddr);
	map_ipv4(&tunnel->destination, ipv4->daddr);
	tunnel->protocol = ipv4->protocol;
	return cursor_stand_after(cursor, ipv4, ipv4_header_bytes(ipv4));
}

/* Ours to unwrap: IPIP, or UDP to GUE's port, to one of our tunnel addresses. */
static __always_inline enum verdict find_tunnel(struct cursor *cursor, __be16 ethertype,
						struct tunnel *tunnel)
{
	const struct settings_value *setting;
	const struct udphdr *udp;
	__u32 zero = 0;

	if (!take_outer_ip(cursor, ethertype, tunnel))
		return VERDICT_PASSED_NOT_TUNNELLED;
	if (tunnel->protocol == IPPROTO_UDP) {
		tunnel->udp_at = offset_of(tunnel, cursor);
		udp = cursor_take(cursor, sizeof(*udp));
		setting = bpf_map_lookup_elem(&settings, &zero);
		if (!udp || !setting || udp->dest != setting->gue_port)
			return VERDICT_PASSED_NOT_TUNNELLED;
	} else if (tunnel->protocol != IPPROTO_IPIP && tunnel->protocol != IPPROTO_IPV6) {
		return VERDICT_PASSED_NOT_TUNNELLED;
	}
	return is_ours(&tunnel->destination) ? VERDICT_UNDECIDED : VERDICT_PASSED_NOT_TUNNELLED;
}

/* The chain, if private data holds one: of the tunnel's family, and whole. `cursor` is a copy. */
static __always_inline enum verdict read_chain(struct cursor cursor, struct tunnel *tunnel,
					       __u32 option_bytes)
{
	__u32 at = offset_of(tunnel, &cursor);
	const struct chain_header *chain;

	if (option_bytes < sizeof(*chain))
		return VERDICT_UNDECIDED;
	chain = cursor_take(&cursor, sizeof(*chain));
	if (!chain)
		return VERDICT_DROPPED_GUE_SHORT;
	if (chain->kind != CHAIN_KIND)
		return VERDICT_UNDECIDED;
	if (chain->candidate_bytes != candidate_bytes(tunnel->is_ipv6) || !chain->count ||
	    chain->count > CHAIN_MAX_CANDIDATES || chain->next > chain->count ||
	    option_bytes < chain_bytes(chain->count, tunnel->is_ipv6))
		return VERDICT_DROPPED_CHAIN_MALFORMED;
	tunnel->chain_at = at;
	tunnel->next = chain->next;
	tunnel->count = chain->count;
	tunnel->generation = bpf_ntohl(chain->generation);
	return VERDICT_UNDECIDED;
}

/* draft-ietf-intarea-gue section 3: options are skipped by length, but for the owner chain. */
static __always_inline enum verdict read_gue(struct cursor *cursor, struct tunnel *tunnel)
{
	const struct gue_header *gue = cursor_take(cursor, sizeof(*gue));
	enum verdict verdict;
	__u32 option_bytes;

	if (!gue)
		return VERDICT_DROPPED_GUE_SHORT;
	if (gue->version_control_hlen & GUE_VERSION_BITS)
		return VERDICT_DROPPED_GUE_VERSION;
	if (gue->version_control_hlen & GUE_CONTROL_BIT)
		return VERDICT_DROPPED_GUE_CONTROL;
	tunnel->protocol = gue->protocol;
	if (gue->protocol != IPPROTO_IPIP && gue->protocol != IPPROTO_IPV6)
		return VERDICT_DROPPED_GUE_PROTOCOL;
	option_bytes = (gue->version_control_hlen & GUE_HLEN_BITS) * GUE_HLEN_WORD_BYTES;
	/* With a flag, fields of the standard's own stand before private data. */
	if (!gue->flags) {
		verdict = read_chain(*cursor, tunnel, option_bytes);
		if (verdict != VERDICT_UNDECIDED)
			return verdict;
	}
	return cursor_take(cursor, option_bytes) ? VERDICT_UNDECIDED : VERDICT_DROPPED_GUE_SHORT;
}

/* From the frame to the client's packet. Undecided means: it is in a tunnel to us. */
static __always_inline enum verdict read_tunnel(struct xdp_md *ctx, struct tunnel *tunnel)
{
	struct cursor cursor = cursor_at_start(ctx);
	const struct ethhdr *ethernet;
	enum verdict verdict;
	__be16 type;

	tunnel->frame_bytes = cursor_left(&cursor);
	ethernet = cursor_take(&cursor, sizeof(*ethernet));
	if (!ethernet)
		return VERDICT_PASSED_NOT_TUNNELLED;
	type = skip_tags(&cursor, ethernet->h_proto);
	tunnel->link_bytes = offset_of(tunnel, &cursor);
	verdict = find_tunnel(&cursor, type, tunnel);
	if (verdict == VERDICT_UNDECIDED && tunnel->protocol == IPPROTO_UDP)
		verdict = read_gue(&cursor, tunnel);
	tunnel->inner_at = offset_of(tunnel, &cursor);
	return verdict;
}
