"""How the command line draws."""

from __future__ import annotations

import msgspec
import pytest

from gslb.fleet.views import Chains, CounterRow, Drops, EdgeHeard, PeerRow, VipRow
from ops.cli import tables
from ops.cli.drops import draw_drops, draw_rates, moved_since
from ops.cli.events import draw_event
from ops.cli.status import draw_chains, draw_traffic
from ops.cli.tables import Style, left, right
from ops.cli.vip import VipDetail, draw_vip
from tests.unit.cli_world import NOW_S

PLAIN = Style()


def test_words_stand_left_and_numbers_right() -> None:
    drawn = tables.draw(
        (*left("VIP"), *right("PKT/S")), [("web", "7"), ("api-fra", "12345")], PLAIN
    )

    assert drawn.splitlines() == ["VIP      PKT/S", "web          7", "api-fra  12345"]


def test_what_is_not_known_is_a_dash() -> None:
    drawn = tables.draw((*left("A", "B"),), [("", "x"), ("y", "")], PLAIN)

    assert drawn.splitlines() == ["A  B", "-  x", "y  -"]


def test_a_table_without_rows_is_nothing_at_all() -> None:
    assert tables.draw(left("A"), [], PLAIN) == ""


def test_heads_can_be_left_out() -> None:
    assert tables.draw(left("A", "B"), [("x", "y")], Style(heads=False)) == "x  y\n"


def test_the_last_column_is_cut_to_the_terminal() -> None:
    drawn = tables.draw(left("VIP", "REASON"), [("web", "x" * 50)], Style(width=20))

    assert drawn.splitlines()[1] == "web  " + "x" * 14 + "…"


def test_a_color_moves_no_column() -> None:
    rows = [("UP", "a"), ("DRAINING", "b"), ("DOWN", "c")]
    plain = tables.draw(left("STATE", "REASON"), rows, PLAIN)
    colored = tables.draw(left("STATE", "REASON"), rows, Style(color=True))

    for code in ("\x1b[32m", "\x1b[33m", "\x1b[31m"):
        assert code in colored
        colored = colored.replace(code, "")
    assert colored.replace("\x1b[0m", "") == plain


@pytest.mark.parametrize(
    ("number", "grouped", "text"),
    [
        (0, False, "0"),
        (1234567.5, False, "1234568"),
        (1234567, True, "1\u2009234\u2009567"),
        (-1, True, "-"),
    ],
)
def test_numbers_are_grouped_for_eyes_only(number: float, grouped: bool, text: str) -> None:
    assert tables.count(number, Style(grouped=grouped)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 m"),
        (3600, "1 h"),
        (86399, "23 h"),
        (2e5, "2 d"),
    ],
)
def test_an_age_is_told_in_one_unit(seconds: float, text: str) -> None:
    assert tables.age(seconds) == text


@pytest.mark.parametrize(
    ("address", "port", "text"),
    [("192.0.2.1", 443, "192.0.2.1:443/tcp"), ("2001:db8::1", 0, "[2001:db8::1]:*/tcp")],
)
def test_an_endpoint_is_written_as_one_word(address: str, port: int, text: str) -> None:
    assert tables.endpoint(address, port, "tcp") == text


def test_a_moment_is_told_in_utc() -> None:
    assert tables.instant(NOW_S) == "2027-01-15T08:00:00Z"


def _drops(**packets: int) -> Drops:
    rows = (CounterRow(name=name, packets=n, bytes=n * 60) for name, n in packets.items())
    return Drops(counters=tuple(rows), unit="packets")


def test_rates_show_what_moved_between_two_looks() -> None:
    moved = moved_since(_drops(A=100, B=5, C=7), _drops(A=150, B=5, C=2, D=1))

    assert moved == _drops(A=50, B=0, C=2, D=1)
    assert draw_rates(moved, 2.0, PLAIN).splitlines() == [
        "VERDICT  PACKETS/S  BYTES/S",
        "A               25     1500",
        "C                1       60",
        "D                0       30",
    ]


def test_a_quiet_interval_says_so() -> None:
    assert draw_rates(_drops(A=0), 1.0, PLAIN) == "no packets\n"


def test_queries_have_no_bytes() -> None:
    rows = (CounterRow(name="answered", packets=7, bytes=0),)

    assert draw_drops(Drops(counters=rows, unit="queries"), PLAIN).splitlines() == [
        "VERDICT   QUERIES",
        "answered        7",
    ]


def test_the_details_of_an_event_can_be_told_apart() -> None:
    from gslb.fleet.views import EventRecord

    record = EventRecord(number=7, at_s=NOW_S, name="drain", detail={"by": "anna", "why": 'a "b"'})

    assert draw_event(record) == '7  2027-01-15T08:00:00Z  drain by=anna why="a \\"b\\""\n'


BOUND = VipRow(
    name="web",
    site="fra",
    address="192.0.2.10",
    port=443,
    protocol="tcp",
    state="BOUND",
    eligible=True,
    reals_up=1,
    reals_total=1,
    packets_per_s=0.0,
    reason="bound on lo",
    received_packets=7,
    received_bytes=420,
    sent_packets=9,
    sent_bytes=12_000,
)


def test_a_real_shows_both_directions_once_an_address() -> None:
    on_another_port = msgspec.structs.replace(BOUND, name="plain", port=80)
    unknown = msgspec.structs.replace(BOUND, address="192.0.2.11", received_packets=-1)

    lines = draw_traffic((BOUND, on_another_port, unknown), PLAIN).splitlines()

    assert [line.split() for line in lines] == [
        ["VIP", "ADDRESS", "RECEIVED", "BYTES", "SENT", "BYTES"],
        ["192.0.2.10", "7", "420", "9", "12000"],
    ]
    assert draw_traffic((unknown,), PLAIN) == ""


def test_one_vip_at_a_real_shows_both_directions() -> None:
    text = draw_vip(VipDetail(vip=BOUND, reals=(), generation=0), 0.0, PLAIN)

    assert "received packets 7   bytes 420   sent packets 9   bytes 12000" in text
    assert "flow hits" not in text


def test_a_real_shows_where_flows_are_found_and_that_edges_disagree() -> None:
    edges = tuple(
        EdgeHeard(address=f"192.0.2.{number}", generation=40 + number, packets=7, age_s=3.0)
        for number in (1, 2)
    )
    peers = (
        PeerRow(name="web2", address="192.0.2.12", way="02:00:00:00:00:12 by interface 2"),
        PeerRow(name="web3", address="192.0.2.13", way=""),
    )
    chains = Chains(found=(90, 0, 8), edges=edges, edges_agree=False, peers=peers)

    found, told, others = draw_chains(chains, PLAIN)

    assert found.splitlines()[1:] == [
        "           0                  90",
        "           2                   8",
    ]
    assert told.splitlines()[1].split() == ["192.0.2.1", "41", "7", "3", "s"]
    assert told.splitlines()[3] == "edges disagree: they follow histories that differ"
    assert others.splitlines()[1:] == [
        "web2         192.0.2.12  02:00:00:00:00:12 by interface 2",
        "web3         192.0.2.13  not known",
    ]
