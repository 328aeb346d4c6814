"""VLAN tags: whatever is right for a packet without them is right for the same packet with them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from datapath_plans import VIP, plan, real, ring_to, vip
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.packets import (
    ETHERTYPE_SERVICE_VLAN,
    ETHERTYPE_VLAN,
    TCP,
    frame_of,
    ip,
    tagged,
    tcp,
    with_checksum,
)
from bpf.real_cases import REAL_CASES
from bpf.real_trial import Unwrapper
from bpf.selftest import LB_CASES
from bpf.trial import (
    CLIENT,
    CLIENT_V6,
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    Balancer,
    Case,
    moved,
    verdict_counts,
)
from bpf.vlan_cases import PRIORITY, QINQ, STACKED, VLAN
from bpf.workbench import NEAR_REAL, NEIGHBOURS, Workbench
from edge_lb.datapath import Datapath
from edge_lb.plan import NextHop, PlannedReal, VlanDevice, VlanTag
from gslb.fleet.model import Encap

pytestmark = pytest.mark.bpf

Tags = tuple[tuple[int, int], ...]
VARIANTS: dict[str, Tags] = {
    "one": (VLAN,),
    "priority": (PRIORITY,),
    "qinq": QINQ,
    "stacked": STACKED,
}
ANNOUNCE = (b"\x81\0", b"\x88\xa8")
# Where headroom is short, a tag that is taken off makes some.
UNTAGGED = [case for case in LB_CASES if case.frame[12:14] not in ANNOUNCE and not case.metadata]
WRAPPED = [
    case for case in REAL_CASES if isinstance(case, Case) and case.frame[12:14] not in ANNOUNCE
]
OUT_MAC = bytes.fromhex(NEIGHBOURS[NEAR_REAL][1].replace(":", ""))


def run(balancer: Balancer, case: Case, frame: bytes):
    """The action, the packet after it, the one verdict."""
    balancer.reset()
    case.before(balancer)
    before = verdict_counts(balancer.program)
    ifindex = balancer.bench.out_ifindex if case.by_out else balancer.bench.in_ifindex
    result = balancer.program.test_run(frame, ifindex=ifindex)
    (verdict,) = moved(before, verdict_counts(balancer.program))
    return result.action, result.packet, verdict


@pytest.mark.parametrize("tags", [(VLAN,), QINQ], ids=["one", "qinq"])
@pytest.mark.parametrize("case", UNTAGGED, ids=lambda case: f"{case.verdict}: {case.name}")
def test_every_packet_fares_alike_with_tags(balancer: Balancer, case: Case, tags: Tags):
    """Sent on it leaves as its next hop wants it, an answer has the question's own tags."""
    plain_action, plain, plain_verdict = run(balancer, case, case.frame)

    action, packet, verdict = run(balancer, case, tagged(case.frame, *tags))

    assert (action, verdict) == (plain_action, plain_verdict)
    if verdict.startswith("FORWARDED"):
        assert packet == plain
    elif action in (XDP_PASS, XDP_TX):
        assert packet == tagged(plain, *tags)
    else:
        assert action == XDP_DROP


def client_frame(octet: int, *, ipv6: bool, data: bytes = b"") -> bytes:
    client, address = (CLIENT_V6, f"2001:db8::{octet:x}") if ipv6 else (CLIENT, f"192.0.2.{octet}")
    return frame_of(with_checksum(ip(client, address, TCP, tcp(40000, 80, payload=data))))


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=64), first=st.integers(0, 0xFFFF), second=st.integers(0, 0xFFFF))
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_a_vlan_device_that_the_fib_names_is_left_by_its_carrier_with_its_tags(
    balancer: Balancer, ipv6: bool, data: bytes, first: int, second: int
):
    octet = 15 if ipv6 else 5
    frame = client_frame(octet, ipv6=ipv6, data=data)
    balancer.reset()
    bench = balancer.bench
    plain = balancer.program.test_run(frame, ifindex=bench.in_ifindex)
    one = (ETHERTYPE_VLAN, first)
    two = ((ETHERTYPE_SERVICE_VLAN, first), (ETHERTYPE_VLAN, second))

    assert plain.action == XDP_REDIRECT
    for tags in ((one,), two):
        balancer.set_vlan(bench.out_ifindex, carrier=bench.in_ifindex, tags=tags)
        sent = balancer.program.test_run(frame, ifindex=bench.in_ifindex)
        both = balancer.program.test_run(tagged(frame, *QINQ), ifindex=bench.in_ifindex)
        assert (sent.action, both.action) == (XDP_TX, XDP_TX)
        assert sent.packet == both.packet == tagged(plain.packet, *tags)


@pytest.mark.parametrize("tags", [(VLAN,), QINQ], ids=["one", "qinq"])
@pytest.mark.parametrize("case", WRAPPED, ids=lambda case: f"{case.verdict}: {case.name}")
def test_the_real_unwraps_alike_with_tags(unwrapper: Unwrapper, case: Case, tags: Tags):
    program = unwrapper.program
    plain = program.test_run(case.frame)
    before = verdict_counts(program)

    result = program.test_run(tagged(case.frame, *tags))

    assert moved(before, verdict_counts(program)) == {case.verdict: 1}
    assert result.action == plain.action
    if result.action == XDP_PASS:
        assert result.packet == tagged(plain.packet, *tags)


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=64)
    made.open_private()
    yield made
    made.close()


def behind(bench: Workbench, encap: Encap, tags: Tags) -> PlannedReal:
    """A real whose next hop the agent knows."""
    hop = NextHop(
        ifindex=bench.in_ifindex,
        mtu=1500,
        destination=OUT_MAC,
        source=bytes.fromhex("020000000050"),
        is_direct=True,
        tags=tuple(VlanTag(protocol=protocol, tci=tci) for protocol, tci in tags),
    )
    return replace(real(1), encap=encap, next_hop=hop)


@pytest.mark.parametrize("out", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("encap", list(Encap))
def test_a_known_next_hop_says_the_tags(
    datapath: Datapath, bench: Workbench, encap: Encap, out: Tags
):
    frame = frame_of(ip(CLIENT, str(VIP), TCP, tcp(40000, 80)))
    datapath.apply(plan([behind(bench, encap, ())], [vip(ring_to(1))]))
    plain = datapath.program.test_run(frame, ifindex=bench.in_ifindex)

    datapath.apply(plan([behind(bench, encap, out)], [vip(ring_to(1))]))

    assert plain.packet[:6] == OUT_MAC
    for tags in ((), *VARIANTS.values()):
        sent = datapath.program.test_run(tagged(frame, *tags), ifindex=bench.in_ifindex)
        assert (sent.action, sent.packet) == (XDP_TX, tagged(plain.packet, *out))


def test_vlan_devices_come_change_and_go_with_the_plan(datapath: Datapath):
    def held() -> dict[int, tuple[int, int, int]]:
        return {
            key.integer(""): (
                value.integer("ifindex"),
                value.integer("outer.tci"),
                value.integer("inner.tci"),
            )
            for key, value in datapath.program.maps["vlans"].items()
        }

    outer, inner = VlanTag(protocol=0x88A8, tci=7), VlanTag(protocol=0x8100, tci=100)
    one = VlanDevice(ifindex=5, carrier=2, tags=(inner,))
    two = VlanDevice(ifindex=6, carrier=2, tags=(outer, inner))
    empty = plan([real(1)], [vip(ring_to(1))])

    datapath.apply(replace(empty, vlans=(one, two)))
    assert held() == {5: (2, 100, 0), 6: (2, 7, 100)}
    datapath.apply(replace(empty, vlans=(replace(one, carrier=3),)))
    assert held() == {5: (3, 100, 0)}
    datapath.apply(empty)
    assert held() == {}
