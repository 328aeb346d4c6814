/*
 * What a packet is made of: header sizes and flags, the tunnel header, and addresses. One address
 * is always 16 bytes; an IPv4 address is kept v4-mapped (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2),
 * so that one key serves both families. Addresses are written by halves of eight bytes and read by
 * halves or words: the CPU forwards such a store to the load that follows it.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>

#define IPV4_VERSION          4
#define IPV4_MIN_HEADER_WORDS 5 /* of 32 bits: a header without options (RFC 791 section 3.1) */
#define IPV4_MAX_OPTION_BYTES 40
#define IPV4_DONT_FRAGMENT    0x4000
#define IPV4_FRAGMENT_BITS    0x3fff /* more-fragments, and the offset */
#define IPV4_OFFSET_BITS      0x1fff
#define IPV6_VERSION          6
#define DSCP_BITS             0xfc /* of IPv4's TOS and of IPv6's traffic class; the rest is ECN */
#define DEFAULT_TTL           64

#define GUE_VERSION_BITS    0xc0 /* draft-ietf-intarea-gue, section 3.1: variant, C, hlen */
#define GUE_CONTROL_BIT     0x20
#define GUE_HLEN_BITS       0x1f
#define GUE_HLEN_WORD_BYTES 4

#define IPV4_THIS_NETWORK  0x00
#define IPV4_LOOPBACK      0x7f
#define IPV4_MULTICAST_MIN 0xe0       /* and above: multicast, reserved, broadcast */
#define IPV6_MULTICAST     0xff000000 /* of the first word */

/* What a packet is of its datagram. Only a whole one or the first fragment has ports. */
enum fragment {
	FRAGMENT_NONE,
	FRAGMENT_FIRST,
	FRAGMENT_LATER,
	FRAGMENT_ORPHAN, /* a later one whose first one was not seen */
};

struct address {
	__be32 words[4];
} __attribute__((aligned(8)));

/* IEEE 802.1Q, or 802.1ad around it, as a frame has it behind its MAC addresses. */
struct vlan_tag {
	__be16 protocol; /* 0: no tag */
	__be16 tci;      /* priority, drop eligibility, VLAN; VLAN 0 says a priority only */
};

_Static_assert(sizeof(struct vlan_tag) == 4, "a tag is four bytes");

/* What ICMP and ICMPv6 have in common. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;
};

_Static_assert(sizeof(struct icmp_header) == 8, "ICMP header");

/* GUE variant 0: one word, then `hlen` words of options, then the client's packet. */
struct gue_header {
	__u8 version_control_hlen;
	__u8 protocol;
	__be16 flags;
};

/* What GUE puts between the outer IP header and the client's packet. */
#define GUE_BYTES (sizeof(struct udphdr) + sizeof(struct gue_header))

_Static_assert(sizeof(struct gue_header) == 4, "GUE's first word is four bytes");
_Static_assert(GUE_BYTES == 12, "GUE costs twelve bytes and the outer IP header");

static __always_inline __u64 half(const struct address *address, int number)
{
	return ((const __u64 *)address->words)[number];
}

static __always_inline void set_halves(struct address *address, __u64 first, __u64 second)
{
	__u64 *halves = (__u64 *)address->words;

	halves[0] = first;
	halves[1] = second;
}

static __always_inline void map_ipv4(struct address *address, __be32 ipv4)
{
	set_halves(address, 0, bpf_htonl(0xffff) | (__u64)ipv4 << 32);
}

static __always_inline __be32 mapped_ipv4(const struct address *address)
{
	return address->words[3];
}

static __always_inline void copy_ipv6(struct address *address, const struct in6_addr *ipv6)
{
	const __u64 *halves = (const __u64 *)ipv6;

	set_halves(address, halves[0], halves[1]);
}

static __always_inline int is_same_address(const struct address *a, const struct address *b)
{
	return half(a, 0) == half(b, 0) && half(a, 1) == half(b, 1);
}

static __always_inline int is_unspecified(const struct address *address)
{
	return !(half(address, 0) | half(address, 1));
}

static __always_inline int is_mapped_ipv4(const struct address *address)
{
	return !half(address, 0) && address->words[2] == bpf_htonl(0xffff);
}

/* May a reply go there? Only one host can have sent it (RFC 1122 section 3.2.1.3). */
static __always_inline int is_host_ipv4(__be32 address)
{
	__u8 first = ((const __u8 *)&address)[0];

	return first != IPV4_THIS_NETWORK && first != IPV4_LOOPBACK && first < IPV4_MULTICAST_MIN;
}

static __always_inline int is_host_ipv6(const struct address *address)
{
	const __be32 *words = address->words;

	if ((words[0] & bpf_htonl(IPV6_MULTICAST)) == bpf_htonl(IPV6_MULTICAST))
		return 0;
	return (words[0] | words[1] | words[2]) != 0 || bpf_ntohl(words[3]) > 1; /* :: and ::1 */
}

static __always_inline __u32 ipv4_header_bytes(const struct iphdr *ip)
{
	return ip->ihl * 4;
}

static __always_inline __u8 ipv6_traffic_class(const struct ipv6hdr *ip)
{
	return (__u8)(ip->priority << 4 | ip->flow_lbl[0] >> 4);
}
