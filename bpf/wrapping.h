/*
 * The tunnel's own headers, written the same for a client's packet and for a probe. Knows neither
 * where they stand nor what sort of context the program runs in.
 */
#pragma once

#include "csum.h"
#include "reals.h"

/* RFC 6335 section 6: 0xc000-0xffff are the dynamic ports; routers and NICs spread by them. */
#define GUE_SOURCE_PORT_BASE 0xc000
#define GUE_SOURCE_PORT_BITS 0x3fff

struct gue_wrapping {
	struct iphdr ip;
	struct udphdr udp;
	struct gue_header gue;
};

_Static_assert(sizeof(struct gue_wrapping) == GUE_WRAPPING_BYTES, "the wrapping has no holes");

/*
 * Outer header: DF, so that an oversized packet is seen and not cut; id 0, as RFC 6864 section 4.1
 * allows under DF; DSCP copied, ECN not, because the real's side does not carry marks back in
 * (RFC 6040 section 4.1, compatibility mode); UDP checksum 0, as IPv4 allows and GUE section 5.
 */
static __always_inline void write_gue_wrapping(struct gue_wrapping *wrapping,
					       const struct iphdr *inner,
					       const struct settings_value *settings, __be32 real,
					       __u16 spread)
{
	__u16 inner_bytes = bpf_ntohs(inner->tot_len);

	wrapping->ip = (struct iphdr){
		.version = IPV4_VERSION,
		.ihl = IPV4_MIN_HEADER_WORDS,
		.tos = inner->tos & IPV4_DSCP_BITS,
		.tot_len = bpf_htons(inner_bytes + GUE_WRAPPING_BYTES),
		.frag_off = bpf_htons(IPV4_DONT_FRAGMENT),
		.ttl = IPV4_DEFAULT_TTL,
		.protocol = IPPROTO_UDP,
		.saddr = mapped_ipv4(&settings->tunnel_source),
		.daddr = real,
	};
	wrapping->ip.check = ipv4_checksum(&wrapping->ip);
	wrapping->udp = (struct udphdr){
		.source = bpf_htons(GUE_SOURCE_PORT_BASE | (spread & GUE_SOURCE_PORT_BITS)),
		.dest = settings->gue_port,
		.len = bpf_htons(inner_bytes + sizeof(wrapping->udp) + sizeof(wrapping->gue)),
	};
	wrapping->gue = (struct gue_header){.protocol = IPPROTO_IPIP};
}
