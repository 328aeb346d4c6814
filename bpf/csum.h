/*
 * Internet checksums (RFC 1071), and the change of one by a TTL step (RFC 1624). IPv4 headers only:
 * nothing here touches the transport, whose checksum covers no field that we change.
 */
#pragma once

#include <linux/ip.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>

/* Checksum of a header without options whose `check` is zero. */
static __always_inline __sum16 ipv4_checksum(const struct iphdr *ip)
{
	const __u16 *words = (const __u16 *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < (int)(sizeof(*ip) / sizeof(*words)); i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__sum16)~sum;
}

/* One hop less. The TTL is the high byte of its word, so the checksum grows by 0x0100. */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	__u32 check = ip->check + bpf_htons(0x0100);

	ip->check = (__sum16)(check + (check >= 0xffff));
	ip->ttl--;
}
