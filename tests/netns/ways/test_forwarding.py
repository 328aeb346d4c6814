"""A client's bytes reach a real and come back, by every way, and what the VIP's options change."""

from __future__ import annotations

import socket
from collections import Counter

import pytest

from ops.lab.world import inside
from ways.net import CLIENT_SOURCES, EDGE, REALS
from ways.server import PORT
from ways.site import SHARED, WAYS, WaySite

pytestmark = pytest.mark.netns

DATA = bytes(range(256)) * 4096
SEGMENTS_MIN = len(DATA) // 1460
GREETING = b"the edge itself\n"


def moved(before: Counter[str], after: Counter[str]) -> Counter[str]:
    """What was counted between, without what has nothing to do with VIPs."""
    passed = [name for name in after if name.startswith("PASSED_NOT") or name == "PASSED_ICMP"]
    return Counter({name: count for name, count in (after - before).items() if name not in passed})


@pytest.mark.parametrize("name", WAYS)
def test_a_megabyte_goes_up_and_down(site: WaySite, name: str):
    vip = WAYS[name]
    (real,) = vip.reals
    edge, unwrapped = site.verdicts(), site.real_verdicts(real)["PASSED_UNWRAPPED"]

    server, answer = site.up_and_down(vip, DATA)

    found = moved(edge, site.verdicts())
    assert (server, answer == DATA) == (real, True)
    assert (found.pop("FORWARDED_SYN"), found.pop("FORWARDED_NEW")) == (1, 1)
    assert found.pop("FORWARDED_REMEMBERED") >= SEGMENTS_MIN
    assert not found
    taken_out = site.real_verdicts(real)["PASSED_UNWRAPPED"] - unwrapped
    assert (taken_out < SEGMENTS_MIN) == name.startswith("l2")  # health checks are few


def test_reals_drop_nothing_of_all_that(site: WaySite):
    for name in site.net.reals:
        dropped = {
            verdict: count
            for verdict, count in site.real_verdicts(name).items()
            if verdict.startswith("DROPPED") and count
        }
        assert dropped == {}


@pytest.mark.parametrize("family", [4, 6])
def test_a_ping_of_a_vip_is_answered_by_the_program_and_one_of_the_edge_by_its_stack(
    site: WaySite, family: int
):
    before = site.verdicts()

    assert "3 received" in site.ping(WAYS[f"gue{family}-near4"].address).stdout
    answered = site.verdicts() - before
    assert "3 received" in site.ping(EDGE.of(family)).stdout

    assert answered["ANSWERED_PING"] == 3
    after = site.verdicts() - before
    assert after["ANSWERED_PING"] == 3
    assert after["PASSED_ICMP"] >= 3


@pytest.mark.parametrize("family", [4, 6])
def test_affinity_by_source_keeps_a_client_at_one_real(site: WaySite, family: int):
    vip = SHARED[f"affine{family}"]

    by_source = {
        source: {site.name_of_server(vip, source) for _ in range(5)} for source in CLIENT_SOURCES
    }

    assert {len(names) for names in by_source.values()} == {1}
    assert len(set[str]().union(*by_source.values())) > 1


@pytest.mark.parametrize("family", [4, 6])
def test_without_flow_memory_the_ring_alone_keeps_a_connection(site: WaySite, family: int):
    vip = SHARED[f"free{family}"]
    before = site.verdicts()

    names = {site.name_of_server(vip) for _ in range(16)}
    server, answer = site.up_and_down(vip, DATA)

    found = moved(before, site.verdicts())
    assert (server in REALS, answer == DATA) == (True, True)
    assert len(names) > 1
    assert found.pop("FORWARDED_NO_MEMORY") > SEGMENTS_MIN
    assert not found
    assert site.vip_row(vip.name).flows_new == 0


@pytest.mark.parametrize("family", [4, 6])
def test_without_a_real_a_client_is_told_at_once(site: WaySite, family: int):
    before = site.verdicts()

    with pytest.raises(ConnectionRefusedError):
        site.connect(SHARED[f"reset{family}"])

    assert moved(before, site.verdicts()) == {"ANSWERED_RESET": 1}


@pytest.mark.parametrize("family", [4, 6])
def test_without_a_real_the_edge_itself_serves(site: WaySite, family: int):
    vip = SHARED[f"pass{family}"]
    with (
        inside(site.net.edge),
        socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET) as own,
    ):
        own.bind((vip.address, PORT))
        own.listen()

        with site.connect(vip) as connection, own.accept()[0] as accepted:
            accepted.sendall(GREETING)
            assert connection.makefile("rb").readline() == GREETING
