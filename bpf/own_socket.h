/*
 * Does a socket of this host hold the packet's flow? Asked before a packet with an owner chain is
 * taken out of its tunnel: the sockets of our own network namespace, then those of containers. TCP:
 * any socket but a listener, or a listener whose SYN cookie the packet brings back. Time-wait holds
 * nothing: both ends have closed, and the client's port may be in use again, at another real. UDP:
 * a connected socket. An ICMP error is asked for by the flow that it quotes.
 */
#pragma once

#include "cursor.h"
#include "extension.h"
#include "flow.h"
#include "packet.h"
#include "quote.h"
#include "tunnel.h"

#define TCP_ESTABLISHED 1 /* states of the kernel's sockets; UDP's is this once it is connected */
#define TCP_TIME_WAIT   6
#define TCP_LISTEN      10
#define MAX_NAMESPACES  4 /* of containers, whose sockets are asked after our own */

struct namespace_value {
	__s32 id; /* as our own namespace numbers it (RTM_NEWNSID) */
	__u32 is_used;
};

_Static_assert(sizeof(struct namespace_value) == 8, "namespace layout");

/* Used ones first. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_NAMESPACES);
	__type(key, __u32);
	__type(value, struct namespace_value);
} socket_namespaces SEC(".maps");

/* The flow that is asked for, and where in the frame a SYN cookie may be. */
struct sought {
	struct flow flow;
	__u32 ip_at;
	__u32 tcp_at; /* 0: it brings no cookie */
};

/* Behind the IP headers. Undecided means: its flow is known. */
static __always_inline enum verdict read_ports(struct xdp_md *ctx, struct sought *sought,
					       __u8 protocol, __u32 at)
{
	const struct icmp_header *icmp;
	const struct tcphdr *tcp;
	const struct udphdr *udp;
	struct cursor cursor;
	int is_error;

	sought->flow.protocol = protocol;
	if (!cursor_stand_at(&cursor, ctx, at))
		return VERDICT_PASSED_UNASKED;
	if (protocol == IPPROTO_TCP) {
		tcp = cursor_take(&cursor, sizeof(*tcp));
		if (!tcp)
			return VERDICT_PASSED_UNASKED;
		if (tcp->syn && !tcp->ack)
			return VERDICT_PASSED_SYN;
		sought->flow.client_port = tcp->source;
		sought->flow.vip_port = tcp->dest;
		sought->tcp_at = at;
		return VERDICT_UNDECIDED;
	}
	if (protocol == IPPROTO_UDP) {
		udp = cursor_take(&cursor, sizeof(*udp));
		if (!udp)
			return VERDICT_PASSED_UNASKED;
		sought->flow.client_port = udp->source;
		sought->flow.vip_port = udp->dest;
		return VERDICT_UNDECIDED;
	}
	if (protocol != (sought->flow.is_ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return VERDICT_PASSED_UNASKED;
	icmp = cursor_take(&cursor, sizeof(*icmp));
	if (!icmp)
		return VERDICT_PASSED_UNASKED;
	if (sought->flow.is_ipv6)
		is_error = is_error_ipv6(icmp->type) &&
			   read_quote_ipv6(ctx, &cursor, at + sizeof(*icmp), &sought->flow);
	else
		is_error = is_error_ipv4(icmp->type) && read_quote_ipv4(&cursor, &sought->flow);
	return is_error ? VERDICT_UNDECIDED : VERDICT_PASSED_UNASKED;
}

/* Reads the client's packet, whose IP header was found whole, up to its ports. */
static __always_inline enum verdict read_flow(struct xdp_md *ctx, struct sought *sought)
{
	struct extension extension = {};
	const struct ipv6hdr *ipv6;
	const struct iphdr *ipv4;
	struct cursor cursor;

	if (!cursor_stand_at(&cursor, ctx, sought->ip_at))
		return VERDICT_PASSED_UNASKED;
	if (!sought->flow.is_ipv6) {
		ipv4 = cursor_take(&cursor, sizeof(*ipv4));
		if (!ipv4 || ipv4->frag_off & bpf_htons(IPV4_OFFSET_BITS))
			return VERDICT_PASSED_UNASKED;
		map_ipv4(&sought->flow.client, ipv4->saddr);
		map_ipv4(&sought->flow.vip, ipv4->daddr);
		return read_ports(ctx, sought, ipv4->protocol,
				  sought->ip_at + ipv4_header_bytes(ipv4));
	}
	ipv6 = cursor_take(&cursor, sizeof(*ipv6));
	if (!ipv6)
		return VERDICT_PASSED_UNASKED;
	copy_ipv6(&sought->flow.client, &ipv6->saddr);
	copy_ipv6(&sought->flow.vip, &ipv6->daddr);
	extension.at = sought->ip_at + sizeof(*ipv6);
	extension.protocol = ipv6->nexthdr;
	if (!walk_extensions(ctx, &extension) || extension.fragment == FRAGMENT_LATER)
		return VERDICT_PASSED_UNASKED;
	return read_ports(ctx, sought, extension.protocol, extension.at);
}

/* RFC 4987: the listener keeps nothing of a client until its cookie comes back. */
static __always_inline int brings_cookie(struct xdp_md *ctx, const struct sought *sought,
					 struct bpf_sock *listener)
{
	__u32 ip_bytes = sought->flow.is_ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	struct cursor cursor;
	struct tcphdr *tcp;
	void *ip;

	if (!sought->tcp_at || !cursor_stand_at(&cursor, ctx, sought->ip_at))
		return 0;
	ip = sought->flow.is_ipv6 ? cursor_take(&cursor, sizeof(struct ipv6hdr))
				  : cursor_take(&cursor, sizeof(struct iphdr));
	if (!ip || !cursor_stand_at(&cursor, ctx, sought->tcp_at))
		return 0;
	tcp = cursor_take(&cursor, sizeof(*tcp));
	if (!tcp)
		return 0;
	return bpf_tcp_check_syncookie(listener, ip, ip_bytes, tcp, sizeof(*tcp)) == 0;
}

static __always_inline enum verdict ask_tcp(struct xdp_md *ctx, const struct sought *sought,
					    struct bpf_sock_tuple *tuple, __u32 bytes,
					    __u64 namespace)
{
	struct bpf_sock *socket = bpf_skc_lookup_tcp(ctx, tuple, bytes, namespace, 0);
	enum verdict verdict = VERDICT_UNDECIDED;

	if (!socket)
		return VERDICT_UNDECIDED;
	if (socket->state != TCP_LISTEN && socket->state != TCP_TIME_WAIT)
		verdict = VERDICT_PASSED_OWN_SOCKET;
	else if (socket->state == TCP_LISTEN && brings_cookie(ctx, sought, socket))
		verdict = VERDICT_PASSED_SYN_COOKIE;
	bpf_sk_release(socket);
	return verdict;
}

static __always_inline enum verdict ask_udp(struct xdp_md *ctx, struct bpf_sock_tuple *tuple,
					    __u32 bytes, __u64 namespace)
{
	struct bpf_sock *socket = bpf_sk_lookup_udp(ctx, tuple, bytes, namespace, 0);
	enum verdict verdict = VERDICT_UNDECIDED;

	if (!socket)
		return VERDICT_UNDECIDED;
	if (socket->state == TCP_ESTABLISHED)
		verdict = VERDICT_PASSED_OWN_SOCKET;
	bpf_sk_release(socket);
	return verdict;
}

/* In one namespace; a function of its own, verified once for all of them. */
__noinline int ask_namespace(struct xdp_md *ctx, const struct sought *sought, __s64 namespace)
{
	struct bpf_sock_tuple tuple = {};
	const struct flow *flow;
	__u32 bytes;

	if (!sought)
		return VERDICT_UNDECIDED;
	flow = &sought->flow;
	if (flow->is_ipv6) {
		bytes = sizeof(tuple.ipv6);
		__builtin_memcpy(tuple.ipv6.saddr, flow->client.words, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, flow->vip.words, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = flow->client_port;
		tuple.ipv6.dport = flow->vip_port;
	} else {
		bytes = sizeof(tuple.ipv4);
		tuple.ipv4.saddr = mapped_ipv4(&flow->client);
		tuple.ipv4.daddr = mapped_ipv4(&flow->vip);
		tuple.ipv4.sport = flow->client_port;
		tuple.ipv4.dport = flow->vip_port;
	}
	if (flow->protocol == IPPROTO_TCP)
		return ask_tcp(ctx, sought, &tuple, bytes, namespace);
	return ask_udp(ctx, &tuple, bytes, namespace);
}

/* Undecided means: no socket here holds its flow. */
__noinline int ask_own_sockets(struct xdp_md *ctx, const struct tunnel *tunnel)
{
	const struct namespace_value *namespace;
	struct sought sought = {};
	enum verdict verdict;

	if (!tunnel)
		return VERDICT_PASSED_UNASKED;
	sought.flow.is_ipv6 = tunnel->protocol == IPPROTO_IPV6;
	sought.ip_at = tunnel->inner_at;
	verdict = read_flow(ctx, &sought);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	verdict = ask_namespace(ctx, &sought, BPF_F_CURRENT_NETNS);
	for (__u32 i = 0; i < MAX_NAMESPACES && verdict == VERDICT_UNDECIDED; i++) {
		__u32 key = i;

		namespace = bpf_map_lookup_elem(&socket_namespaces, &key);
		if (!namespace || !namespace->is_used)
			break;
		verdict = ask_namespace(ctx, &sought, namespace->id);
	}
	return verdict;
}
