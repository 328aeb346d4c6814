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
#include "lb_verdict.h"
#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "ring.h"
#include "seen.h"
#include "verdict.h"

/* Keeps the names of the verdicts in BTF. */
const volatile enum verdict verdict_names = VERDICT_COUNT;

static __always_inline enum verdict find_vip(struct packet *packet)
{
	struct vip_key key = {
		.address = packet->flow.vip,
		.port = packet->flow.vip_port,
		.protocol = packet->flow.protocol,
	};
	const struct vip_value *vip = bpf_map_lookup_elem(&vips, &key);

	if (!vip) {
		key.port = 0;
		vip = bpf_map_lookup_elem(&vips, &key);
	}
	if (!vip)
		return is_vip_address(&packet->flow.vip) ? VERDICT_DROPPED_NO_SERVICE
							 : VERDICT_PASSED_NOT_VIP;
	packet->vip_index = vip->index;
	return packet->ttl <= 1 ? VERDICT_DROPPED_TTL : VERDICT_UNDECIDED;
}

/* Memory first, then the ring. Ends in the FORWARDED verdict that tells which of them decided. */
static __always_inline enum verdict pick_real(const struct xdp_md *ctx, struct packet *packet,
					      const struct real_value **real)
{
	void *table = own_flow_table(ctx);
	enum verdict chosen_by = table ? VERDICT_FORWARDED_NEW : VERDICT_FORWARDED_NO_TABLE;
	const struct flow_value *remembered;
	enum verdict verdict;

	if (table && packet->starts_connection) {
		forget_flow(table, &packet->flow);
		chosen_by = VERDICT_FORWARDED_SYN;
	} else if (table && (remembered = recall_flow(table, &packet->flow))) {
		packet->real_index = remembered->real;
		*real = find_live_real(packet->real_index);
		if (*real && (*real)->epoch == remembered->epoch)
			return VERDICT_FORWARDED_REMEMBERED;
		chosen_by = VERDICT_FORWARDED_REASSIGNED;
	}
	verdict = pick_by_ring(packet->vip_index, packet->hash, &packet->real_index, real);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	if (table && !packet->starts_connection)
		remember_flow(table, &packet->flow, packet->real_index, (*real)->epoch);
	return chosen_by;
}

static __always_inline enum verdict send(struct xdp_md *ctx, struct packet *packet,
					 const struct real_value *real)
{
	__u32 zero = 0;
	const struct settings_value *setting = bpf_map_lookup_elem(&settings, &zero);
	__be32 address = mapped_ipv4(&real->address);
	int tunnelled = real->encap == ENCAP_GUE;
	__u32 ip_bytes = packet->ip_bytes + (tunnelled ? GUE_WRAPPING_BYTES : 0);
	struct next_hop hop = {};
	enum verdict verdict;

	if (!setting || (tunnelled && !mapped_ipv4(&setting->tunnel_source)))
		return VERDICT_DROPPED_NO_TUNNEL_SOURCE;
	if (real->family != FAMILY_IPV4)
		return VERDICT_DROPPED_REAL_UNSUPPORTED;
	if (ip_bytes > 0xffff || (setting->mtu && ip_bytes > setting->mtu))
		return VERDICT_DROPPED_TOO_BIG;
	verdict = find_next_hop(ctx, mapped_ipv4(&setting->tunnel_source), address, ip_bytes, &hop);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	if (!tunnelled && hop.address != address)
		return VERDICT_DROPPED_NOT_ON_LINK;
	packet->out_ifindex = hop.ifindex;
	return tunnelled ? send_gue(ctx, &hop, setting, address, packet->hash) : send_l2(ctx, &hop);
}

static __always_inline enum verdict balance(struct xdp_md *ctx, struct packet *packet)
{
	const struct real_value *real = NULL;
	enum verdict verdict = parse(ctx, packet);
	enum verdict sent;

	if (verdict == VERDICT_UNDECIDED)
		verdict = filter_source(packet);
	if (verdict == VERDICT_UNDECIDED)
		verdict = find_vip(packet);
	if (verdict == VERDICT_UNDECIDED)
		verdict = filter_vip(packet);
	if (verdict != VERDICT_UNDECIDED)
		return verdict;
	packet->hash = flow_hash(&packet->flow);
	verdict = pick_real(ctx, packet, &real);
	if (!real || verdict < VERDICT_FIRST_FORWARDED)
		return verdict;
	sent = send(ctx, packet, real);
	return sent == VERDICT_UNDECIDED ? verdict : sent;
}

SEC("xdp")
int lb(struct xdp_md *ctx)
{
	struct packet packet = {.vip_index = VIP_NONE};
	enum verdict verdict = balance(ctx, &packet);
	int action = XDP_PASS;

	if (verdict >= VERDICT_FIRST_FORWARDED)
		action = packet.out_ifindex == ctx->ingress_ifindex
				 ? XDP_TX
				 : (int)bpf_redirect(packet.out_ifindex, 0);
	else if (verdict >= VERDICT_FIRST_DROPPED)
		action = XDP_DROP;
	see(ctx, &packet, verdict);
	return action;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
