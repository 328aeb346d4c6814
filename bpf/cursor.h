/*
 * The packet cursor: the only file that compares a position with the packet's end. A read checks,
 * hands back a pointer or null, and moves on. Adjusting the head kills every older pointer, so the
 * functions that adjust are here too and hand back a fresh cursor.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX_FRAME_BYTES 0x3fff /* no XDP frame is longer, and the verifier wants a bound */

struct cursor {
	void *position;
	void *end;
};

static __always_inline struct cursor cursor_at_start(const struct xdp_md *ctx)
{
	struct cursor cursor = {
		.position = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};

	return cursor;
}

/* The next `bytes` of the packet, or null when fewer are left. */
static __always_inline void *cursor_take(struct cursor *cursor, __u32 bytes)
{
	void *taken = cursor->position;

	if (taken + bytes > cursor->end)
		return NULL;
	cursor->position = taken + bytes;
	return taken;
}

/*
 * Stands `bytes` after `header`, which was taken before; 0 when the packet ends earlier. For
 * headers that tell their own length: the verifier follows header + length, but not length -
 * minimum.
 */
static __always_inline int cursor_stand_after(struct cursor *cursor, void *header, __u32 bytes)
{
	if (header + bytes > cursor->end)
		return 0;
	cursor->position = header + bytes;
	return 1;
}

/* Stands at an offset of the frame, which must be within it; 0 else. */
static __always_inline int cursor_stand_at(struct cursor *cursor, const struct xdp_md *ctx,
					   __u32 offset)
{
	*cursor = cursor_at_start(ctx);
	if (offset > MAX_FRAME_BYTES || cursor->position + offset > cursor->end)
		return 0;
	cursor->position += offset;
	return 1;
}

/* Bytes from the position to the end of the frame, link padding included. */
static __always_inline __u32 cursor_left(const struct cursor *cursor)
{
	return (__u32)(cursor->end - cursor->position);
}

/* Makes room before the packet; an empty cursor when the driver left no room. */
static __always_inline struct cursor cursor_grow_head(struct xdp_md *ctx, __u32 bytes)
{
	struct cursor none = {};

	if (bpf_xdp_adjust_head(ctx, -(int)bytes))
		return none;
	return cursor_at_start(ctx);
}

/* Cuts bytes off the front; an empty cursor when the packet is too short for that. */
static __always_inline struct cursor cursor_cut_head(struct xdp_md *ctx, __u32 bytes)
{
	struct cursor none = {};

	if (bpf_xdp_adjust_head(ctx, (int)bytes))
		return none;
	return cursor_at_start(ctx);
}
