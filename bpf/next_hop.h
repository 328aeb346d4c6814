/*
 * A way out: what it takes to send a packet to an address. Filled by agents, from the kernel's
 * routes and neighbours (edge_lb/nexthop.py), or by a program that asks the kernel itself.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/types.h>
#include "packet.h"

/*
 * The way to an address as the agent knows it from routes and neighbours. Behind a VLAN device the
 * interface is the one that carries it, for no XDP program can send by the device itself.
 */
struct next_hop {
	__u32 ifindex; /* 0: not known, so the kernel's FIB is asked for each packet */
	__u32 mtu;     /* bytes of IP packet */
	__u8 destination[ETH_ALEN];
	__u8 source[ETH_ALEN];
	struct vlan_tag outer;
	struct vlan_tag inner; /* only behind an outer one */
} __attribute__((aligned(8)));
