/*
 * Health probes take the tunnel that clients' packets take. A probe is a connection of the agent to
 * a VIP whose packets carry a mark with the seat of the real that is asked; routing leads them, and
 * nothing else, out of an interface of the agent's own, where this program (tc, egress) wraps them
 * and sends them on. The real answers the edge as it answers any client. Reads the maps of
 * lb.bpf.c, so a probe cannot take another way than traffic.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "fib.h"
#include "packet.h"
#include "probe_verdict.h"
#include "reals.h"
#include "verdict.h"
#include "wrapping.h"

/* Keeps the names of the verdicts in BTF. */
const volatile enum verdict verdict_names = VERDICT_COUNT;

/* A packet's mark: whose it is in the upper bits, the real's seat in the lower ones. */
enum probe_mark {
	PROBE_MARK_SEAT_BITS = 0x000fffff,
	PROBE_MARK_OWNER = 0x57500000,
};

_Static_assert(MAX_REALS <= PROBE_MARK_SEAT_BITS, "every seat fits a mark");

const volatile enum probe_mark mark_names = PROBE_MARK_OWNER;
/* Clients' packets come in by this interface: the kernel is asked for the way from there. */
const volatile __u32 edge_ifindex = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICT_COUNT);
	__type(key, __u32);
	__type(value, struct counter);
} verdicts SEC(".maps");

struct way {
	__u32 ifindex;
	struct bpf_redir_neigh next; /* the real itself, or the router towards it */
	__u8 macs[2 * ETH_ALEN];     /* destination and source, if it is resolved */
	__u8 is_resolved;
	__u8 is_addressed; /* the MAC addresses are in the packet: nothing is left to ask */
};

/* What the wrapping must say of the probe; its own checksum may be left to the hardware. */
static __always_inline int read_probe(struct __sk_buff *skb, struct wrapped *probe)
{
	void *ip = (void *)(long)skb->data + sizeof(struct ethhdr);
	void *end = (void *)(long)skb->data_end;
	const struct ipv6hdr *ipv6 = ip;
	const struct iphdr *ipv4 = ip;

	probe->spread = bpf_get_hash_recalc(skb);
	if (skb->protocol == bpf_htons(ETH_P_IP) && (void *)(ipv4 + 1) <= end) {
		probe->protocol = IPPROTO_IPIP;
		probe->bytes = bpf_ntohs(ipv4->tot_len);
		probe->dscp = ipv4->tos & DSCP_BITS;
		return 1;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6) && (void *)(ipv6 + 1) <= end) {
		probe->protocol = IPPROTO_IPV6;
		probe->bytes = bpf_ntohs(ipv6->payload_len) + sizeof(*ipv6);
		probe->dscp = ipv6_traffic_class(ipv6) & DSCP_BITS;
		return 1;
	}
	return 0;
}

static __always_inline const struct real_value *find_real(const struct __sk_buff *skb)
{
	__u32 index = skb->mark & PROBE_MARK_SEAT_BITS;
	const struct real_value *real = bpf_map_lookup_elem(&reals, &index);

	return real && !is_unspecified(&real->address) ? real : NULL;
}

/* An unresolved neighbour is no obstacle: the kernel resolves it and keeps the probe meanwhile. */
static __always_inline enum verdict find_way(struct __sk_buff *skb, const struct address *source,
					     const struct real_value *real, __u16 ip_bytes,
					     struct way *way)
{
	struct bpf_fib_lookup lookup;
	struct address hop;
	long found;

	found = ask_kernel(skb, source, &real->address, real->family == FAMILY_IPV6, ip_bytes,
			   edge_ifindex, &lookup);
	if (found == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return VERDICT_DROPPED_TOO_BIG;
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return VERDICT_DROPPED_NO_ROUTE;
	way->ifindex = lookup.ifindex;
	way->is_resolved = found == BPF_FIB_LKUP_RET_SUCCESS;
	__builtin_memcpy(way->macs, lookup.dmac, ETH_ALEN);
	__builtin_memcpy(way->macs + ETH_ALEN, lookup.smac, ETH_ALEN);
	way->next.nh_family = lookup.family;
	__builtin_memcpy(way->next.ipv6_nh, lookup.ipv6_dst, sizeof(way->next.ipv6_nh));
	if (real->encap != ENCAP_L2)
		return VERDICT_UNDECIDED;
	if (lookup.family == AF_INET)
		map_ipv4(&hop, lookup.ipv4_dst);
	else
		__builtin_memcpy(hop.words, lookup.ipv6_dst, sizeof(hop.words));
	return is_same_address(&hop, &real->address) ? VERDICT_FORWARDED_L2
						     : VERDICT_DROPPED_NOT_ON_LINK;
}

/* The kernel sends no packet to a neighbour of the other family, so it is to be known already. */
static __always_inline enum verdict address_by_mac(struct __sk_buff *skb, struct way *way)
{
	if (!way->is_resolved || bpf_skb_store_bytes(skb, 0, way->macs, sizeof(way->macs), 0))
		return VERDICT_DROPPED_NO_NEIGHBOUR;
	way->is_addressed = 1;
	return VERDICT_FORWARDED_L2;
}

static __always_inline enum verdict wrap(struct __sk_buff *skb, const struct wrapped *probe,
					 const struct settings_value *setting,
					 const struct real_value *real, const int outer_ipv6,
					 const int by_gue)
{
	const __u32 bytes = wrapping_bytes(outer_ipv6, by_gue);
	__u64 flags = outer_ipv6 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;
	__u64 wrapping[8] = {};

	_Static_assert(sizeof(wrapping) >= sizeof(struct ipv6hdr) + GUE_BYTES, "room for all");
	if (by_gue)
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	write_wrapping(wrapping, probe, real, setting, outer_ipv6, by_gue);
	if (bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_MAC, flags) ||
	    bpf_skb_store_bytes(skb, sizeof(struct ethhdr), wrapping, bytes, 0))
		return VERDICT_DROPPED_TOO_BIG;
	return by_gue ? VERDICT_FORWARDED_GUE : VERDICT_FORWARDED_IPIP;
}

static __always_inline enum verdict send_probe(struct __sk_buff *skb, struct way *way)
{
	__u32 zero = 0;
	const struct settings_value *setting = bpf_map_lookup_elem(&settings, &zero);
	const struct address *source;
	const struct real_value *real;
	struct wrapped probe = {};
	enum verdict verdict;
	__u32 ip_bytes;
	int outer_ipv6;

	if ((skb->mark & ~PROBE_MARK_SEAT_BITS) != PROBE_MARK_OWNER || !read_probe(skb, &probe))
		return VERDICT_DROPPED_NOT_PROBE;
	real = find_real(skb);
	if (!real)
		return VERDICT_DROPPED_UNKNOWN_REAL;
	outer_ipv6 = real->family == FAMILY_IPV6;
	if (!setting)
		return VERDICT_DROPPED_NO_TUNNEL_SOURCE;
	source = outer_ipv6 ? &setting->tunnel_source_v6 : &setting->tunnel_source;
	ip_bytes = probe.bytes;
	if (real->encap != ENCAP_L2) {
		if (is_unspecified(source))
			return VERDICT_DROPPED_NO_TUNNEL_SOURCE;
		ip_bytes += wrapping_bytes(outer_ipv6, real->encap == ENCAP_GUE);
	}
	verdict = find_way(skb, source, real, ip_bytes, way);
	if (verdict == VERDICT_FORWARDED_L2 && outer_ipv6 != (probe.protocol == IPPROTO_IPV6))
		return address_by_mac(skb, way);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	if (real->encap == ENCAP_GUE)
		return outer_ipv6 ? wrap(skb, &probe, setting, real, 1, 1)
				  : wrap(skb, &probe, setting, real, 0, 1);
	return outer_ipv6 ? wrap(skb, &probe, setting, real, 1, 0)
			  : wrap(skb, &probe, setting, real, 0, 0);
}

SEC("tc")
int probe(struct __sk_buff *skb)
{
	struct way way = {};
	__u32 frame_bytes = skb->len;
	enum verdict verdict = send_probe(skb, &way);

	count(&verdicts, verdict, frame_bytes);
	if (verdict < VERDICT_FIRST_FORWARDED)
		return TC_ACT_SHOT;
	skb->mark = 0;
	if (way.is_addressed)
		return bpf_redirect(way.ifindex, 0);
	return bpf_redirect_neigh(way.ifindex, &way.next, sizeof(way.next), 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
