/*
 * What a packet is made of: header sizes and flags, the tunnel header, and addresses. One address
 * is always 16 bytes; an IPv4 address is kept v4-mapped (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2),
 * so keys need not change when IPv6 comes.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>

#define IPV4_VERSION          4
#define IPV4_MIN_HEADER_WORDS 5 /* of 32 bits: a header without options (RFC 791 section 3.1) */
#define IPV4_MAX_OPTION_BYTES 40
#define IPV4_DONT_FRAGMENT    0x4000
#define IPV4_FRAGMENT_BITS    0x3fff /* more-fragments, and the offset */
#define IPV4_DSCP_BITS        0xfc
#define IPV4_DEFAULT_TTL      64

#define GUE_VERSION_BITS    0xc0 /* draft-ietf-intarea-gue, section 3.1: variant, C, hlen */
#define GUE_CONTROL_BIT     0x20
#define GUE_HLEN_BITS       0x1f
#define GUE_HLEN_WORD_BYTES 4

struct address {
	__u8 octets[16];
};

/* GUE variant 0: one word, then `hlen` words of options, then the client's packet. */
struct gue_header {
	__u8 version_control_hlen;
	__u8 protocol;
	__be16 flags;
};

/* Outer IPv4, UDP and GUE: what stands between Ethernet and the client's packet in the tunnel. */
#define GUE_WRAPPING_BYTES                                                                         \
	(sizeof(struct iphdr) + sizeof(struct udphdr) + sizeof(struct gue_header))

_Static_assert(sizeof(struct gue_header) == 4, "GUE's first word is four bytes");
_Static_assert(GUE_WRAPPING_BYTES == 32, "the tunnel costs 32 bytes of IP packet");

static __always_inline void map_ipv4(struct address *address, __be32 ipv4)
{
	__builtin_memset(address->octets, 0, 10);
	__builtin_memset(address->octets + 10, 0xff, 2);
	__builtin_memcpy(address->octets + 12, &ipv4, sizeof(ipv4));
}

static __always_inline __be32 mapped_ipv4(const struct address *address)
{
	__be32 ipv4;

	__builtin_memcpy(&ipv4, address->octets + 12, sizeof(ipv4));
	return ipv4;
}

static __always_inline int is_mapped_ipv4(const struct address *address)
{
	__be64 zeros;
	__be32 mapping;

	__builtin_memcpy(&zeros, address->octets, sizeof(zeros));
	__builtin_memcpy(&mapping, address->octets + 8, sizeof(mapping));
	return !zeros && mapping == bpf_htonl(0xffff);
}

static __always_inline __u32 ipv4_header_bytes(const struct iphdr *ip)
{
	return ip->ihl * 4;
}
