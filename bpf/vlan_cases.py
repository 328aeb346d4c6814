"""Cases of the self test about VLAN tags: read over, put on, too many of them.

Owns the packets and their verdicts; bpf/selftest.py runs them with its own. Pure.
"""

from bpf.packets import (
    ACK,
    ETHERTYPE_ARP,
    ETHERTYPE_SERVICE_VLAN,
    ETHERTYPE_VLAN,
    TCP,
    UDP,
    ethernet,
    frame_of,
    ip,
    tagged,
    tcp,
    udp,
)
from bpf.trial import BOUND_VIP, BOUND_VIP_V6, CLIENT, CLIENT_V6, OTHER, Balancer, Case
from bpf.unusual_cases import ping, ping_v6

VLAN, PRIORITY = (ETHERTYPE_VLAN, 100), (ETHERTYPE_VLAN, 5 << 13)
QINQ, STACKED = ((ETHERTYPE_SERVICE_VLAN, 7), VLAN), (VLAN, (ETHERTYPE_VLAN, 4094))
TO_OUT_REAL = "192.0.2.5"  # the service whose real is on out0, by MAC
OCCUPIED_HEADROOM = 212  # metadata that leaves no room for a tag


def to_vip(vip: str = BOUND_VIP, flags: int = ACK) -> bytes:
    """TCP to port 80 over IPv4, without a tag."""
    return frame_of(ip(CLIENT, vip, TCP, tcp(40000, 80, flags)))


def to_vip_v6() -> bytes:
    """TCP to port 80 over IPv6, without a tag."""
    return frame_of(ip(CLIENT_V6, BOUND_VIP_V6, TCP, tcp(40000, 80)))


def with_vlan_device(balancer: Balancer) -> None:
    """The interface to some reals is a VLAN device on the one that clients come in by."""
    bench = balancer.bench
    balancer.set_vlan(bench.out_ifindex, carrier=bench.in_ifindex, tags=QINQ)


VLAN_CASES = (
    Case(
        verdict="PASSED_TAGS",
        name="three VLAN tags",
        frame=tagged(to_vip(), QINQ[0], VLAN, VLAN),
    ),
    Case(
        verdict="PASSED_NOT_IP",
        name="tagged ARP",
        frame=tagged(ethernet(bytes(28), ETHERTYPE_ARP), VLAN),
    ),
    Case(verdict="PASSED_NOT_IP", name="half a tag", frame=tagged(to_vip(), VLAN)[:16]),
    Case(
        verdict="PASSED_MALFORMED",
        name="half an IPv4 header behind a tag",
        frame=tagged(to_vip(), VLAN)[:28],
    ),
    Case(
        verdict="PASSED_NOT_VIP",
        name="the edge's own tagged traffic",
        frame=tagged(frame_of(ip(CLIENT, OTHER, UDP, udp(40000, 53))), VLAN),
    ),
    Case(verdict="FORWARDED_NEW", name="a VLAN tag", frame=tagged(to_vip(), VLAN)),
    Case(verdict="FORWARDED_NEW", name="a priority tag", frame=tagged(to_vip(), PRIORITY)),
    Case(verdict="FORWARDED_NEW", name="a VLAN tag, IPv6", frame=tagged(to_vip_v6(), VLAN)),
    Case(verdict="FORWARDED_NEW", name="QinQ", frame=tagged(to_vip(), *QINQ)),
    Case(verdict="FORWARDED_NEW", name="QinQ, IPv6", frame=tagged(to_vip_v6(), *QINQ)),
    Case(verdict="FORWARDED_NEW", name="two customer tags", frame=tagged(to_vip(), *STACKED)),
    Case(
        verdict="FORWARDED_NEW",
        name="by MAC, behind a VLAN device",
        frame=to_vip(TO_OUT_REAL),
        before=with_vlan_device,
    ),
    Case(
        verdict="DROPPED_NO_HEADROOM",
        name="no room for tags",
        frame=to_vip(TO_OUT_REAL),
        before=with_vlan_device,
        metadata=OCCUPIED_HEADROOM,
    ),
    Case(verdict="ANSWERED_PING", name="a tagged ping", frame=tagged(ping(), VLAN)),
    Case(verdict="ANSWERED_PING", name="a tagged ping, IPv6", frame=tagged(ping_v6(), *QINQ)),
)
