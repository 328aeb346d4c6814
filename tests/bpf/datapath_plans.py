"""Plans for the data plane's tests: a VIP, tunnelled reals, rings that lead where told."""

from array import array
from collections.abc import Sequence
from ipaddress import IPv4Address

from bpf.workbench import TUNNEL_SOURCE
from edge_lb.fastring import build_ring
from edge_lb.plan import Plan, PlannedReal, PlannedVip, RealForwarding
from edge_lb.rendezvous import RING_SLOTS, Member
from gslb.fleet.model import Encap, Protocol, VipOptions

VIP = IPv4Address("192.0.2.80")
PLAIN = VipOptions()
FIRST_REAL = int(IPv4Address("10.60.0.0"))


def real(
    index: int,
    *,
    state: RealForwarding = RealForwarding.UP,
    epoch: int = 1,
    host: int | None = None,
) -> PlannedReal:
    """A tunnelled real; its address follows `host`, or its index."""
    return PlannedReal(
        name=f"real-{index}",
        index=index,
        epoch=epoch,
        address=IPv4Address(FIRST_REAL + (host or index)),
        encap=Encap.GUE,
        state=state,
    )


def index_of(address: IPv4Address) -> int:
    """The index behind a real's address."""
    return int(address) - FIRST_REAL


def ring_of(indexes: Sequence[int]) -> "array[int]":
    """A ring of equal shares."""
    return build_ring([Member(name=f"real-{i}", weight=1, index=i) for i in indexes])


def ring_to(index: int) -> "array[int]":
    """A ring that leads to one real, or nowhere (0)."""
    return array("H", [index]) * RING_SLOTS


def vip(
    ring: "array[int]",
    *,
    index: int = 0,
    address: IPv4Address = VIP,
    port: int = 80,
    protocol: Protocol = Protocol.TCP,
    options: VipOptions = PLAIN,
) -> PlannedVip:
    """A VIP with a ring."""
    return PlannedVip(
        name=f"vip-{index}",
        index=index,
        address=address,
        port=port,
        protocol=protocol,
        ring=ring,
        options=options,
    )


def plan(reals: Sequence[PlannedReal], vips: Sequence[PlannedVip]) -> Plan:
    """A plan for the workbench's network."""
    return Plan(
        generation=1,
        vips=tuple(vips),
        reals=tuple(reals),
        tunnel_source=IPv4Address(TUNNEL_SOURCE),
        mtu=1500,
    )
