"""A client's bytes reach a real and come back, by every way, and what the VIP's options change."""

from __future__ import annotations

import pytest

from ways.net import CLIENT_SOURCES, EDGE, REALS
from ways.site import SHARED, WAYS, WaySite

pytestmark = pytest.mark.netns

DATA = bytes(range(256)) * 4096
SEGMENTS_MIN = len(DATA) // 1460


@pytest.mark.parametrize("name", WAYS)
def test_a_megabyte_goes_up_and_down(site: WaySite, name: str):
    vip = WAYS[name]
    (real,) = vip.reals
    before, verdicts = site.vip_row(name), site.verdicts()
    unwrapped = site.real_verdicts(real)["PASSED_UNWRAPPED"]
    traffic = site.real_traffic(real, vip)

    server, answer = site.up_and_down(vip, DATA)

    assert (server, answer == DATA) == (real, True)
    after, counted = site.vip_row(name), site.verdicts() - verdicts
    packets, hits = after.packets - before.packets, after.flow_hits - before.flow_hits
    assert hits >= SEGMENTS_MIN
    assert (after.flows_new - before.flows_new, packets - hits) == (1, 2)  # and the SYN
    assert after.dropped == before.dropped
    assert counted["FORWARDED_REMEMBERED"] >= hits
    assert counted["FORWARDED_SYN"] >= 1
    taken_out = site.real_verdicts(real)["PASSED_UNWRAPPED"] - unwrapped
    assert (taken_out < SEGMENTS_MIN) == name.startswith("l2")  # health checks are few
    counted_there = site.real_traffic(real, vip)
    for now, then in (
        (counted_there.received, traffic.received),
        (counted_there.sent, traffic.sent),
    ):
        moved = now - then
        assert len(DATA) < moved.bytes < len(DATA) * 2  # a busy machine sends some of it twice
        assert SEGMENTS_MIN <= moved.packets < 8 * SEGMENTS_MIN


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
    before, dropped = site.verdicts(), site.vip_row(vip.name).dropped

    names = {site.name_of_server(vip) for _ in range(16)}
    server, answer = site.up_and_down(vip, DATA)

    row = site.vip_row(vip.name)
    assert (server in REALS, answer == DATA) == (True, True)
    assert len(names) > 1
    assert (site.verdicts() - before)["FORWARDED_NO_MEMORY"] > SEGMENTS_MIN
    assert (row.flows_new, row.flow_hits, row.dropped) == (0, 0, dropped)


@pytest.mark.parametrize("family", [4, 6])
def test_without_a_real_a_client_is_told_at_once(site: WaySite, family: int):
    before = site.verdicts()

    with pytest.raises(ConnectionRefusedError):
        site.connect(SHARED[f"reset{family}"])

    assert (site.verdicts() - before)["ANSWERED_RESET"] == 1


@pytest.mark.parametrize("family", [4, 6])
def test_without_a_real_the_edge_itself_serves(site: WaySite, family: int):
    before = site.verdicts()

    assert site.name_of_server(SHARED[f"pass{family}"]) == "edge"

    assert (site.verdicts() - before)["PASSED_NO_REAL"] > 0
