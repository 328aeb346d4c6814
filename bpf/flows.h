/*
 * Flow memory: which real a flow has, so that a change of the ring does not move it. A TCP flow is
 * remembered at its first packet that is not a SYN, so a SYN flood evicts nobody. A SYN forgets:
 * the client reuses its port, and the ring decides. A UDP flow is remembered at once, and for a
 * time.
 */
#pragma once

#include "maps.h"

/* Inner maps name their types by pointer only; this keeps the key's layout in BTF. */
const volatile struct flow_key flow_key_layout;
const volatile struct flow_value flow_value_layout;

const volatile __u64 udp_flow_age_ns = 30ULL * 1000 * 1000 * 1000;

static __always_inline void *own_flow_table(const struct xdp_md *ctx)
{
	__u32 queue = ctx->rx_queue_index;

	return bpf_map_lookup_elem(&flows, &queue);
}

static __always_inline struct flow_key key_of_flow(const struct flow *flow, __u32 vip_index)
{
	return (struct flow_key){
		.client = flow->client,
		.client_port = flow->client_port,
		.vip_port = flow->vip_port,
		.vip_index = vip_index,
	};
}

static __always_inline struct flow_value *recall_flow(void *table, const struct flow_key *key,
						      __u8 protocol)
{
	struct flow_value *remembered = bpf_map_lookup_elem(table, key);
	__u64 now;

	if (!remembered || protocol != IPPROTO_UDP)
		return remembered;
	now = bpf_ktime_get_ns();
	if (now - remembered->last_seen_ns > udp_flow_age_ns)
		return NULL;
	remembered->last_seen_ns = now;
	return remembered;
}

static __always_inline void remember_flow(void *table, const struct flow_key *key, __u8 protocol,
					  __u32 real_index, __u32 epoch)
{
	struct flow_value value = {
		.real = real_index,
		.epoch = epoch,
		.last_seen_ns = protocol == IPPROTO_UDP ? bpf_ktime_get_ns() : 0,
	};

	/* A full table evicts its oldest; a failure means that the ring decides again next time. */
	bpf_map_update_elem(table, key, &value, BPF_ANY);
}

/* Looks first: a deletion takes the bucket's lock, and a flood's flows are not there. */
static __always_inline void forget_flow(void *table, const struct flow_key *key)
{
	if (bpf_map_lookup_elem(table, key))
		bpf_map_delete_elem(table, key);
}
