"""Flow bytes and hash, as bpf/flow.h has them."""

from ipaddress import ip_address

from edge_lb.flow import Flow, address_from_octets, address_octets, flow_hash, flow_octets, slot
from edge_lb.maglev import RING_SLOTS

KNOWN_HASH = 0x70DD037C843C35DE  # every edge and every version must agree on it


def flow(client_port: int = 40000) -> Flow:
    return Flow(
        client=ip_address("198.51.100.7"),
        client_port=client_port,
        vip=ip_address("192.0.2.1"),
        vip_port=443,
        protocol=6,
    )


def test_a_flow_is_forty_bytes_with_ports_in_network_order():
    octets = flow_octets(flow())

    assert len(octets) == 40
    assert octets[32:36] == (40000).to_bytes(2, "big") + (443).to_bytes(2, "big")


def test_the_hash_never_changes_between_versions():
    assert flow_hash(flow()) == KNOWN_HASH
    assert slot(flow()) == KNOWN_HASH % RING_SLOTS


def test_neighbouring_ports_are_spread_over_the_ring():
    slots = {slot(flow(port)) for port in range(1024, 11024)}

    expected = RING_SLOTS * (1 - (1 - 1 / RING_SLOTS) ** 10000)
    assert abs(len(slots) - expected) < 150


def test_addresses_survive_sixteen_bytes():
    for text in ("192.0.2.1", "2001:db8::1"):
        assert address_from_octets(address_octets(ip_address(text))) == ip_address(text)
