"""ExaBGP's words: its configuration, the commands that it takes, what it says of its sessions.

Pure. Called by `edge_lb.speaker`, which starts ExaBGP, and `edge_lb.announcer`, which talks to it.
Decides nothing about what is announced.
"""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

from edge_lb.announce import Route
from gslb.fleet.host import BgpSection
from gslb.fleet.model import Address


class _Peer(msgspec.Struct):
    peer: str = ""


class _Neighbor(msgspec.Struct):
    state: str = ""
    address: _Peer = msgspec.field(default_factory=_Peer)


class _Event(msgspec.Struct):
    neighbor: _Neighbor = msgspec.field(default_factory=_Neighbor)


def configuration(bgp: BgpSection, announcer: list[str]) -> str:
    """ExaBGP's configuration file."""
    families = ["ipv4 unicast;"] if bgp.local_address else []
    families += ["ipv6 unicast;"] if bgp.local_address_v6 else []
    parts = [f"process waypost {{\n  run {' '.join(announcer)};\n  encoder json;\n}}\n"]
    for neighbor in bgp.neighbors:
        is_v6 = ip_address(neighbor.address).version == 6
        parts.append(
            f"neighbor {neighbor.address} {{\n"
            f"  router-id {bgp.router_id or bgp.local_address};\n"
            f"  local-address {bgp.local_address_v6 if is_v6 else bgp.local_address};\n"
            f"  local-as {bgp.local_as};\n"
            f"  peer-as {neighbor.peer_as};\n"
            f"  hold-time {bgp.hold_s};\n"
            f"  family {{ {' '.join(families)} }}\n"
            "  api { processes [ waypost ]; neighbor-changes; }\n"
            "}\n"
        )
    return "\n".join(parts)


def next_hops(bgp: BgpSection) -> dict[int, Address]:
    """This edge itself as the next hop, by the version of the VIP's address."""
    own = (bgp.local_address, bgp.local_address_v6)
    return {found.version: found for found in (ip_address(text) for text in own if text)}


def announce_line(route: Route) -> str:
    """The command that announces a route, or changes what is said of it."""
    communities = f" community [ {' '.join(route.communities)} ]" if route.communities else ""
    return (
        f"announce route {_prefix(route)} next-hop {route.next_hop} med {route.med} "
        f"local-preference {route.local_preference}{communities}\n"
    )


def withdraw_line(route: Route) -> str:
    """The command that takes a route back."""
    return f"withdraw route {_prefix(route)} next-hop {route.next_hop}\n"


def neighbor_change(line: str) -> tuple[str, bool] | None:
    """A neighbor's address and whether its session is up, from a line of ExaBGP; else None."""
    try:
        neighbor = msgspec.json.decode(line, type=_Event).neighbor
    except msgspec.DecodeError:
        return None
    if neighbor.state not in {"up", "down"} or not neighbor.address.peer:
        return None
    return neighbor.address.peer, neighbor.state == "up"


def _prefix(route: Route) -> str:
    return f"{route.address}/{route.address.max_prefixlen}"
