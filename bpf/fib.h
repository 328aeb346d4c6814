/*
 * Asks the kernel for a way: its routes, and the neighbours that it has resolved. For XDP and tc.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "packet.h"

#define AF_INET  2
#define AF_INET6 10

/*
 * One of BPF_FIB_LKUP_RET_; `lookup` has what was found. A tunnel's packet of so many bytes, as one
 * that came in by `ifindex`.
 */
static __always_inline long ask_kernel(void *ctx, const struct address *source,
				       const struct address *destination, int is_ipv6,
				       __u16 ip_bytes, __u32 ifindex, struct bpf_fib_lookup *lookup)
{
	*lookup = (struct bpf_fib_lookup){
		.l4_protocol = IPPROTO_UDP,
		.tot_len = ip_bytes,
		.ifindex = ifindex,
	};
	if (is_ipv6) {
		lookup->family = AF_INET6;
		__builtin_memcpy(lookup->ipv6_src, source->words, sizeof(source->words));
		__builtin_memcpy(lookup->ipv6_dst, destination->words, sizeof(source->words));
	} else {
		lookup->family = AF_INET;
		lookup->ipv4_src = mapped_ipv4(source);
		lookup->ipv4_dst = mapped_ipv4(destination);
	}
	return bpf_fib_lookup(ctx, lookup, sizeof(*lookup), 0);
}
