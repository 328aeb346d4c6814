"""What the program's sampler gives: whole packets as they leave, and only those asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from bpf.layout import Record
from bpf.packets import ETHERNET_BYTES, ETHERTYPE_ARP, SYN, ethernet, one_hop_older, read_wrapped
from bpf.ringbuf import RingReader
from bpf.selftest import client_tcp
from bpf.trial import Balancer

pytestmark = pytest.mark.bpf

ANY_VIP = 0xFFFFFFFF
FOREVER = 1 << 63


@pytest.fixture
def reader(balancer: Balancer) -> Iterator[RingReader]:
    """The ring of a balancer whose sampler is off again afterwards."""
    with RingReader(balancer.program.maps["captured"].fd) as made:
        yield made
        wish(balancer, every=0)
        made.poll(0)


def wish(
    balancer: Balancer,
    *,
    every: int = 1,
    verdict: str = "COUNT",
    vip: int = ANY_VIP,
    left: int = 1_000_000,
    until_ns: int = FOREVER,
) -> None:
    verdicts = {name: number for number, name in balancer.program.btf.enum("verdict")}
    capture = balancer.program.maps["capture"]
    number = verdicts[f"VERDICT_{verdict}"]
    value = capture.shape.value.pack(
        every=every, verdict=number, vip=vip, left=left, lost=0, until_ns=until_ns
    )
    capture.put_at(0, value)


def samples(balancer: Balancer, reader: RingReader) -> list[Record]:
    layout = balancer.program.btf.struct("sample")
    return [layout.unpack(raw) for raw in reader.poll(0)]


def send(balancer: Balancer, frame: bytes, times: int = 1) -> None:
    for _ in range(times):
        balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex)


def test_without_a_capture_nothing_is_sampled(balancer: Balancer, reader: RingReader):
    send(balancer, client_tcp(1), times=10)

    assert samples(balancer, reader) == []


def test_a_forwarded_packet_is_sampled_as_it_leaves(balancer: Balancer, reader: RingReader):
    frame = client_tcp(1, flags=SYN, payload=b"x" * 20)
    wish(balancer)

    send(balancer, frame)
    (seen,) = samples(balancer, reader)

    captured = seen.octets("bytes")[: seen.integer("captured_bytes")]
    assert seen.enum("verdict") == "VERDICT_FORWARDED_SYN"
    assert (seen["vip"], seen["real"], seen["queue"]) == (1, 1, 0)
    assert seen["out_ifindex"] == balancer.bench.in_ifindex
    assert seen["frame_bytes"] == len(captured)
    assert read_wrapped(captured).inner == one_hop_older(frame[ETHERNET_BYTES:])
    assert abs(time.monotonic_ns() - seen.integer("seen_ns")) < 60e9


def test_a_packet_for_no_vip_is_sampled_as_it_came(balancer: Balancer, reader: RingReader):
    frame = ethernet(bytes(28), ETHERTYPE_ARP)
    wish(balancer)

    send(balancer, frame)
    (seen,) = samples(balancer, reader)

    assert seen.enum("verdict") == "VERDICT_PASSED_NOT_IP"
    assert (seen["vip"], seen["real"], seen["out_ifindex"]) == (ANY_VIP, 0, 0)
    assert seen.octets("bytes")[: len(frame)] == frame


def test_a_long_packet_is_cut_and_tells_its_length(balancer: Balancer, reader: RingReader):
    wish(balancer)

    send(balancer, client_tcp(3, payload=bytes(range(256)) * 4))
    (seen,) = samples(balancer, reader)

    assert (seen["captured_bytes"], seen["frame_bytes"]) == (256, 14 + 40 + 1024)


def test_only_the_verdict_and_vip_that_are_asked_for(balancer: Balancer, reader: RingReader):
    frames = [client_tcp(octet, flags=SYN) for octet in (1, 3, 5)]

    wish(balancer, verdict="FORWARDED_SYN", vip=5)
    for frame in frames:
        send(balancer, frame)
    forwarded = samples(balancer, reader)
    wish(balancer, verdict="DROPPED_NO_REAL")
    for frame in frames:
        send(balancer, frame)
    dropped = samples(balancer, reader)

    assert [seen["vip"] for seen in forwarded] == [5]
    assert [seen["vip"] for seen in dropped] == [3]


def test_one_of_ten_is_about_one_of_ten(balancer: Balancer, reader: RingReader):
    wish(balancer, every=10)

    send(balancer, client_tcp(1, flags=SYN), times=1000)

    assert 30 < len(samples(balancer, reader)) < 250


def test_a_capture_that_nobody_ends_ends_by_itself(balancer: Balancer, reader: RingReader):
    wish(balancer, until_ns=time.monotonic_ns() - 1)

    send(balancer, client_tcp(1), times=3)

    assert samples(balancer, reader) == []


def test_no_more_samples_than_asked_for(balancer: Balancer, reader: RingReader):
    wish(balancer, left=4)

    send(balancer, client_tcp(1), times=10)

    assert len(samples(balancer, reader)) == 4


def test_a_full_ring_loses_samples_and_no_packet(balancer: Balancer, reader: RingReader):
    room = balancer.program.maps["captured"].shape.max_entries // 312
    wish(balancer)
    before = balancer.program.maps["verdicts"].total(0).packets

    send(balancer, ethernet(bytes(28), ETHERTYPE_ARP), times=room + 50)

    assert len(samples(balancer, reader)) == room
    assert balancer.program.maps["capture"].at(0)["lost"] == 50
    assert balancer.program.maps["verdicts"].total(0).packets - before == room + 50
