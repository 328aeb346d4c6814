"""Links out of netlink's own messages: what carries a VLAN device, and by which tags."""

from __future__ import annotations

from typing import Any

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from edge_lb.links import Link, links_of
from edge_lb.plan import VlanTag

UP, DOWN = 0x1, 0x0
MAC = bytes.fromhex("020000000001")
CUSTOMER, SERVICE = 0x8100, 0x88A8


def message(index: int, *, flags: int = UP, mtu: int = 1500, **attributes: Any) -> Any:
    """A link as the kernel would write it, through the bytes and back."""
    written = ifinfmsg()
    written["index"], written["flags"] = index, flags
    written["attrs"] = [("IFLA_ADDRESS", "02:00:00:00:00:01"), ("IFLA_MTU", mtu)]
    written["attrs"] += list(attributes.items())
    written.encode()
    read = ifinfmsg(written.data)
    read.decode()
    return read


def vlan(
    index: int,
    below: int,
    number: int,
    *,
    protocol: int = CUSTOMER,
    flags: int = UP,
    mtu: int = 1500,
    **attributes: Any,
) -> Any:
    data = [("IFLA_VLAN_ID", number), ("IFLA_VLAN_PROTOCOL", protocol)]
    info = {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", {"attrs": data})]}
    return message(index, flags=flags, mtu=mtu, IFLA_LINK=below, IFLA_LINKINFO=info, **attributes)


def tag(number: int, protocol: int = CUSTOMER) -> VlanTag:
    return VlanTag(protocol=protocol, tci=number)


def test_a_plain_link_carries_itself():
    assert links_of([message(2, mtu=9000)]) == {2: Link(mac=MAC, mtu=9000, carrier=2)}


def test_a_veth_s_peer_is_no_link_below():
    assert links_of([message(3, IFLA_LINK=2)])[3] == Link(mac=MAC, mtu=1500, carrier=3)


def test_a_vlan_device_is_its_carrier_and_a_tag():
    found = links_of([vlan(5, 2, 100, mtu=1400), message(2, mtu=9000)])

    assert found[5] == Link(mac=MAC, mtu=1400, carrier=2, tags=(tag(100),))


def test_a_stacked_vlan_device_has_two_tags_the_lower_device_s_outside():
    found = links_of([message(2), vlan(5, 2, 7, protocol=SERVICE), vlan(6, 5, 100)])

    assert found[6] == Link(mac=MAC, mtu=1500, carrier=2, tags=(tag(7, SERVICE), tag(100)))
    assert found[5].tags == (tag(7, SERVICE),)


def test_three_tags_are_too_many():
    found = links_of([message(2), vlan(5, 2, 7), vlan(6, 5, 100), vlan(7, 6, 101)])

    assert set(found) == {2, 5, 6}


def test_what_is_down_or_gone_or_elsewhere_carries_nothing():
    assert set(links_of([message(2, flags=DOWN), vlan(5, 2, 100)])) == set()
    assert set(links_of([message(2), vlan(5, 2, 100, flags=DOWN)])) == {2}
    assert set(links_of([vlan(5, 2, 100)])) == set()
    assert set(links_of([message(2), vlan(5, 2, 100, IFLA_LINK_NETNSID=0)])) == {2}
    assert set(links_of([message(2), vlan(5, 2, 7, flags=DOWN), vlan(6, 5, 100)])) == {2}


def test_what_is_not_ethernet_or_has_no_address_is_none():
    loopback = message(1)
    loopback["attrs"] = [("IFLA_ADDRESS", "00:00:00:00:00:00"), ("IFLA_MTU", 65536)]

    assert links_of([loopback]) == {}
