/*
 * Lets every packet through. XDP_TX and redirects over veth need the peer to run NAPI, which any
 * XDP program on the peer starts: this is that program.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
