"""What a real hands on: the tunnel's headers field by field, and all within as it came."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpf.own_flows import OwnSockets
from bpf.packets import (
    ACK,
    DONT_FRAGMENT,
    ETHERNET_BYTES,
    ETHERTYPE_SERVICE_VLAN,
    ETHERTYPE_VLAN,
    GUE_PORT,
    TCP,
    UDP,
    chain,
    checksum,
    ethernet,
    fragment_header,
    frame_of,
    gue,
    ip,
    ipv4,
    ipv6,
    pseudo_header,
    read_wrapped,
    tagged,
    tcp,
    udp,
    with_checksum,
)
from bpf.real_trial import (
    HOP_MAC,
    OTHER_REAL,
    OTHER_REAL_V6,
    OWN_MAC,
    TAGGED_REAL,
    TAGS,
    THIRD_REAL,
    UNKNOWN_WAY,
    Unwrapper,
    chained,
)
from bpf.trial import (
    BOUND_VIP,
    BOUND_VIP_V6,
    CLIENT,
    CLIENT_V6,
    IP_OPTIONS,
    TUNNEL_END,
    TUNNEL_END_V6,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    mapped,
)
from bpf.workbench import GATEWAY, NEIGHBOURS, TUNNEL_SOURCE, TUNNEL_SOURCE_V6
from gslb.fleet.host import SOCKET_NAMESPACES_MAX

pytestmark = pytest.mark.bpf

STRAY = ipv4(CLIENT, BOUND_VIP, TCP, tcp(40000, 80, ACK, b"hello"), tos=0xBB, ttl=9)


def run(unwrapper: Unwrapper, frame: bytes) -> tuple[int, bytes]:
    result = unwrapper.program.test_run(frame, ifindex=unwrapper.bench.in_ifindex)
    return result.action, result.packet


def tried(options: bytes) -> int:
    return options[1]


@pytest.mark.parametrize(
    ("ours", "edge", "other"),
    [(TUNNEL_END, TUNNEL_SOURCE, OTHER_REAL), (TUNNEL_END_V6, TUNNEL_SOURCE_V6, OTHER_REAL_V6)],
    ids=["ipv4", "ipv6"],
)
def test_it_goes_from_us_to_the_candidate_and_one_hop_older(
    unwrapper: Unwrapper, ours: str, edge: str, other: str
):
    before = read_wrapped(chained(STRAY, other))

    action, frame = run(unwrapper, chained(STRAY, other))

    after = read_wrapped(frame)
    assert action == XDP_TX
    assert frame[:12] == HOP_MAC + OWN_MAC
    assert frame[12:14] == chained(STRAY, other)[12:14]
    assert str(before.outer.source) == edge
    assert (str(after.outer.source), str(after.outer.destination)) == (ours, other)
    assert after.outer.ttl == before.outer.ttl - 1
    assert after.outer.checksum_ok
    assert after.outer.fragment in (0, DONT_FRAGMENT)
    assert after.options == chain(other, tried=1)
    assert after.udp_checksum == 0  # there was none before
    assert (after.source_port, after.destination_port) == (50000, GUE_PORT)
    assert after.inner == STRAY


def test_another_interface_and_the_kernels_way_lead_there_too(unwrapper: Unwrapper):
    by_other, _ = run(unwrapper, chained(STRAY, THIRD_REAL))
    by_kernel, frame = run(unwrapper, chained(STRAY, UNKNOWN_WAY))

    assert by_other == XDP_REDIRECT
    assert by_kernel == XDP_TX
    assert frame[:6].hex(":") == NEIGHBOURS[GATEWAY][1]
    assert str(read_wrapped(frame).outer.destination) == UNKNOWN_WAY


def test_our_own_address_is_skipped(unwrapper: Unwrapper):
    _, frame = run(unwrapper, chained(STRAY, TUNNEL_END, OTHER_REAL, THIRD_REAL))

    after = read_wrapped(frame)
    assert str(after.outer.destination) == OTHER_REAL
    assert tried(after.options) == 2


def test_every_hand_on_tries_the_next_candidate(unwrapper: Unwrapper):
    candidates = (OTHER_REAL, THIRD_REAL, UNKNOWN_WAY, TAGGED_REAL)
    reached = []
    for number in range(4):
        _, frame = run(unwrapper, chained(STRAY, *candidates, tried=number))
        untagged = frame if number < 3 else frame[:12] + frame[20:]
        after = read_wrapped(untagged)
        reached.append((str(after.outer.destination), tried(after.options)))

    assert reached == [(name, number + 1) for number, name in enumerate(candidates)]


def test_tags_come_off_and_those_of_the_way_go_on(unwrapper: Unwrapper):
    untagged = chained(STRAY, OTHER_REAL)
    _, wanted = run(unwrapper, untagged)
    _, wanted_tagged = run(unwrapper, chained(STRAY, TAGGED_REAL))

    for tags in ([], [(ETHERTYPE_VLAN, 5)], [(ETHERTYPE_SERVICE_VLAN, 5), (ETHERTYPE_VLAN, 6)]):
        assert run(unwrapper, tagged(untagged, *tags))[1] == wanted
        frame = tagged(chained(STRAY, TAGGED_REAL), *tags)
        assert run(unwrapper, frame)[1] == wanted_tagged
    assert wanted_tagged[12:20] == b"".join(struct.pack("!HH", *tag) for tag in TAGS)
    assert len(wanted_tagged) == len(wanted) + 8


def test_options_of_the_outer_header_stay_and_its_checksum_is_right(unwrapper: Unwrapper):
    datagram = udp(50000, GUE_PORT, gue(STRAY, options=chain(OTHER_REAL)))
    outer = ipv4(TUNNEL_SOURCE, TUNNEL_END, UDP, datagram, options=IP_OPTIONS)

    _, frame = run(unwrapper, ethernet(outer))

    after = read_wrapped(frame)
    assert after.outer.checksum_ok
    assert frame[ETHERNET_BYTES + 20 : ETHERNET_BYTES + 24] == IP_OPTIONS
    assert str(after.outer.destination) == OTHER_REAL


def test_a_later_fragment_follows_its_first_one_of_its_own_datagram_alone(unwrapper: Unwrapper):
    def datagram(number: int, offset: int) -> bytes:
        payload = bytes(24) if offset else udp(40000, 53, bytes(16))
        fragment = fragment_header(UDP, offset, more=not offset, datagram=number)
        return ipv6(CLIENT_V6, BOUND_VIP_V6, 44, fragment + payload)

    early, _ = run(unwrapper, chained(datagram(1, 2)))
    first, way = run(unwrapper, chained(datagram(1, 0)))
    later, frame = run(unwrapper, chained(datagram(1, 2)))
    of_another, _ = run(unwrapper, chained(datagram(2, 2)))
    first_again, _ = run(unwrapper, chained(datagram(1, 0), tried=1))
    stays, _ = run(unwrapper, chained(datagram(1, 2)))

    assert (early, first, later, of_another) == (XDP_PASS, XDP_TX, XDP_TX, XDP_PASS)
    assert (first_again, stays) == (XDP_PASS, XDP_PASS)
    assert read_wrapped(frame).outer.destination == read_wrapped(way).outer.destination
    assert read_wrapped(frame).inner == datagram(1, 2)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    is_ipv6=st.booleans(),
    source=st.integers(1, 0xFFFE),
    payload=st.binary(max_size=600),
    before=st.integers(0, 3),
    own_first=st.booleans(),
)
def test_a_checksum_of_the_tunnel_stays_right(
    unwrapper: Unwrapper,
    is_ipv6: bool,
    source: int,
    payload: bytes,
    before: int,
    own_first: bool,
):
    ours, other = (TUNNEL_END_V6, OTHER_REAL_V6) if is_ipv6 else (TUNNEL_END, OTHER_REAL)
    edge = f"fd50::{source:x}" if is_ipv6 else f"10.50.{source >> 8}.{source & 255}"
    candidates = [other] * before + [ours if own_first else other, other]
    inner = ipv4(CLIENT, BOUND_VIP, TCP, tcp(40000, 80, ACK, payload))
    datagram = udp(50000, GUE_PORT, gue(inner, options=chain(*candidates[:4], tried=before)))
    frame = frame_of(with_checksum(ip(edge, ours, UDP, datagram)))

    action, sent = run(unwrapper, frame)

    if own_first and before == 3:
        assert action == XDP_PASS
        return
    after = read_wrapped(sent)
    assert action == XDP_TX
    assert after.outer.checksum_ok
    assert after.udp_checksum != 0
    assert checksum(pseudo_header(after.outer) + after.outer.payload) == 0


def test_what_stays_is_taken_out_whole(unwrapper: Unwrapper):
    with OwnSockets() as sockets:
        flow, _, _ = sockets.established(sockets.listener(BOUND_VIP))
        packet = flow.segment(payload=b"mine")

        action, frame = run(unwrapper, chained(packet, OTHER_REAL, THIRD_REAL))

    assert action == XDP_PASS
    assert frame[ETHERNET_BYTES:] == packet


def depths(unwrapper: Unwrapper) -> list[int]:
    held = unwrapper.program.maps["depths"]
    return [held.total(index).packets for index in range(held.shape.max_entries)]


def test_how_deep_in_the_chain_a_flow_was_found_is_counted(unwrapper: Unwrapper):
    with OwnSockets() as sockets:
        flow, _, _ = sockets.established(sockets.listener(BOUND_VIP))
        before = depths(unwrapper)

        for number in (0, 0, 1, 3):
            run(unwrapper, chained(flow.segment(), *[OTHER_REAL] * 3, tried=number))
        run(unwrapper, chained(STRAY, OTHER_REAL, tried=1))  # found nowhere

    counted = [now - then for now, then in zip(depths(unwrapper), before, strict=True)]
    assert counted == [2, 1, 0, 1, 0]


def test_the_generation_of_each_edge_is_kept_but_not_that_of_reals(unwrapper: Unwrapper):
    def say(edge: str, generation: int, *, had: int = 0) -> None:
        options = chain(OTHER_REAL, tried=had, generation=generation)
        datagram = udp(50000, GUE_PORT, gue(STRAY, options=options))
        run(unwrapper, frame_of(ipv4(edge, TUNNEL_END, UDP, datagram)))

    say("10.49.0.71", 5)
    say("10.49.0.71", 6)
    say("10.49.0.72", 4)
    say("10.49.0.73", 9, had=1)
    run(unwrapper, frame_of(ipv4("10.49.0.74", TUNNEL_END, UDP, udp(1, GUE_PORT, gue(STRAY)))))

    heard = unwrapper.program.maps["edges_heard"]
    keys = set(heard.keys())
    assert mapped("10.49.0.73") not in keys
    assert mapped("10.49.0.74") not in keys
    said = {}
    for number in (71, 72):
        (newest,) = (
            record
            for record in heard.each_cpu(mapped(f"10.49.0.{number}"))
            if record.integer("packets")
        )
        said[number] = newest.integer("packets"), newest.integer("generation")
    assert said == {71: (2, 6), 72: (1, 4)}


def test_ipv6_inside_and_outside_is_handed_on_whole(unwrapper: Unwrapper):
    inner = ipv6("2001:db8:c::7", "2001:db8::1", TCP, tcp(40000, 80, ACK, b"six"))

    _, frame = run(unwrapper, chained(inner, OTHER_REAL_V6))

    assert read_wrapped(frame).inner == inner


def test_a_host_file_may_name_as_many_namespaces_as_are_asked(unwrapper: Unwrapper):
    held = unwrapper.program.maps["socket_namespaces"]

    assert held.shape.max_entries == SOCKET_NAMESPACES_MAX
