/* The lower floor of the bench: sends every packet back at once. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int floor_transmit(struct xdp_md *ctx)
{
	return ctx->data < ctx->data_end ? XDP_TX : XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
