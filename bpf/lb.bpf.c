/*
 * The edge's data plane: finds the VIP a packet is for, chooses a real, and sends the packet there.
 * Attached to the interface that clients' packets come in by. Real servers answer clients directly,
 * so only one direction is ever seen here.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "chained.h"
#include "cursor.h"
#include "encap.h"
#include "filter.h"
#include "flow.h"
#include "flows.h"
#include "fragments.h"
#include "icmp_error.h"
#include "lb_verdict.h"
#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "quic.h"
#include "reset.h"
#include "ring.h"
#include "seen.h"
#include "taken_over.h"
#include "unusual.h"
#include "verdict.h"

/* Keeps the names of the verdicts in BTF. */
const volatile enum verdict verdict_names = VERDICT_COUNT;

static __always_inline enum verdict find_vip(struct packet *packet, const struct vip **found)
{
	__u8 protocol = packet->flow.protocol;
	const struct service *service = find_service(
		&packet->flow.vip, service_word(packet->flow.vip_port, protocol, SERVICE_VIP));

	if (!service) {
		if (!is_vip_address(&packet->flow.vip))
			return VERDICT_PASSED_NOT_VIP;
		service = find_service(&packet->flow.vip, service_word(0, protocol, SERVICE_VIP));
		if (!service)
			return packet->fragment == FRAGMENT_ORPHAN ? VERDICT_DROPPED_FRAGMENT
								   : VERDICT_DROPPED_NO_SERVICE;
	}
	*found = &service->vip;
	if (packet->fragment == FRAGMENT_ORPHAN && !(service->vip.flags & VIP_TWO_TUPLE))
		return VERDICT_DROPPED_FRAGMENT;
	if (service->vip.flags & VIP_TWO_TUPLE)
		packet->flow.client_port = packet->flow.vip_port = 0;
	packet->vip_index = service->vip.index;
	return VERDICT_UNDECIDED;
}

/* The real that a first fragment or a connection id named, if it still is that one, and up. */
static __always_inline const struct real_value *find_named_real(const struct packet *packet)
{
	const struct real_value *real = find_live_real(packet->real_index);

	return real && real->epoch == packet->real_epoch ? real : NULL;
}

/* The real that flow memory holds, if it is up and the same. A UDP flow may be too long idle. */
static __always_inline enum verdict recall_real(struct packet *packet, const struct vip *vip,
						struct flow_entry *entry, __u64 flow,
						const struct real_value **real)
{
	__u64 value = entry->value;
	__u32 now = ticks_of(&packet->flow, vip);
	const struct real_value *held;

	if (packet->flow.protocol == IPPROTO_UDP && idle_ticks(value, now) > udp_flow_age_ticks)
		return VERDICT_FORWARDED_NEW;
	packet->real_index = real_of(value);
	held = find_live_real(packet->real_index);
	if (!held || !is_owner(value, held))
		return VERDICT_FORWARDED_REASSIGNED;
	touch_flow(entry, flow, value, now);
	*real = held;
	return VERDICT_FORWARDED_REMEMBERED;
}

/* Whether a flow's real is in its grace: its flow stays remembered, for it may be back soon. */
static __always_inline int may_return(__u64 value)
{
	const struct real_value *real = find_candidate(real_of(value));

	return real && real->state == REAL_IN_GRACE && is_owner(value, real);
}

/* The real that another edge told of, if it is up and the same here. */
static __always_inline enum verdict take_over(struct packet *packet, __u64 flow,
					      const struct real_value **real)
{
	__u64 value = recall_taken_over(flow);
	const struct real_value *told = find_live_real(real_of(value));

	if (!told || !is_owner(value, told))
		return VERDICT_FORWARDED_NEW;
	packet->real_index = real_of(value);
	*real = told;
	return VERDICT_FORWARDED_TAKEN_OVER;
}

/* Whether the VIP wants this packet's flow remembered. A SYN forgets, wherever its slot stands. */
static __always_inline int is_memorable(const struct packet *packet, const struct vip *vip,
					const struct chain_slot *slot)
{
	return vip->flow_buckets && (!(vip->flags & VIP_REMEMBERS_MOVED) || has_moved(slot) ||
				     packet->starts_connection);
}

/* The real that a flow gets which nobody remembers. */
static __always_inline enum verdict pick_new(struct packet *packet, const struct vip *vip,
					     const struct chain_slot *slot,
					     const struct real_value **real)
{
	if (vip->flags & VIP_CHAINED)
		return pick_by_chain(slot, packet->starts_connection, &packet->real_index, real);
	return pick_by_ring(packet->vip_index, packet->hash, &packet->real_index, real);
}

/* Memory first, then the ring. Ends in the FORWARDED verdict that tells which of them decided. */
static __always_inline enum verdict pick_real(struct xdp_md *ctx, struct packet *packet,
					      const struct vip *vip, const struct chain_slot *slot,
					      __u64 flow, const struct real_value **real)
{
	const int memorable = is_memorable(packet, vip, slot);
	struct flow_bucket *bucket = memorable ? find_bucket(ctx, vip, flow) : NULL;
	enum verdict chosen_by = VERDICT_FORWARDED_NEW;
	struct flow_entry *entry = NULL;
	enum verdict verdict;

	if (packet->fragment == FRAGMENT_LATER) {
		*real = find_named_real(packet);
		if (*real)
			return VERDICT_FORWARDED_FRAGMENT;
	} else if (vip->quic_id_bytes && !packet->is_quoted &&
		   read_server_id(ctx, packet, vip->quic_id_bytes, vip->quic_rotation)) {
		*real = find_named_real(packet);
		if (*real)
			return VERDICT_FORWARDED_QUIC;
	}
	if (!bucket)
		chosen_by = memorable ? VERDICT_FORWARDED_NO_TABLE : VERDICT_FORWARDED_NO_MEMORY;
	else
		entry = recall_flow(bucket, flow);
	if (packet->starts_connection && bucket) {
		if (entry)
			forget_flow(entry);
		if (vip->flags & VIP_SHARES_FLOWS)
			forget_taken_over(flow);
		chosen_by = VERDICT_FORWARDED_SYN;
	} else if (entry) {
		chosen_by = recall_real(packet, vip, entry, flow, real);
		if (chosen_by == VERDICT_FORWARDED_REMEMBERED)
			return chosen_by;
	} else if (bucket && vip->flags & VIP_SHARES_FLOWS) {
		chosen_by = take_over(packet, flow, real);
	}
	if (chosen_by != VERDICT_FORWARDED_TAKEN_OVER) {
		verdict = pick_new(packet, vip, slot, real);
		if (verdict != VERDICT_UNDECIDED)
			return verdict;
	}
	if (packet->is_quoted || packet->fragment == FRAGMENT_LATER)
		return chosen_by; /* it follows a flow, and begins none */
	if (bucket && !packet->starts_connection) {
		if (entry && chosen_by == VERDICT_FORWARDED_REASSIGNED && may_return(entry->value))
			return chosen_by;
		if (entry)
			write_flow(entry, flow, flow_value(packet, vip, *real));
		else if (!remember_flow(bucket, flow, flow_value(packet, vip, *real)) &&
			 chosen_by != VERDICT_FORWARDED_TAKEN_OVER)
			return VERDICT_FORWARDED_NO_ROOM;
	}
	return chosen_by;
}

static __always_inline enum verdict fall_back(struct xdp_md *ctx, const struct packet *packet,
					      enum fallback fallback)
{
	switch (fallback) {
	case FALLBACK_PASS:
		return VERDICT_PASSED_NO_REAL;
	case FALLBACK_RESET:
		return answer_reset(ctx, packet);
	default:
		return VERDICT_DROPPED_NO_REAL;
	}
}

/* Whose packet is it, and may the client send it? Undecided means: a VIP's, and it may. */
static __always_inline enum verdict admit(struct xdp_md *ctx, struct packet *packet,
					  const struct vip **vip)
{
	const struct filter_settings *filter = find_filter();
	enum verdict verdict = parse(ctx, packet);
	enum verdict filtered;

	if (verdict >= VERDICT_UNDECIDED) {
		filtered = filter_source(filter, packet);
		if (filtered != VERDICT_UNDECIDED)
			return filtered;
	}
	if (verdict == VERDICT_UNUSUAL)
		verdict = parse_unusual(ctx, packet);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	if (packet->fragment == FRAGMENT_LATER)
		recall_datagram(packet);
	verdict = find_vip(packet, vip);
	if (verdict == VERDICT_UNDECIDED)
		verdict = filter_vip(filter, packet);
	if (verdict == VERDICT_UNDECIDED && packet->ttl <= 1)
		verdict = answer_time_exceeded(ctx, packet);
	return verdict;
}

static __always_inline enum verdict balance(struct xdp_md *ctx, struct packet *packet)
{
	const struct chain_slot *slot = NULL;
	const struct real_value *real = NULL;
	const struct vip *vip = NULL;
	enum verdict verdict = admit(ctx, packet, &vip);
	enum verdict sent;
	__u64 flow;

	if (verdict != VERDICT_UNDECIDED || !vip)
		return verdict;
	flow = flow_hash(&packet->flow, 0);
	packet->hash = vip->flags & VIP_BY_SOURCE ? flow_hash(&packet->flow, 1) : flow;
	if (vip->flags & VIP_CHAINED)
		slot = find_chain(vip->index, packet->hash);
	verdict = pick_real(ctx, packet, vip, slot, flow, &real);
	if (!real || verdict < VERDICT_FIRST_FORWARDED)
		return verdict == VERDICT_DROPPED_NO_REAL ? fall_back(ctx, packet, vip->fallback)
							  : verdict;
	if (packet->fragment == FRAGMENT_FIRST)
		remember_datagram(packet, real->epoch);
	if (wants_chain(packet, vip, slot, real, verdict) &&
	    make_chain(slot, real, packet->real_index))
		sent = send_chained(ctx, packet, real);
	else
		sent = verdict == VERDICT_FORWARDED_REMEMBERED ? send_swiftly(ctx, packet, real)
							       : send(ctx, packet, real);
	if (sent == VERDICT_DROPPED_TOO_BIG)
		return answer_too_big(ctx, packet);
	if (sent != VERDICT_UNDECIDED)
		return sent;
	return packet->is_quoted ? VERDICT_FORWARDED_ICMP : verdict;
}

SEC("xdp")
int lb(struct xdp_md *ctx)
{
	struct packet packet = {.vip_index = VIP_NONE};
	enum verdict verdict = balance(ctx, &packet);
	int action = XDP_PASS;

	if (verdict >= VERDICT_FIRST_FORWARDED)
		action = leave(ctx, packet.out_ifindex);
	else if (verdict >= VERDICT_FIRST_ANSWERED)
		action = XDP_TX;
	else if (verdict >= VERDICT_FIRST_DROPPED)
		action = XDP_DROP;
	see(ctx, &packet, verdict);
	return action;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
