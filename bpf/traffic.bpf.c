/*
 * Counts at a real server, per VIP, what its stack is given and what it sends. Answers go to the
 * client past the edge, so only here are both directions seen. Loaded twice, for each way (tc) of
 * the interface that real.bpf.c is on; the way in is behind XDP, where packets are unwrapped
 * already, and those that came by L2 look the same. It counts only: every packet goes on as it is.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bound.h"
#include "link.h"
#include "packet.h"
#include "verdict.h"

/* Of the two: the copy on the way out, where a VIP is the source. */
const volatile __u32 is_way_out = 0;

struct traffic {
	struct counter received;
	struct counter sent;
};

_Static_assert(sizeof(struct traffic) == 32, "traffic layout");

/* The agent makes the entries, one for each VIP that is bound. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_BOUND_VIPS);
	__type(key, struct address);
	__type(value, struct traffic);
} vip_traffic SEC(".maps");

/* What follows the tags in the frame. A tag that is kept beside the frame is not met at all. */
static __always_inline __be16 read_link(struct __sk_buff *skb, __u32 *link_bytes)
{
	struct announced_tag tag = {};
	__be16 type = 0;

	*link_bytes = sizeof(struct ethhdr);
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), &type, sizeof(type)))
		return 0;
	for (int i = 0; i < MAX_VLAN_TAGS && is_vlan(type); i++) {
		if (bpf_skb_load_bytes(skb, *link_bytes, &tag, sizeof(tag)))
			return 0;
		*link_bytes += sizeof(tag);
		type = tag.next;
	}
	return type;
}

/* The packet's address that a VIP would be: whom it is for, or whom it is from. */
static __always_inline int read_own_address(struct __sk_buff *skb, struct address *address)
{
	struct in6_addr ipv6 = {};
	__u32 link_bytes, offset;
	__be32 ipv4 = 0;
	__be16 type;

	type = read_link(skb, &link_bytes);
	if (type == bpf_htons(ETH_P_IP)) {
		offset = is_way_out ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr);
		if (bpf_skb_load_bytes(skb, link_bytes + offset, &ipv4, sizeof(ipv4)))
			return 0;
		map_ipv4(address, ipv4);
		return 1;
	}
	if (type != bpf_htons(ETH_P_IPV6))
		return 0;
	offset = is_way_out ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr);
	if (bpf_skb_load_bytes(skb, link_bytes + offset, &ipv6, sizeof(ipv6)))
		return 0;
	copy_ipv6(address, &ipv6);
	return 1;
}

SEC("tc")
int traffic(struct __sk_buff *skb)
{
	struct traffic *traffic;
	struct counter *counter;
	struct address vip;

	if (!read_own_address(skb, &vip))
		return TC_ACT_UNSPEC;
	traffic = bpf_map_lookup_elem(&vip_traffic, &vip);
	if (!traffic)
		return TC_ACT_UNSPEC;
	counter = is_way_out ? &traffic->sent : &traffic->received;
	/* Segments that the card has merged, or is still to cut, are one buffer. */
	counter->packets += skb->gso_segs ? skb->gso_segs : 1;
	counter->bytes += skb->len;
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
