/*
 * The bench's wrapper: a test run with a repeat does not restore the packet, so this makes it again
 * before each run, and then tail-calls the program under test. It puts the head back to where it
 * was, writes the headers from constants, and may give each packet another client, so that many
 * flows pass. Its own cost is measured with a program that only transmits, and subtracted. Never
 * part of a data plane.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "cursor.h"

#define HEADER_WORDS     9
#define HEADER_BYTES     70
#define ETHERNET_TAIL    6  /* the second word overlaps the first, so that the third starts at IP */
#define IP_AT            14 /* from here words follow each other, and no field lies across two */
#define FIRST_PORT       1024
#define PORTS_A_CLIENT   16 /* bits */
#define ADDRESSES_A_PORT 8  /* bits */

/* The frame's length, and its first bytes as words. */
const volatile __u32 frame_bytes;
const volatile __u64 header[HEADER_WORDS];

/* Offsets in the frame: the last four bytes of both addresses, and the two ports. */
const volatile __u32 client_at;
const volatile __u32 vip_at;
const volatile __u32 ports_at;

/* How many clients, and how many VIPs, take turns; both counted from 0. */
const volatile __u32 flows;
const volatile __u32 vips;

__u32 next_flow;
__u32 next_vip;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} under_test SEC(".maps");

/* What stands at offset `at` of the frame, moved to its place in the word at `word_at`. */
static __always_inline __u64 in_word(__u32 word_at, __u32 at, __u32 bits)
{
	if (at < word_at || at >= word_at + sizeof(__u64))
		return 0;
	return (__u64)bits << (8 * (at - word_at));
}

/* Changes the second and the fourth octet of x.0.y.255 so that the checksum stays right. */
static __always_inline __u32 other_address(__u32 number)
{
	return number << 8 ^ number << 24;
}

static __always_inline __u32 take_turn(__u32 *next, __u32 count)
{
	__u32 number = *next;

	*next = number + 1 < count ? number + 1 : 0;
	return number;
}

SEC("xdp")
int restore(struct xdp_md *ctx)
{
	struct cursor cursor = cursor_at_start(ctx);
	__u32 came_back = cursor_left(&cursor);
	__u32 flow = flows > 1 ? take_turn(&next_flow, flows) : 0;
	__u32 vip = vips > 1 ? take_turn(&next_vip, vips) : 0;
	__u32 client_bits = other_address(flow >> PORTS_A_CLIENT);
	__u32 vip_bits = other_address(vip & ((1 << ADDRESSES_A_PORT) - 1));
	__u32 port_bits = bpf_htons(FIRST_PORT + (flow & ((1 << PORTS_A_CLIENT) - 1)));
	__u8 *frame;

	port_bits |= (__u32)bpf_htons(vip >> ADDRESSES_A_PORT) << 16;
	barrier_var(came_back); /* or clang subtracts from a pointer, which the verifier refuses */
	cursor = cursor_cut_head(ctx, came_back - frame_bytes);
	frame = cursor_take(&cursor, HEADER_BYTES);
	if (!frame)
		return XDP_ABORTED;
#pragma unroll
	for (__u32 i = 0; i < HEADER_WORDS; i++) {
		__u32 at = i < 2 ? i * ETHERNET_TAIL : IP_AT + (i - 2) * sizeof(__u64);
		__u64 word = header[i];

		word ^= in_word(at, client_at, client_bits);
		word ^= in_word(at, vip_at, vip_bits);
		word ^= in_word(at, ports_at, port_bits);
		*(__u64 *)(frame + at) = word;
	}
	bpf_tail_call(ctx, &under_test, 0);
	return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
