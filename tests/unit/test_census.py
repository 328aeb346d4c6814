"""Counting the flows that a real holds, from sockets as the kernel tells them."""

from __future__ import annotations

import errno
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6

import pytest

from edge_lb.census import Census
from edge_lb.flow import Flow, as_ring_sees, slot
from edge_lb.held import IP_PROTOCOLS
from edge_lb.rendezvous import RING_SLOTS
from edge_lb.socket_dump import Sockets, gather, identity, question
from gslb.fleet.history import SLOT_COUNT_MAX, VipFlows, unpack_slots
from gslb.fleet.model import (
    Address,
    Affinity,
    Check,
    CheckKind,
    CheckVia,
    Fragments,
    Protocol,
    RealName,
    SiteName,
    Vip,
    VipName,
    VipOptions,
)

CHECK = Check(
    kind=CheckKind.TCP,
    via=CheckVia.DIRECT,
    port=80,
    path="",
    host="",
    expect_status=200,
    interval_s=1.0,
    timeout_s=1.0,
    rise=1,
    fall=1,
)
WWW, WWW6, CLIENT, CLIENT6 = "198.51.100.1", "2001:db8::1", "203.0.113.9", "2001:db8:9::9"


def vip(
    name: str, address: str, port: int = 80, protocol: Protocol = Protocol.TCP, **options: object
) -> Vip:
    return Vip(
        name=VipName(name),
        site=SiteName("fra"),
        address=ip_address(address),
        port=port,
        protocol=protocol,
        reals=(RealName("web1"),),
        check=CHECK,
        options=VipOptions(**options),  # type: ignore[arg-type]
    )


def sixteen(address: Address) -> bytes:
    return address.packed.ljust(16, b"\0")


def message(
    number: int, here: str, port: int, client: str, client_port: int, *, mapped: bool = False
) -> bytes:
    """A socket as sock_diag tells it; `mapped`: accepted by a listener of both families."""
    ends = [ip_address(here), ip_address(client)]
    if mapped:
        ends = [IPv6Address(f"::ffff:{address}") for address in ends]
    family = AF_INET if isinstance(ends[0], IPv4Address) else AF_INET6
    body = struct.pack("!BBBBHH", family, 1, 0, 0, port, client_port)
    body += sixteen(ends[0]) + sixteen(ends[1]) + struct.pack("=IQ", 0, number) + bytes(20)
    body += struct.pack("=HHB3x", 5, 8, 0)
    return struct.pack("=IHHII", 16 + len(body), 20, 2, 1, 0) + body


def sockets(*messages: bytes) -> Sockets:
    found: Sockets = {}
    assert gather(b"".join(messages), found)
    return found


def counted(*vips: Vip, of: Sockets, protocol: Protocol = Protocol.TCP) -> dict[str, VipFlows]:
    census = Census(protocol)
    census.watch(vips)
    census.take(of, 100.0)
    return {flows.vip: flows for flows in census.flows()}


def by_slot(flows: VipFlows) -> dict[int, int]:
    found = unpack_slots(flows.slots, RING_SLOTS)
    return {number: count for number, count in enumerate(found) if count}


def slot_of(vip: Vip, port: int, client: str, client_port: int) -> int:
    flow = Flow(
        client=ip_address(client),
        client_port=client_port,
        vip=vip.address,
        vip_port=port,
        protocol=IP_PROTOCOLS[vip.protocol],
    )
    return slot(as_ring_sees(flow, vip.options))


@pytest.mark.parametrize(
    ("one", "client"),
    [
        (vip("www", WWW), CLIENT),
        (vip("www6", WWW6), CLIENT6),
        (vip("affine", WWW, affinity=Affinity.SOURCE), CLIENT),
        (vip("pair", WWW6, fragments=Fragments.TWO_TUPLE), CLIENT6),
    ],
    ids=lambda what: what.name if isinstance(what, Vip) else "",
)
def test_a_flow_is_counted_on_the_slot_that_the_data_plane_gives_it(one: Vip, client: str):
    ports = range(40_000, 40_020)
    found = sockets(
        *(message(n, str(one.address), one.port, client, n) for n in ports),
    )

    flows = counted(one, of=found)[one.name]

    expected = [slot_of(one, one.port, client, port) for port in ports]
    assert by_slot(flows) == {slot: expected.count(slot) for slot in expected}
    assert (flows.flows, flows.oldest_s) == (20, 100.0)


def test_a_socket_of_a_listener_of_both_families_is_ipv4():
    www = vip("www", WWW)

    flows = counted(www, of=sockets(message(1, WWW, 80, CLIENT, 5000, mapped=True)))["www"]

    assert by_slot(flows) == {slot_of(www, 80, CLIENT, 5000): 1}


def test_sockets_of_other_addresses_ports_and_protocols_are_not_counted():
    www, dns = vip("www", WWW), vip("dns", WWW, 53, Protocol.UDP)
    found = sockets(
        message(1, WWW, 81, CLIENT, 1),
        message(2, "198.51.100.2", 80, CLIENT, 2),
        message(3, CLIENT, 3, WWW, 80),
        message(4, WWW, 53, CLIENT, 4),
        message(5, WWW, 80, CLIENT, 5),
    )

    assert [f.flows for f in counted(www, dns, of=found).values()] == [1]
    assert [f.flows for f in counted(www, dns, of=found, protocol=Protocol.UDP).values()] == [1]


def test_a_vip_of_one_port_goes_before_the_vip_of_all_ports():
    every, www = vip("every", WWW, 0), vip("www", WWW)
    found = sockets(message(1, WWW, 80, CLIENT, 1), message(2, WWW, 8080, CLIENT, 2))

    flows = counted(every, www, of=found)

    assert by_slot(flows["www"]) == {slot_of(www, 80, CLIENT, 1): 1}
    assert by_slot(flows["every"]) == {slot_of(every, 8080, CLIENT, 2): 1}


def test_a_vip_without_flows_is_told_as_such():
    flows = counted(vip("www", WWW), of={})["www"]

    assert (flows.flows, flows.oldest_s, by_slot(flows)) == (0, None, {})


def test_more_flows_of_a_slot_than_an_octet_holds_are_told_as_the_most():
    one = vip("affine", WWW, affinity=Affinity.SOURCE)
    found = sockets(*(message(n, WWW, 80, CLIENT, n) for n in range(1, 301)))

    flows = counted(one, of=found)["affine"]

    assert flows.flows == 300
    assert list(by_slot(flows).values()) == [SLOT_COUNT_MAX]


def test_a_flow_keeps_its_age_and_is_gone_when_it_was_missing_twice():
    census = Census(Protocol.TCP)
    census.watch([vip("www", WWW)])
    old, young = message(1, WWW, 80, CLIENT, 1), message(2, WWW, 80, CLIENT, 2)

    def told(now_s: float, *seen: bytes) -> tuple[int, float | None]:
        census.take(sockets(*seen), now_s)
        (flows,) = census.flows()
        return flows.flows, flows.oldest_s

    assert told(10.0, old) == (1, 10.0)
    assert told(12.0, old, young) == (2, 10.0)
    assert told(14.0, young) == (2, 10.0)  # the kernel's list may have left it out
    assert told(16.0, old, young) == (2, 10.0)
    assert told(18.0, young) == (2, 10.0)
    assert told(20.0, young) == (1, 12.0)


def test_ages_outlive_a_change_of_the_vips():
    census = Census(Protocol.TCP)
    census.watch([vip("www", WWW)])
    seen = sockets(message(1, WWW, 80, CLIENT, 1), message(2, WWW, 81, CLIENT, 2))
    census.take(seen, 10.0)

    census.watch([vip("www", WWW), vip("more", WWW, 81)])
    census.take(seen, 12.0)

    assert {f.vip: (f.flows, f.oldest_s) for f in census.flows()} == {
        "www": (1, 10.0),
        "more": (1, 12.0),
    }


def test_an_answer_ends_with_its_last_message_and_errors_are_raised():
    found: Sockets = {}
    one = message(7, WWW6, 443, CLIENT6, 50_000)
    done = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)

    assert gather(one, found)
    assert not gather(message(8, WWW, 80, CLIENT, 1) + done, found)
    assert len(found) == 2
    first = identity(next(iter(found.values())))
    assert (first.port, first.peer_port) == (443, 50_000)
    assert first.address == IPv6Address(WWW6).packed
    for kind in (2, 3):
        refused = struct.pack("=IHHIIi", 20, kind, 0, 1, 0, -errno.ENOENT)
        with pytest.raises(OSError, match="list of sockets") as raised:
            gather(refused, found)
        assert raised.value.errno == errno.ENOENT


@pytest.mark.parametrize("tail", [b"\0" * 16, struct.pack("=IHHII", 16, 20, 0, 0, 0)])
def test_a_message_that_is_too_short_is_no_socket_and_no_endless_loop(tail: bytes):
    found: Sockets = {}

    assert gather(tail, found)
    assert found == {}


def test_the_question_is_as_long_as_it_says():
    asked = question(AF_INET, 6, 0xFFF)

    assert len(asked) == int.from_bytes(asked[:4], "little") == 16 + 56
