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

#include "packet.h"
#include "probe_verdict.h"
#include "reals.h"
#include "verdict.h"
#include "wrapping.h"

#define AF_INET 2

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
};

static __always_inline const struct iphdr *read_ipv4(const struct __sk_buff *skb)
{
	const struct iphdr *ip = (void *)(long)skb->data + sizeof(struct ethhdr);

	if (skb->protocol != bpf_htons(ETH_P_IP) || (void *)(ip + 1) > (void *)(long)skb->data_end)
		return NULL;
	return ip;
}

static __always_inline const struct real_value *find_real(const struct __sk_buff *skb)
{
	__u32 index = skb->mark & PROBE_MARK_SEAT_BITS;
	const struct real_value *real = bpf_map_lookup_elem(&reals, &index);

	return real && real->family && mapped_ipv4(&real->address) ? real : NULL;
}

/* An unresolved neighbour is no obstacle: the kernel resolves it and keeps the probe meanwhile. */
static __always_inline enum verdict find_way(struct __sk_buff *skb, __be32 source, __be32 real,
					     __u16 ip_bytes, struct way *way)
{
	struct bpf_fib_lookup lookup = {
		.family = AF_INET,
		.l4_protocol = IPPROTO_UDP,
		.tot_len = ip_bytes,
		.ipv4_src = source,
		.ipv4_dst = real,
		.ifindex = edge_ifindex,
	};
	long found = bpf_fib_lookup(skb, &lookup, sizeof(lookup), 0);

	if (found == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return VERDICT_DROPPED_TOO_BIG;
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return VERDICT_DROPPED_NO_ROUTE;
	way->ifindex = lookup.ifindex;
	way->next.nh_family = AF_INET;
	way->next.ipv4_nh = lookup.ipv4_dst;
	return VERDICT_UNDECIDED;
}

static __always_inline enum verdict wrap(struct __sk_buff *skb, const struct iphdr *inner,
					 const struct settings_value *setting, __be32 real)
{
	struct gue_wrapping wrapping;

	write_gue_wrapping(&wrapping, inner, setting, real, bpf_get_hash_recalc(skb));
	if (bpf_skb_adjust_room(skb, sizeof(wrapping), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP) ||
	    bpf_skb_store_bytes(skb, sizeof(struct ethhdr), &wrapping, sizeof(wrapping), 0))
		return VERDICT_DROPPED_TOO_BIG;
	return VERDICT_FORWARDED_GUE;
}

static __always_inline enum verdict send_probe(struct __sk_buff *skb, struct way *way)
{
	const struct iphdr *ip = read_ipv4(skb);
	__u32 zero = 0;
	const struct settings_value *setting = bpf_map_lookup_elem(&settings, &zero);
	const struct real_value *real;
	enum verdict verdict;
	__be32 address;
	__u16 ip_bytes;

	if ((skb->mark & ~PROBE_MARK_SEAT_BITS) != PROBE_MARK_OWNER)
		return VERDICT_DROPPED_NOT_PROBE;
	real = find_real(skb);
	if (!real)
		return VERDICT_DROPPED_UNKNOWN_REAL;
	if (!ip || real->family != FAMILY_IPV4)
		return VERDICT_DROPPED_REAL_UNSUPPORTED;
	if (!setting || (real->encap == ENCAP_GUE && !mapped_ipv4(&setting->tunnel_source)))
		return VERDICT_DROPPED_NO_TUNNEL_SOURCE;
	address = mapped_ipv4(&real->address);
	ip_bytes = bpf_ntohs(ip->tot_len) + (real->encap == ENCAP_GUE ? GUE_WRAPPING_BYTES : 0);
	verdict = find_way(skb, mapped_ipv4(&setting->tunnel_source), address, ip_bytes, way);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	if (real->encap == ENCAP_GUE)
		return wrap(skb, ip, setting, address);
	return way->next.ipv4_nh == address ? VERDICT_FORWARDED_L2 : VERDICT_DROPPED_NOT_ON_LINK;
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
	return bpf_redirect_neigh(way.ifindex, &way.next, sizeof(way.next), 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
