/*
 * The real server's end of the tunnel: takes the client's packet out of GUE or IPIP and gives it to
 * the stack, where the VIP is an address of the loopback. Every pairing of IPv4 and IPv6, outside
 * and inside. Attached to the interface that tunnel packets come in by; all else passes untouched.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bound.h"
#include "cursor.h"
#include "link.h"
#include "packet.h"
#include "real_verdict.h"
#include "verdict.h"

#define MAX_TUNNELS 16

/* Keeps the names of the verdicts in BTF. */
const volatile enum verdict verdict_names = VERDICT_COUNT;

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
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_BOUND_VIPS);
	__type(key, struct address);
	__type(value, __u32);
} bound_vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings_value);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICT_COUNT);
	__type(key, __u32);
	__type(value, struct counter);
} verdicts SEC(".maps");

/* Takes the tunnel's IP header; tells the protocol of what follows and whom it was sent to. */
static __always_inline int take_outer_ip(struct cursor *cursor, __be16 ethertype,
					 struct address *destination, __u8 *protocol)
{
	const struct ipv6hdr *ipv6;
	struct iphdr *ipv4;

	if (ethertype == bpf_htons(ETH_P_IPV6)) {
		ipv6 = cursor_take(cursor, sizeof(*ipv6));
		if (!ipv6 || ipv6->version != IPV6_VERSION)
			return 0;
		copy_ipv6(destination, &ipv6->daddr);
		*protocol = ipv6->nexthdr;
		return 1;
	}
	if (ethertype != bpf_htons(ETH_P_IP))
		return 0;
	ipv4 = cursor_take(cursor, sizeof(*ipv4));
	/* A fragment is not ours: wrapped packets carry DF. */
	if (!ipv4 || ipv4->version != IPV4_VERSION || ipv4->ihl < IPV4_MIN_HEADER_WORDS ||
	    ipv4->frag_off & bpf_htons(IPV4_FRAGMENT_BITS))
		return 0;
	map_ipv4(destination, ipv4->daddr);
	*protocol = ipv4->protocol;
	return cursor_stand_after(cursor, ipv4, ipv4_header_bytes(ipv4));
}

/* Ours to unwrap: IPIP, or UDP to GUE's port, to one of our tunnel addresses. */
static __always_inline enum verdict find_tunnel(struct cursor *cursor, __be16 ethertype,
						__u8 *protocol)
{
	const struct settings_value *setting;
	const struct udphdr *udp;
	struct address address;
	__u32 zero = 0;

	if (!take_outer_ip(cursor, ethertype, &address, protocol))
		return VERDICT_PASSED_NOT_TUNNELLED;
	if (*protocol == IPPROTO_UDP) {
		udp = cursor_take(cursor, sizeof(*udp));
		setting = bpf_map_lookup_elem(&settings, &zero);
		if (!udp || !setting || udp->dest != setting->gue_port)
			return VERDICT_PASSED_NOT_TUNNELLED;
	} else if (*protocol != IPPROTO_IPIP && *protocol != IPPROTO_IPV6) {
		return VERDICT_PASSED_NOT_TUNNELLED;
	}
	return bpf_map_lookup_elem(&tunnels, &address) ? VERDICT_UNDECIDED
						       : VERDICT_PASSED_NOT_TUNNELLED;
}

/* draft-ietf-intarea-gue section 3: options are skipped by length, none is known here. */
static __always_inline enum verdict read_gue(struct cursor *cursor, __u8 *protocol)
{
	const struct gue_header *gue = cursor_take(cursor, sizeof(*gue));
	__u32 option_bytes;

	if (!gue)
		return VERDICT_DROPPED_GUE_SHORT;
	if (gue->version_control_hlen & GUE_VERSION_BITS)
		return VERDICT_DROPPED_GUE_VERSION;
	if (gue->version_control_hlen & GUE_CONTROL_BIT)
		return VERDICT_DROPPED_GUE_CONTROL;
	*protocol = gue->protocol;
	if (*protocol != IPPROTO_IPIP && *protocol != IPPROTO_IPV6)
		return VERDICT_DROPPED_GUE_PROTOCOL;
	option_bytes = (gue->version_control_hlen & GUE_HLEN_BITS) * GUE_HLEN_WORD_BYTES;
	return cursor_take(cursor, option_bytes) ? VERDICT_UNDECIDED : VERDICT_DROPPED_GUE_SHORT;
}

/* The client's packet as its outer protocol says: whole, and for whom. */
static __always_inline int read_inner(struct cursor *cursor, __u8 protocol, struct address *vip)
{
	__u32 left = cursor_left(cursor);
	const struct ipv6hdr *ipv6;
	const struct iphdr *ipv4;

	if (protocol == IPPROTO_IPV6) {
		ipv6 = cursor_take(cursor, sizeof(*ipv6));
		if (!ipv6 || ipv6->version != IPV6_VERSION ||
		    bpf_ntohs(ipv6->payload_len) + sizeof(*ipv6) > left)
			return 0;
		copy_ipv6(vip, &ipv6->daddr);
		return 1;
	}
	ipv4 = cursor_take(cursor, sizeof(*ipv4));
	if (!ipv4 || ipv4->version != IPV4_VERSION || ipv4->ihl < IPV4_MIN_HEADER_WORDS ||
	    bpf_ntohs(ipv4->tot_len) < ipv4_header_bytes(ipv4) || bpf_ntohs(ipv4->tot_len) > left)
		return 0;
	map_ipv4(vip, ipv4->daddr);
	return 1;
}

static __always_inline enum verdict check_inner(struct cursor cursor, __u8 protocol)
{
	struct address vip;

	if (!read_inner(&cursor, protocol, &vip))
		return VERDICT_DROPPED_INNER_MALFORMED;
	return bpf_map_lookup_elem(&bound_vips, &vip) ? VERDICT_UNDECIDED
						      : VERDICT_DROPPED_NOT_BOUND;
}

/* The link header is kept, of the inner family: it moves forward over the wrapping. */
static __always_inline enum verdict cut_wrapping(struct xdp_md *ctx, __u32 link_bytes, __u32 bytes,
						 __u8 protocol)
{
	__be16 type = protocol == IPPROTO_IPV6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	__u8 link[MAX_LINK_BYTES];
	struct cursor cursor;

	if (link_bytes < sizeof(struct ethhdr) || link_bytes > sizeof(link) ||
	    bpf_xdp_load_bytes(ctx, 0, link, link_bytes))
		return VERDICT_DROPPED_INNER_MALFORMED;
	cursor = cursor_cut_head(ctx, bytes);
	if (!cursor_take(&cursor, sizeof(struct ethhdr)) ||
	    bpf_xdp_store_bytes(ctx, 0, link, link_bytes) ||
	    bpf_xdp_store_bytes(ctx, link_bytes - sizeof(type), &type, sizeof(type)))
		return VERDICT_DROPPED_INNER_MALFORMED;
	return VERDICT_PASSED_UNWRAPPED;
}

static __always_inline enum verdict unwrap(struct xdp_md *ctx, __u32 *frame_bytes)
{
	struct cursor cursor = cursor_at_start(ctx);
	const struct ethhdr *ethernet;
	enum verdict verdict;
	__u32 link_bytes, inner_bytes;
	__u8 protocol = 0;
	__be16 type;

	*frame_bytes = cursor_left(&cursor);
	ethernet = cursor_take(&cursor, sizeof(*ethernet));
	if (!ethernet)
		return VERDICT_PASSED_NOT_TUNNELLED;
	type = skip_tags(&cursor, ethernet->h_proto);
	link_bytes = *frame_bytes - cursor_left(&cursor);
	verdict = find_tunnel(&cursor, type, &protocol);
	if (verdict == VERDICT_UNDECIDED && protocol == IPPROTO_UDP)
		verdict = read_gue(&cursor, &protocol);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	inner_bytes = cursor_left(&cursor);
	verdict = check_inner(cursor, protocol);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	return cut_wrapping(ctx, link_bytes, *frame_bytes - link_bytes - inner_bytes, protocol);
}

SEC("xdp")
int real(struct xdp_md *ctx)
{
	__u32 frame_bytes = 0;
	enum verdict verdict = unwrap(ctx, &frame_bytes);

	count(&verdicts, verdict, frame_bytes);
	return verdict >= VERDICT_FIRST_DROPPED ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
