/*
 * The tunnel's own headers, written the same for a client's packet and for a probe. Knows neither
 * where they stand nor what sort of context the program runs in. Every pairing of IPv4 and IPv6.
 */
#pragma once

#include "csum.h"
#include "reals.h"

/* RFC 6335 section 6: 0xc000-0xffff are the dynamic ports; routers and NICs spread by them. */
#define GUE_SOURCE_PORT_BASE 0xc000
#define GUE_SOURCE_PORT_BITS 0x3fff
#define FLOW_LABEL_BITS      0xfffff

/* What the headers must say of the packet inside. */
struct wrapped {
	__u64 sum;    /* of the whole packet, for a checksum around it */
	__u32 spread; /* so that the packets of a flow take one way, and flows many */
	__u16 bytes;
	__u8 dscp;     /* in place */
	__u8 protocol; /* IPPROTO_IPIP or IPPROTO_IPV6 */
	__u8 has_sum;
	__u8 chain_bytes; /* behind GUE's first word; whole words */
	__u64 chain_sum;
};

/* Bytes that a tunnel adds to the client's packet. */
static __always_inline __u32 wrapping_bytes(int outer_ipv6, int by_gue)
{
	return (outer_ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) +
	       (by_gue ? GUE_BYTES : 0);
}

/*
 * Outer IPv4: DF, so that an oversized packet is seen and not cut; id 0, as RFC 6864 section 4.1
 * allows under DF; DSCP copied, ECN not, because the real's side does not carry marks back in
 * (RFC 6040 section 4.1, compatibility mode). In two stores of eight bytes, and one of four.
 */
static __always_inline void write_ipv4(void *at, __be32 source, __be32 destination, __u8 dscp,
				       __u16 ip_bytes, __u8 protocol)
{
	__u64 first = (IPV4_VERSION << 4 | IPV4_MIN_HEADER_WORDS) | (__u64)dscp << 8 |
		      (__u64)bpf_htons(ip_bytes) << 16 | (__u64)bpf_htons(IPV4_DONT_FRAGMENT) << 48;
	__u64 second = DEFAULT_TTL | (__u64)protocol << 8;
	__u16 check =
		~fold_sum((first & 0xffffffff) + (first >> 32) + second + source + destination);
	__u64 *words = at;

	words[0] = first;
	words[1] = second | (__u64)check << 16 | (__u64)source << 32;
	*(__be32 *)(words + 2) = destination;
}

/* Outer IPv6: the flow label from the hash, for routers that spread by it (RFC 6438). */
static __always_inline void write_ipv6(void *at, const struct address *source,
				       const struct address *destination, __u8 dscp,
				       __u16 payload_bytes, __u8 protocol, __u32 label)
{
	__be32 *words = at;

	words[0] = bpf_htonl(IPV6_VERSION << 28 | (__u32)dscp << 20 | (label & FLOW_LABEL_BITS));
	words[1] = bpf_htons(payload_bytes) | (__u32)protocol << 16 | (__u32)DEFAULT_TTL << 24;
	__builtin_memcpy(words + 2, source->words, sizeof(source->words));
	__builtin_memcpy(words + 6, destination->words, sizeof(destination->words));
}

/* UDP and GUE. Checksum 0 is legal for a tunnel (RFC 768, 6935, 6936); `addresses` is a sum. */
static __always_inline void write_gue(void *at, const struct wrapped *inner, __be16 gue_port,
				      int fill_checksum, __u64 addresses)
{
	__be16 source = bpf_htons(GUE_SOURCE_PORT_BASE | (inner->spread & GUE_SOURCE_PORT_BITS));
	__be16 bytes = bpf_htons(inner->bytes + inner->chain_bytes + GUE_BYTES);
	__u32 gue = (__u32)inner->protocol << 8 | inner->chain_bytes / GUE_HLEN_WORD_BYTES;
	__u32 *words = at;
	__u16 check = 0;
	__u64 sum;

	if (fill_checksum && inner->has_sum) {
		/* The length counts twice: in the header, and in the pseudo header. */
		sum = inner->sum + inner->chain_sum + addresses + source + gue_port + bytes +
		      bytes + bpf_htons(IPPROTO_UDP) + gue;
		check = ~fold_sum(sum);
		check = check ? check : 0xffff;
	}
	words[0] = source | (__u32)gue_port << 16;
	words[1] = bytes | (__u32)check << 16;
	words[2] = gue;
}

/* All that stands between Ethernet and the packet inside; constants prune it to one of four. */
static __always_inline void write_wrapping(void *at, const struct wrapped *inner,
					   const struct real_value *real,
					   const struct settings_value *settings,
					   const int outer_ipv6, const int by_gue)
{
	const __u32 bytes = wrapping_bytes(outer_ipv6, by_gue);
	__u8 protocol = by_gue ? IPPROTO_UDP : inner->protocol;
	__be32 source = mapped_ipv4(&settings->tunnel_source);
	__be32 destination = mapped_ipv4(&real->address);
	__u64 addresses = (__u64)source + destination;
	__u16 whole = inner->bytes + inner->chain_bytes + bytes;

	if (outer_ipv6) {
		write_ipv6(at, &settings->tunnel_source_v6, &real->address, inner->dscp,
			   whole - sizeof(struct ipv6hdr), protocol, inner->spread);
		addresses = address_sum(&settings->tunnel_source_v6) + address_sum(&real->address);
	} else {
		write_ipv4(at, source, destination, inner->dscp, whole, protocol);
	}
	if (by_gue)
		write_gue(at + bytes - GUE_BYTES, inner, settings->gue_port, real->tunnel_checksum,
			  addresses);
}
