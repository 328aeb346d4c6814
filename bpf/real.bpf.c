/*
 * The real server's end of the tunnel: takes the client's packet out of GUE or IPIP and gives it to
 * the stack, where the VIP is an address of the loopback. A packet that came with an owner chain
 * stays only if a socket here holds its flow, or if no other real is left to ask; else it is handed
 * on, and its later fragments with it. Every pairing of IPv4 and IPv6, outside and inside. Attached
 * to the interface that tunnel packets come in by; all else passes untouched.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bound.h"
#include "chain.h"
#include "cursor.h"
#include "followers.h"
#include "hand_on.h"
#include "heard.h"
#include "link.h"
#include "own_socket.h"
#include "packet.h"
#include "real_verdict.h"
#include "tunnel.h"
#include "verdict.h"

/* Keeps the names of the verdicts in BTF. */
const volatile enum verdict verdict_names = VERDICT_COUNT;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_BOUND_VIPS);
	__type(key, struct address);
	__type(value, __u32);
} bound_vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICT_COUNT);
	__type(key, __u32);
	__type(value, struct counter);
} verdicts SEC(".maps");

/* Packets whose flow was found here, by how many reals had been asked before: 0 is no detour. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CHAIN_MAX_CANDIDATES + 1);
	__type(key, __u32);
	__type(value, struct counter);
} depths SEC(".maps");

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

/* The link header is kept, of the inner family: it moves forward over the wrapping. */
static __always_inline int cut_wrapping(struct xdp_md *ctx, __u32 link_bytes, __u32 bytes,
					__u8 protocol)
{
	__be16 type = protocol == IPPROTO_IPV6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	__u8 link[MAX_LINK_BYTES];
	struct cursor cursor;

	if (link_bytes < sizeof(struct ethhdr) || link_bytes > sizeof(link) ||
	    bpf_xdp_load_bytes(ctx, 0, link, link_bytes))
		return 0;
	cursor = cursor_cut_head(ctx, bytes);
	if (!cursor_take(&cursor, sizeof(struct ethhdr)) ||
	    bpf_xdp_store_bytes(ctx, 0, link, link_bytes) ||
	    bpf_xdp_store_bytes(ctx, link_bytes - sizeof(type), &type, sizeof(type)))
		return 0;
	return 1;
}

static __always_inline enum verdict unwrap(struct xdp_md *ctx, struct tunnel *tunnel,
					   enum verdict how)
{
	__u32 bytes = tunnel->inner_at - tunnel->link_bytes;

	if (!cut_wrapping(ctx, tunnel->link_bytes, bytes, tunnel->protocol))
		return VERDICT_DROPPED_INNER_MALFORMED;
	return how;
}

/* Whose packet with a chain is it? One of the PASSED: ours. */
static __always_inline enum verdict follow_chain(struct xdp_md *ctx, const struct tunnel *tunnel,
						 int is_bound, __u32 *ifindex)
{
	enum verdict verdict = VERDICT_UNDECIDED;
	struct datagram_key datagram = {};
	int fragment = FRAGMENT_NONE;

	if (is_bound) {
		fragment = read_fragment(ctx, tunnel, &datagram);
		if (fragment != FRAGMENT_LATER || !was_led_away(&datagram))
			verdict = ask_own_sockets(ctx, tunnel);
	}
	if (verdict == VERDICT_PASSED_OWN_SOCKET || verdict == VERDICT_PASSED_SYN_COOKIE)
		count(&depths, tunnel->next, tunnel->frame_bytes);
	if (verdict == VERDICT_UNDECIDED)
		verdict = hand_on(ctx, tunnel, ifindex);
	if (fragment == FRAGMENT_FIRST)
		leave_word(&datagram, verdict == VERDICT_HANDED_ON);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	return is_bound ? VERDICT_PASSED_LAST_RESORT : VERDICT_DROPPED_NOT_BOUND;
}

static __always_inline enum verdict judge(struct xdp_md *ctx, struct tunnel *tunnel, __u32 *ifindex)
{
	enum verdict verdict = read_tunnel(ctx, tunnel);
	struct cursor cursor;
	struct address vip;
	int is_bound;

	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	if (!cursor_stand_at(&cursor, ctx, tunnel->inner_at) ||
	    !read_inner(&cursor, tunnel->protocol, &vip))
		return VERDICT_DROPPED_INNER_MALFORMED;
	is_bound = bpf_map_lookup_elem(&bound_vips, &vip) != NULL;
	if (tunnel->chain_at) {
		hear_edge(tunnel);
		verdict = follow_chain(ctx, tunnel, is_bound, ifindex);
		return verdict < VERDICT_FIRST_DROPPED ? unwrap(ctx, tunnel, verdict) : verdict;
	}
	return is_bound ? unwrap(ctx, tunnel, VERDICT_PASSED_UNWRAPPED) : VERDICT_DROPPED_NOT_BOUND;
}

SEC("xdp")
int real(struct xdp_md *ctx)
{
	struct tunnel tunnel = {};
	__u32 ifindex = 0;
	enum verdict verdict = judge(ctx, &tunnel, &ifindex);

	count(&verdicts, verdict, tunnel.frame_bytes);
	if (verdict >= VERDICT_FIRST_HANDED_ON)
		return leave(ctx, ifindex);
	return verdict >= VERDICT_FIRST_DROPPED ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
