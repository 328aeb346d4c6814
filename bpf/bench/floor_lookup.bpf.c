/*
 * The upper floor of the bench: what any balancer must do. Reads the headers, looks one service up
 * in a hash, sends the packet back.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "cursor.h"
#include "packet.h"

#define MAX_SERVICES 512

struct service {
	struct address address;
	__be16 port;
	__u16 protocol;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SERVICES);
	__type(key, struct service);
	__type(value, __u32);
} services SEC(".maps");

SEC("xdp")
int floor_lookup(struct xdp_md *ctx)
{
	struct cursor cursor = cursor_at_start(ctx);
	const struct ethhdr *ethernet = cursor_take(&cursor, sizeof(*ethernet));
	const struct iphdr *ip = cursor_take(&cursor, sizeof(*ip));
	const struct tcphdr *tcp = cursor_take(&cursor, sizeof(*tcp));
	struct service service = {};

	if (!ethernet || !ip || !tcp || ethernet->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	map_ipv4(&service.address, ip->daddr);
	service.port = tcp->dest;
	service.protocol = ip->protocol;
	return bpf_map_lookup_elem(&services, &service) ? XDP_TX : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
