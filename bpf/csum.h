/*
 * Internet checksums (RFC 1071), and the change of one by a TTL step (RFC 1624). Sums are kept in
 * 64 bits and folded at the end: 2^16 is 1 in this arithmetic, so words of 32 bits add as well.
 */
#pragma once

#include <linux/ip.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>

static __always_inline __u16 fold_sum(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

/* What takes a sum away again: the complement of its folded form. */
static __always_inline __u64 negated_sum(__u64 sum)
{
	return (__u16)~fold_sum(sum);
}

/* One hop less. The TTL is the high byte of its word, so the checksum grows by 0x0100. */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	__u32 check = ip->check + bpf_htons(0x0100);

	ip->check = (__sum16)(check + (check >= 0xffff));
	ip->ttl--;
}
