"""Flow bytes and hash, as bpf/flow.h has them."""

from collections.abc import Iterable
from ipaddress import ip_address

from edge_lb.flow import Flow, address_from_octets, address_octets, flow_hash, slot
from edge_lb.rendezvous import RING_SLOTS

KNOWN_HASH = 0xD17F1022A1E6E221  # every edge must agree on it
KNOWN_HASH_V6 = 0x847138312BB7B811


def flow(client_port: int = 40000, *, client: str = "198.51.100.7", vip: str = "192.0.2.1") -> Flow:
    return Flow(
        client=ip_address(client),
        client_port=client_port,
        vip=ip_address(vip),
        vip_port=443,
        protocol=6,
    )


def test_the_hash_is_the_same_on_every_edge():
    assert flow_hash(flow()) == KNOWN_HASH
    assert flow_hash(flow(client="2001:db8::7", vip="2001:db8:1::1")) == KNOWN_HASH_V6
    assert slot(flow()) == (KNOWN_HASH >> 32) * RING_SLOTS >> 32


def spread(flows: Iterable[Flow]) -> float:
    """How many slots 10,000 flows hit, of as many as chance alone would."""
    expected = RING_SLOTS * (1 - (1 - 1 / RING_SLOTS) ** 10000)
    return len({slot(one) for one in flows}) / expected


def test_neighbouring_ports_and_clients_are_spread_over_the_ring():
    ports = range(1024, 11024)
    near = [f"10.{n >> 8 & 255}.{n & 255}.7" for n in range(10000)]
    near_v6 = [f"2001:db8:{n:x}::7" for n in range(10000)]
    hosts_v6 = [f"2001:db8::{n:x}" for n in range(10000)]

    assert abs(spread(flow(port) for port in ports) - 1) < 0.02
    assert abs(spread(flow(client=client) for client in near) - 1) < 0.02
    for clients in (near_v6, hosts_v6):
        found = spread(flow(client=client, vip="2001:db8:1::1") for client in clients)
        assert abs(found - 1) < 0.02


def test_every_bit_of_a_flow_moves_half_of_the_bits_that_choose():
    first = flow_hash(flow()) >> 32
    changed = [flow(40000 ^ 1 << bit) for bit in range(16)]
    changed += [flow(client=str(ip_address(0xC6336407 ^ 1 << bit))) for bit in range(32)]

    for one in changed:
        assert 4 <= (first ^ flow_hash(one) >> 32).bit_count() <= 28


def test_addresses_survive_sixteen_bytes():
    for text in ("192.0.2.1", "2001:db8::1"):
        assert address_from_octets(address_octets(ip_address(text))) == ip_address(text)
