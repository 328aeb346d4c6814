"""Links as frames leave by them: MAC address, MTU, and what a VLAN device puts before a packet.

Owns the reading of links from netlink's messages. Used by `edge_lb.nexthop` and `edge_lb.gateway`.
No XDP program can send by a VLAN device, so each is resolved to the link that carries it and the
tags, outer first. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edge_lb.plan import VlanTag

LINK_UP = 0x1
TAGS_MAX = 2  # what the data plane reads and writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link that is up. `carrier` is its own index, unless it is a VLAN device."""

    mac: bytes
    mtu: int
    carrier: int
    tags: tuple[VlanTag, ...] = ()


def links_of(messages: Iterable[Any]) -> dict[int, Link]:
    """The links that are up and have a MAC address, by index; VLAN devices resolved.

    A VLAN device is left out if the link below it is not there, in another namespace or down, or if
    there are more tags than a packet may have.
    """
    found: dict[int, Link] = {}
    for message in messages:
        mac = mac_of(message.get_attr("IFLA_ADDRESS"))
        if message["flags"] & LINK_UP and mac is not None and any(mac):
            found[message["index"]] = _link(message, mac)
    resolved = {index: _resolved(link, found) for index, link in found.items()}
    return {index: link for index, link in resolved.items() if link is not None}


def mac_of(text: str | None) -> bytes | None:
    """Six bytes, or None for what is not Ethernet."""
    octets = bytes.fromhex(text.replace(":", "")) if text else b""
    return octets if len(octets) == 6 else None


def _link(message: Any, mac: bytes) -> Link:
    """As the message has it: the carrier of a VLAN device is the next link below, or 0."""
    mtu = message.get_attr("IFLA_MTU")
    if message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") != "vlan":
        return Link(mac=mac, mtu=mtu, carrier=message["index"])
    data = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
    is_elsewhere = message.get_attr("IFLA_LINK_NETNSID") is not None
    return Link(
        mac=mac,
        mtu=mtu,
        carrier=0 if is_elsewhere else message.get_attr("IFLA_LINK") or 0,
        tags=(
            VlanTag(
                protocol=data.get_attr("IFLA_VLAN_PROTOCOL"), tci=data.get_attr("IFLA_VLAN_ID")
            ),
        ),
    )


def _resolved(link: Link, found: Mapping[int, Link]) -> Link | None:
    below = found.get(link.carrier)
    while link.tags and below is not None and below.tags:
        if len(link.tags) + len(below.tags) > TAGS_MAX:
            return None
        link = replace(link, carrier=below.carrier, tags=below.tags + link.tags)
        below = found.get(link.carrier)
    return link if below is not None else None
