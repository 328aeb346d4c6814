"""Owner chains in packets: which leave with one, its octets and sums, and the room it takes."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpf.chain import read_chain
from bpf.packets import (
    ACK,
    ETHERNET_BYTES,
    ETHERTYPE_SERVICE_VLAN,
    ETHERTYPE_VLAN,
    GUE_PORT,
    IPIP,
    IPV6,
    SYN,
    TCP,
    UDP,
    chain,
    checksum,
    frame_of,
    ip,
    one_hop_older,
    pseudo_header,
    read_ip,
    read_wrapped,
    tagged,
    tcp,
    udp,
    with_checksum,
)
from bpf.real_trial import Unwrapper
from bpf.trial import (
    EARLIER,
    GENERATION,
    TUNNEL_END,
    TUNNEL_END_V6,
    Balancer,
    chain_counts,
    moved,
    verdict_counts,
)
from bpf.wide_cases import (
    BY_IPIP,
    CHAINED,
    CHAINED_V6,
    EMPTY,
    UNFIT,
    address_of,
    client_of,
    error_about,
    fitting,
    fragment,
    segment,
    with_first_fragment,
)

pytestmark = pytest.mark.bpf

REALS = {real.octet: real.real for real in EARLIER}
CHAINS = {
    CHAINED: chain(*(REALS[index] for index in (101, 102, 103)), generation=GENERATION),
    CHAINED_V6: chain(*(REALS[index] for index in (111, 112, 113)), generation=GENERATION),
}
SUMMED, SUMMED_V6 = 28, 29  # services of bpf.trial


@pytest.fixture(autouse=True)
def fresh(balancer: Balancer):
    balancer.reset()


def sent(balancer: Balancer, frame: bytes) -> bytes:
    return balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex).packet


@pytest.mark.parametrize("octet", CHAINS)
@pytest.mark.parametrize("version", [4, 6])
def test_every_pairing_of_families_carries_the_chain_behind_gues_first_word(
    balancer: Balancer, octet: int, version: int
):
    frame = segment(octet, version, payload=b"hello")

    tunnel = read_wrapped(sent(balancer, frame))

    inner = frame[ETHERNET_BYTES:]
    options = CHAINS[octet]
    outer_bytes = len(tunnel.outer.payload)
    assert tunnel.options == options
    assert tunnel.inner == one_hop_older(inner)
    assert tunnel.gue == bytes([len(options) // 4, IPIP if version == 4 else IPV6, 0, 0])
    assert tunnel.udp_length == outer_bytes == 12 + len(options) + len(inner)
    assert (tunnel.destination_port, tunnel.udp_checksum) == (GUE_PORT, 0)
    assert tunnel.outer.checksum_ok
    assert str(tunnel.outer.destination) == (TUNNEL_END if octet == CHAINED else TUNNEL_END_V6)


def test_the_chain_says_the_generation_and_that_nobody_was_tried(balancer: Balancer):
    told = read_chain(read_wrapped(sent(balancer, segment(CHAINED))).options)

    assert told is not None
    assert (told.generation, told.next) == (GENERATION, 0)


def test_the_outer_ports_and_addresses_are_those_of_a_packet_without_a_chain(balancer: Balancer):
    with_chain = read_wrapped(sent(balancer, segment(CHAINED)))
    without = read_wrapped(sent(balancer, segment(CHAINED, flags=SYN)))

    assert with_chain.source_port == without.source_port
    assert with_chain.outer.source == without.outer.source
    assert with_chain.outer.destination == without.outer.destination


@pytest.mark.parametrize(("octet", "chained"), [(SUMMED, CHAINED), (SUMMED_V6, CHAINED_V6)])
@pytest.mark.parametrize("version", [4, 6])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    client_port=st.integers(0, 0xFFFF),
    protocol=st.sampled_from([TCP, UDP]),
    payload=st.binary(max_size=700),
)
def test_a_tunnel_checksum_covers_the_chain(
    balancer: Balancer,
    octet: int,
    chained: int,
    version: int,
    client_port: int,
    protocol: int,
    payload: bytes,
):
    make = tcp(client_port, 80, ACK, payload) if protocol == TCP else udp(client_port, 80, payload)
    packet = with_checksum(ip(client_of(version), address_of(octet, version), protocol, make))

    tunnel = read_wrapped(sent(balancer, frame_of(packet)))

    assert tunnel.options == CHAINS[chained]
    assert tunnel.udp_checksum != 0
    assert checksum(pseudo_header(tunnel.outer) + tunnel.outer.payload) == 0


def test_a_dead_owner_is_left_out_and_the_others_close_up(balancer: Balancer):
    balancer.write_real(replace(EARLIER[0], state="REAL_DOWN"), epoch=1)

    tunnel = read_wrapped(sent(balancer, segment(SUMMED)))

    assert tunnel.options == chain(REALS[102], REALS[103], generation=GENERATION)


@pytest.mark.parametrize("state", ["REAL_DRAINING", "REAL_IN_GRACE"])
def test_a_draining_owner_and_one_in_its_grace_are_candidates(balancer: Balancer, state: str):
    balancer.write_real(replace(EARLIER[0], state=state), epoch=1)

    assert read_wrapped(sent(balancer, segment(CHAINED))).options == CHAINS[CHAINED]


@pytest.mark.parametrize("octet", [UNFIT, BY_IPIP])
def test_owners_that_cannot_take_a_chain_leave_the_packet_as_it_always_was(
    balancer: Balancer, octet: int
):
    before = chain_counts(balancer.program)
    frame = segment(octet)

    packet = sent(balancer, frame)

    outer = read_ip(packet[ETHERNET_BYTES:])
    assert outer.payload.endswith(one_hop_older(frame[ETHERNET_BYTES:]))
    assert len(outer.payload) == len(frame) - ETHERNET_BYTES + (12 if octet == UNFIT else 0)
    assert chain_counts(balancer.program) == before


def test_a_syn_carries_none_and_a_later_fragment_that_of_its_first_one(balancer: Balancer):
    with_first_fragment(balancer)

    syn = read_wrapped(sent(balancer, segment(CHAINED, flags=SYN)))
    later = read_wrapped(sent(balancer, fragment(CHAINED, 1)))

    assert syn.options == b""
    assert later.options == CHAINS[CHAINED]
    assert later.outer.destination == syn.outer.destination


@pytest.mark.parametrize(("octet", "version"), [(CHAINED, 4), (CHAINED, 6), (CHAINED_V6, 6)])
def test_an_icmp_error_follows_the_flow_that_it_quotes(
    balancer: Balancer, octet: int, version: int
):
    error = error_about(octet, version)

    tunnel = read_wrapped(sent(balancer, error))

    assert tunnel.options == CHAINS[octet]
    assert tunnel.inner == one_hop_older(error[ETHERNET_BYTES:])


def test_where_nobody_serves_the_latest_earlier_owner_is_first(balancer: Balancer):
    tunnel = read_wrapped(sent(balancer, segment(EMPTY)))

    assert str(tunnel.outer.destination) == REALS[101]
    assert tunnel.options == chain(REALS[102], REALS[103], generation=GENERATION)


def test_where_nobody_serves_one_in_its_grace_is_first_if_no_other_is_left(balancer: Balancer):
    for owner in EARLIER[:2]:
        balancer.write_real(replace(owner, state="REAL_DOWN"), epoch=1)
    balancer.write_real(replace(EARLIER[2], state="REAL_IN_GRACE"), epoch=1)
    try:
        tunnel = read_wrapped(sent(balancer, segment(EMPTY)))
    finally:
        for owner in EARLIER[1:3]:
            balancer.write_real(owner, epoch=1)

    assert str(tunnel.outer.destination) == REALS[103]
    assert tunnel.options == b""


@pytest.mark.parametrize("octet", CHAINS)
@pytest.mark.parametrize("version", [4, 6])
def test_a_client_is_told_the_size_that_fits_with_the_chain(
    balancer: Balancer, octet: int, version: int
):
    options = CHAINS[octet]
    wrapping = (20 if octet == CHAINED else 40) + 12 + len(options)
    fits = fitting(version, wrapping)

    exact = read_wrapped(sent(balancer, segment(octet, version, payload=bytes(fits))))
    error = read_ip(sent(balancer, segment(octet, version, payload=bytes(fits + 1)))[14:])

    told = int.from_bytes(error.payload[4:8], "big")
    assert exact.options == options
    assert told == len(exact.inner) == 1500 - wrapping
    assert error.payload[0] == (3 if version == 4 else 2)  # fragmentation needed, packet too big


def test_tags_of_the_question_are_taken_off(balancer: Balancer):
    tags = (ETHERTYPE_SERVICE_VLAN, 7), (ETHERTYPE_VLAN, 3)

    assert sent(balancer, tagged(segment(CHAINED), *tags)) == sent(balancer, segment(CHAINED))


@pytest.mark.parametrize("octet", [CHAINED, SUMMED, CHAINED_V6, SUMMED_V6])
@pytest.mark.parametrize("version", [4, 6])
def test_reals_hand_on_along_what_the_edge_wrote(
    balancer: Balancer, unwrapper: Unwrapper, octet: int, version: int
):
    way = REALS[101] if octet in (CHAINED, SUMMED) else REALS[111]
    unwrapper.put_peer(way, balancer.bench.in_ifindex)
    packet = ip(client_of(version), address_of(octet, version), TCP, tcp(40000, 80, ACK, b"hello"))
    written = sent(balancer, frame_of(with_checksum(packet)))

    before = verdict_counts(unwrapper.program)
    frame = unwrapper.program.test_run(written, ifindex=balancer.bench.in_ifindex).packet
    counted = moved(before, verdict_counts(unwrapper.program))

    first, second = read_wrapped(written), read_wrapped(frame)
    was, told = read_chain(first.options), read_chain(second.options)
    assert counted == {"HANDED_ON": 1}
    assert was is not None
    assert told == replace(was, next=1)
    assert (str(second.outer.destination), second.outer.ttl) == (way, first.outer.ttl - 1)
    assert second.inner == first.inner
    assert second.outer.checksum_ok
    if first.udp_checksum:
        assert checksum(pseudo_header(second.outer) + second.outer.payload) == 0


def test_chains_are_counted_by_their_candidates(balancer: Balancer):
    counters = balancer.program.maps["chain_counters"]
    before = counters.total(3)

    sent(balancer, segment(CHAINED))
    sent(balancer, segment(CHAINED_V6))

    assert (counters.total(3) - before).packets == 2
    assert (counters.total(3) - before).bytes == sum(len(c) for c in CHAINS.values())


@pytest.mark.parametrize(
    "options",
    [
        b"",
        bytes(8),
        CHAINS[CHAINED][:-4],
        CHAINS[CHAINED] + bytes(4),
        b"\xc1\x04\x03\x04" + bytes(16),
        b"\xc1\x00\x02\x05" + bytes(14),
    ],
)
def test_private_data_that_is_no_chain_is_not_read_as_one(options: bytes):
    assert read_chain(options) is None
