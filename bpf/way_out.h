/*
 * How a frame leaves by a next hop: MAC addresses, VLAN tags, and the interface. For XDP programs;
 * knows neither why the packet is sent nor what is in it.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "cursor.h"
#include "link.h"
#include "next_hop.h"

#define MAX_DEVICES 256
#define MAX_VLANS   65536

/* The interfaces that next hops leave by: batches packets where bpf_redirect would send each. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

/* What sending by a VLAN device means: the FIB names the device, and XDP can only do the rest. */
struct vlan_value {
	__u32 ifindex; /* that carries it */
	struct vlan_tag outer;
	struct vlan_tag inner; /* only behind an outer one */
};

_Static_assert(sizeof(struct vlan_value) == 12, "VLAN device layout");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VLANS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32); /* the device's ifindex */
	__type(value, struct vlan_value);
} vlans SEC(".maps");

/* By which interface, and with which tags, a frame for `ifindex` leaves. */
static __always_inline void resolve_device(const struct xdp_md *ctx, __u32 ifindex,
					   struct next_hop *hop)
{
	const struct vlan_value *vlan = NULL;

	if (ifindex != ctx->ingress_ifindex)
		vlan = bpf_map_lookup_elem(&vlans, &ifindex);
	hop->ifindex = vlan ? vlan->ifindex : ifindex;
	hop->outer = vlan ? vlan->outer : (struct vlan_tag){};
	hop->inner = vlan ? vlan->inner : (struct vlan_tag){};
}

/* Both addresses lie side by side here and there: two stores, where a copy takes twelve. */
static __always_inline void write_macs(struct ethhdr *ethernet, const struct next_hop *hop)
{
	*(__u64 *)ethernet->h_dest = *(const __u64 *)hop->destination;
	*(__u32 *)(ethernet->h_source + 2) = *(const __u32 *)(hop->source + 2);
}

/*
 * Leaves a header without tags, its MAC addresses still to be written: the last EtherType, which is
 * the IP packet's, stands where the only one has to.
 */
static __always_inline int take_tags_off(struct xdp_md *ctx, __u32 link_bytes)
{
	struct cursor cursor = cursor_cut_head(ctx, link_bytes - sizeof(struct ethhdr));

	return cursor_take(&cursor, sizeof(struct ethhdr)) != NULL;
}

/*
 * Before a header that is finished but for its tags; what stood there is written again. 0 when the
 * driver left no room.
 */
static __always_inline int put_tags_on(struct xdp_md *ctx, const struct next_hop *hop)
{
	struct cursor cursor = cursor_grow_head(
		ctx, hop->inner.protocol ? 2 * sizeof(struct vlan_tag) : sizeof(struct vlan_tag));
	struct ethhdr *ethernet = cursor_take(&cursor, 2 * ETH_ALEN);
	struct vlan_tag *tag = cursor_take(&cursor, sizeof(*tag));

	if (!ethernet || !tag)
		return 0;
	write_macs(ethernet, hop);
	*tag = hop->outer;
	if (!hop->inner.protocol)
		return 1;
	tag = cursor_take(&cursor, sizeof(*tag));
	if (!tag)
		return 0;
	*tag = hop->inner;
	return 1;
}

/* Back out by the same interface, or by another: through the device map where it is listed. */
static __always_inline int leave(const struct xdp_md *ctx, __u32 ifindex)
{
	int action;

	if (ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	action = (int)bpf_redirect_map(&devices, ifindex, 0);
	return action == XDP_REDIRECT ? action : (int)bpf_redirect(ifindex, 0);
}
