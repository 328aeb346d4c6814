/*
 * Internet checksums (RFC 1071), and the change of one by a TTL step (RFC 1624). Sums are kept in
 * 64 bits and folded at the end: 2^16 is 1 in this arithmetic, so words of 32 bits add as well.
 */
#pragma once

#include <linux/ip.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include "packet.h"

static __always_inline __u16 fold_sum(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

/* Checksum of a header without options whose `check` is zero. */
static __always_inline __sum16 ipv4_checksum(const struct iphdr *ip)
{
	const __u32 *words = (const __u32 *)ip;

	return (__sum16)~fold_sum((__u64)words[0] + words[1] + words[2] + words[3] + words[4]);
}

static __always_inline __u64 address_sum(const struct address *address)
{
	return (__u64)address->words[0] + address->words[1] + address->words[2] + address->words[3];
}

/* What takes a sum away again: the complement of its folded form. */
static __always_inline __u64 negated_sum(__u64 sum)
{
	return (__u16)~fold_sum(sum);
}

/* The checksum after one word of its data became `less` smaller: it grows by as much. */
static __always_inline __sum16 checksum_of_less(__sum16 old, __be16 less)
{
	__u32 check = (__u32)old + less;

	return (__sum16)(check + (check >= 0xffff));
}

/* The checksum after its data's sum has grown by `change`, which may take away (negated_sum). */
static __always_inline __sum16 changed_checksum(__sum16 old, __u64 change)
{
	return (__sum16)~fold_sum((__u16)~old + change);
}

/* One hop less. The TTL is the high byte of its word. */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	ip->check = checksum_of_less(ip->check, bpf_htons(0x0100));
	ip->ttl--;
}
