/*
 * Where a packet can be sent: the reals, and what holds for the way to all of them. Apart from
 * maps.h because probes go the same way: lb.bpf.c and probe.bpf.c share these two maps.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "next_hop.h"
#include "packet.h"

#define MAX_REALS 65536 /* as many as two bytes tell: of a ring's slot, of a remembered flow */
#define REAL_NONE 0     /* index 0 is never a real */

enum __attribute__((packed)) family {
	FAMILY_IPV4 = 4,
	FAMILY_IPV6 = 6,
};

enum __attribute__((packed)) encap {
	ENCAP_L2 = 0,   /* same subnet: new MAC addresses only */
	ENCAP_GUE = 1,  /* anywhere: outer IP, UDP, GUE variant 0 */
	ENCAP_IPIP = 2, /* anywhere: outer IP alone (RFC 2003, 2473, 4213) */
};

enum __attribute__((packed)) real_state {
	REAL_DOWN = 0, /* gets nothing; its remembered flows are chosen anew */
	REAL_UP = 1,
	REAL_DRAINING = 2, /* keeps its flows; the ring decides about new ones */
	REAL_IN_GRACE = 3, /* went down not long ago: as down, but for owner chains that name it */
};

struct real_value {
	struct address address;
	__u32 epoch; /* changes with the index's owner, so a new owner inherits no flows */
	enum family family;
	enum encap encap;
	enum real_state state;
	__u8 tunnel_checksum; /* fill in the outer UDP checksum */
	struct next_hop hop;
	__u64 pad; /* always zero: a real fills a cache line */
};

struct settings_value {
	struct address tunnel_source;    /* of outer IPv4; unspecified: none */
	struct address tunnel_source_v6; /* of outer IPv6; unspecified: none */
	__be16 gue_port;
	__u16 mtu; /* bytes of IP packet on the way to the reals; 0: the route alone decides */
	__u32 generation; /* of the history that owner chains come from, as packets carry it */
};

_Static_assert(sizeof(struct real_value) == 64, "a real fills a cache line");
_Static_assert(sizeof(struct settings_value) == 40, "settings layout");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* which lays values on cache lines */
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
