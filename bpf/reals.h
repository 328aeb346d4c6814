/*
 * Where a packet can be sent: the reals, and what holds for the way to all of them. Apart from
 * maps.h because probes go the same way: lb.bpf.c and probe.bpf.c share these two maps.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "packet.h"

#define MAX_REALS 4096
#define REAL_NONE 0 /* index 0 is never a real */

enum family {
	FAMILY_IPV4 = 4,
	FAMILY_IPV6 = 6,
};

enum encap {
	ENCAP_L2 = 0,  /* same subnet: new MAC addresses only */
	ENCAP_GUE = 1, /* anywhere: IPv4, UDP, GUE variant 0 */
};

enum real_state {
	REAL_DOWN = 0, /* gets nothing; its remembered flows are chosen anew */
	REAL_UP = 1,
	REAL_DRAINING = 2, /* keeps its flows; the ring decides about new ones */
};

struct real_value {
	struct address address;
	enum family family;
	enum encap encap;
	enum real_state state;
	__u32 epoch; /* changes with the index's owner, so a new owner inherits no flows */
};

struct settings_value {
	struct address tunnel_source;
	__be16 gue_port;
	__u16 mtu; /* bytes of IP packet on the way to the reals; 0: the route alone decides */
};

_Static_assert(sizeof(struct real_value) == 32, "real value layout");
_Static_assert(sizeof(struct settings_value) == 20, "settings layout");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_REALS);
	__type(key, __u32);
	__type(value, struct real_value);
} reals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings_value);
} settings SEC(".maps");
