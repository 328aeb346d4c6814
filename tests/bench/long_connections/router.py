"""The router of the long connections: ECMP over layer 4 to the edges, plain or resilient.

Owns the routes to the VIPs in the router's namespace, and how it hashes. A resilient group of the
kernel's next-hop objects keeps a flow at its edge while that edge is there and the flow is in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from pyroute2 import NetNS

from ops.lab import nexthops
from ops.lab.world import inside

BUCKETS = 256  # of a resilient group
IDLE_S = 120  # a bucket that was in use more lately than that is not moved
_GROUP_FIRST = 1000


class Router:
    """Routes of one namespace; `interface` leads to the edges."""

    def __init__(self, namespace: str, interface: str) -> None:
        self._namespace = namespace
        with NetNS(namespace) as router:
            self._interface = int(router.link_lookup(ifname=interface)[0])

    def lead(self, vip: str, gateways: Sequence[str]) -> None:
        """Packets for the VIP go to one of these, by a hash of addresses and ports."""
        hops = [{"gateway": gateway, "hops": 0} for gateway in gateways]
        with NetNS(self._namespace) as router:
            router.route("replace", dst=f"{vip}/32", multipath=hops)

    def lead_resiliently(self, vip: str, gateways: Sequence[str]) -> None:
        """The same, but a flow in use stays where it is while its edge is among them."""
        group = _GROUP_FIRST + int(IPv4Address(vip)) % 256
        ways = [nexthops.Way(IPv4Address(text), self._interface) for text in gateways]
        with inside(self._namespace):
            for way in ways:
                nexthops.put_next_hop(int(way.gateway) % 256, way)
            members = [int(way.gateway) % 256 for way in ways]
            nexthops.put_group(group, members, buckets=BUCKETS, idle_s=IDLE_S)
            nexthops.put_route(IPv4Address(vip), group)

    def rehash(self, seed: int) -> None:
        """Every flow is hashed anew."""
        with inside(self._namespace):
            Path("/proc/sys/net/ipv4/fib_multipath_hash_seed").write_text(str(seed))
