/*
 * The edge's data plane: finds the VIP a packet is for, chooses a real, and sends the packet there.
 * Attached to the interface that clients' packets come in by. Real servers answer clients directly,
 * so only one direction is ever seen here.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "cursor.h"
#include "encap.h"
#include "filter.h"
#include "flow.h"
#include "flows.h"
#include "fragments.h"
#include "lb_verdict.h"
#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "quic.h"
#include "reset.h"
#include "ring.h"
#include "seen.h"
#include "too_big.h"
#include "unusual.h"
#include "verdict.h"

/* Keeps the names of the verdicts in BTF. */
const volatile enum verdict verdict_names = VERDICT_COUNT;

static __always_inline enum verdict find_vip(struct packet *packet, struct vip_value *found)
{
	struct vip_key key = {
		.address = packet->flow.vip,
		.port = packet->flow.vip_port,
		.protocol = packet->flow.protocol,
	};
	const struct vip_value *vip = bpf_map_lookup_elem(&vips, &key);

	if (!vip) {
		if (!is_vip_address(&packet->flow.vip))
			return VERDICT_PASSED_NOT_VIP;
		key.port = 0;
		vip = bpf_map_lookup_elem(&vips, &key);
		if (!vip)
			return packet->fragment == FRAGMENT_ORPHAN ? VERDICT_DROPPED_FRAGMENT
								   : VERDICT_DROPPED_NO_SERVICE;
	}
	*found = *vip;
	if (packet->fragment == FRAGMENT_ORPHAN && !vip->two_tuple)
		return VERDICT_DROPPED_FRAGMENT;
	if (vip->two_tuple)
		packet->flow.client_port = packet->flow.vip_port = 0;
	packet->vip_index = found->index;
	return packet->ttl <= 1 ? VERDICT_DROPPED_TTL : VERDICT_UNDECIDED;
}

/* The real that a first fragment or a connection id named, if it still is that one, and up. */
static __always_inline const struct real_value *find_named_real(const struct packet *packet)
{
	const struct real_value *real = find_live_real(packet->real_index);

	return real && real->epoch == packet->real_epoch ? real : NULL;
}

/* Memory first, then the ring. Ends in the FORWARDED verdict that tells which of them decided. */
static __always_inline enum verdict pick_real(struct xdp_md *ctx, struct packet *packet,
					      const struct vip_value *vip,
					      const struct real_value **real)
{
	struct flow_key key = key_of_flow(&packet->flow, packet->vip_index);
	__u8 protocol = packet->flow.protocol;
	void *table = vip->flow_memory ? own_flow_table(ctx) : NULL;
	enum verdict chosen_by = VERDICT_FORWARDED_NEW;
	const struct flow_value *remembered;
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
	if (!table) {
		chosen_by =
			vip->flow_memory ? VERDICT_FORWARDED_NO_TABLE : VERDICT_FORWARDED_NO_MEMORY;
	} else if (packet->starts_connection) {
		forget_flow(table, &key);
		chosen_by = VERDICT_FORWARDED_SYN;
	} else if ((remembered = recall_flow(table, &key, protocol))) {
		packet->real_index = remembered->real;
		*real = find_live_real(packet->real_index);
		if (*real && (*real)->epoch == remembered->epoch)
			return VERDICT_FORWARDED_REMEMBERED;
		chosen_by = VERDICT_FORWARDED_REASSIGNED;
	}
	verdict = pick_by_ring(packet->vip_index, packet->hash, &packet->real_index, real);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	if (packet->is_quoted || packet->fragment == FRAGMENT_LATER)
		return chosen_by; /* it follows a flow, and begins none */
	if (table && !packet->starts_connection)
		remember_flow(table, &key, protocol, packet->real_index, (*real)->epoch);
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

static __always_inline enum verdict balance(struct xdp_md *ctx, struct packet *packet)
{
	const struct real_value *real = NULL;
	enum verdict verdict = parse(ctx, packet);
	enum verdict filtered, sent;
	struct vip_value vip;

	if (verdict >= VERDICT_UNDECIDED && (filtered = filter_source(packet)) != VERDICT_UNDECIDED)
		return filtered;
	if (verdict == VERDICT_UNUSUAL)
		verdict = parse_unusual(ctx, packet);
	if (verdict == VERDICT_UNDECIDED && packet->fragment == FRAGMENT_LATER)
		recall_datagram(packet);
	if (verdict == VERDICT_UNDECIDED)
		verdict = find_vip(packet, &vip);
	if (verdict == VERDICT_UNDECIDED)
		verdict = filter_vip(packet);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	packet->hash = flow_hash(&packet->flow, vip.by_source);
	verdict = pick_real(ctx, packet, &vip, &real);
	if (!real || verdict < VERDICT_FIRST_FORWARDED)
		return verdict == VERDICT_DROPPED_NO_REAL ? fall_back(ctx, packet, vip.fallback)
							  : verdict;
	if (packet->fragment == FRAGMENT_FIRST)
		remember_datagram(packet, real->epoch);
	sent = send(ctx, packet, real);
	if (sent == VERDICT_DROPPED_TOO_BIG)
		return answer_too_big(ctx, packet);
	if (sent != VERDICT_UNDECIDED)
		return sent;
	return packet->is_quoted ? VERDICT_FORWARDED_ICMP : verdict;
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
