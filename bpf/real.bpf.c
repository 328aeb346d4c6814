/*
 * The real server's end of the tunnel: takes the client's packet out of its GUE wrapping and gives
 * it to the stack, where the VIP is an address of the loopback. Attached to the interface that
 * tunnel packets come in by; everything else passes untouched.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "cursor.h"
#include "packet.h"
#include "real_verdict.h"
#include "verdict.h"

#define MAX_VIPS    512
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
	__uint(max_entries, MAX_VIPS);
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

/* Is this ours to unwrap? A fragment is not: wrapped packets carry DF. */
static __always_inline enum verdict find_tunnel(struct cursor *cursor, __u32 *outer_bytes)
{
	struct iphdr *ip = cursor_take(cursor, sizeof(*ip));
	const struct settings_value *setting;
	const struct udphdr *udp;
	struct address address;
	__u32 zero = 0;

	if (!ip || ip->version != IPV4_VERSION || ip->ihl < IPV4_MIN_HEADER_WORDS ||
	    ip->protocol != IPPROTO_UDP || ip->frag_off & bpf_htons(IPV4_FRAGMENT_BITS))
		return VERDICT_PASSED_NOT_TUNNELLED;
	*outer_bytes = ipv4_header_bytes(ip);
	map_ipv4(&address, ip->daddr);
	if (!cursor_stand_after(cursor, ip, *outer_bytes))
		return VERDICT_PASSED_NOT_TUNNELLED;
	udp = cursor_take(cursor, sizeof(*udp));
	setting = bpf_map_lookup_elem(&settings, &zero);
	if (!udp || !setting || udp->dest != setting->gue_port ||
	    !bpf_map_lookup_elem(&tunnels, &address))
		return VERDICT_PASSED_NOT_TUNNELLED;
	*outer_bytes += sizeof(*udp);
	return VERDICT_UNDECIDED;
}

/* draft-ietf-intarea-gue section 3: options are skipped by length, none is known here. */
static __always_inline enum verdict read_gue(struct cursor *cursor, __u32 *outer_bytes)
{
	const struct gue_header *gue = cursor_take(cursor, sizeof(*gue));
	__u32 option_bytes;

	if (!gue)
		return VERDICT_DROPPED_GUE_SHORT;
	if (gue->version_control_hlen & GUE_VERSION_BITS)
		return VERDICT_DROPPED_GUE_VERSION;
	if (gue->version_control_hlen & GUE_CONTROL_BIT)
		return VERDICT_DROPPED_GUE_CONTROL;
	if (gue->protocol != IPPROTO_IPIP)
		return VERDICT_DROPPED_GUE_PROTOCOL;
	option_bytes = (gue->version_control_hlen & GUE_HLEN_BITS) * GUE_HLEN_WORD_BYTES;
	if (!cursor_take(cursor, option_bytes))
		return VERDICT_DROPPED_GUE_SHORT;
	*outer_bytes += sizeof(*gue) + option_bytes;
	return VERDICT_UNDECIDED;
}

static __always_inline enum verdict check_inner(struct cursor *cursor)
{
	__u32 left = cursor_left(cursor);
	const struct iphdr *ip = cursor_take(cursor, sizeof(*ip));
	struct address address;

	if (!ip || ip->version != IPV4_VERSION || ip->ihl < IPV4_MIN_HEADER_WORDS ||
	    bpf_ntohs(ip->tot_len) < ipv4_header_bytes(ip) || bpf_ntohs(ip->tot_len) > left)
		return VERDICT_DROPPED_INNER_MALFORMED;
	map_ipv4(&address, ip->daddr);
	return bpf_map_lookup_elem(&bound_vips, &address) ? VERDICT_UNDECIDED
							  : VERDICT_DROPPED_NOT_BOUND;
}

/* The Ethernet header is kept: it moves forward over the wrapping. */
static __always_inline enum verdict cut_wrapping(struct xdp_md *ctx, struct ethhdr kept,
						 __u32 bytes)
{
	struct cursor cursor = cursor_cut_head(ctx, bytes);
	struct ethhdr *ethernet = cursor_take(&cursor, sizeof(*ethernet));

	if (!ethernet)
		return VERDICT_DROPPED_GUE_SHORT;
	*ethernet = kept;
	return VERDICT_PASSED_UNWRAPPED;
}

static __always_inline enum verdict unwrap(struct xdp_md *ctx, __u32 *frame_bytes)
{
	struct cursor cursor = cursor_at_start(ctx);
	const struct ethhdr *ethernet;
	__u32 outer_bytes = 0;
	enum verdict verdict;

	*frame_bytes = cursor_left(&cursor);
	ethernet = cursor_take(&cursor, sizeof(*ethernet));
	if (!ethernet || ethernet->h_proto != bpf_htons(ETH_P_IP))
		return VERDICT_PASSED_NOT_TUNNELLED;
	verdict = find_tunnel(&cursor, &outer_bytes);
	if (verdict == VERDICT_UNDECIDED)
		verdict = read_gue(&cursor, &outer_bytes);
	if (verdict == VERDICT_UNDECIDED)
		verdict = check_inner(&cursor);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	return cut_wrapping(ctx, *ethernet, outer_bytes);
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
