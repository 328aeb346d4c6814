"""Golden answers: every kind of response, byte for byte and as dnspython reads it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import dns.edns
import dns.message
from dns_world import RESOLVER, make_answerer

GOLDEN = Path(__file__).parent.parent / "golden" / "dns" / "answers.txt"
UPDATE = "WAYPOST_UPDATE_GOLDEN"  # set it to write the golden file anew

ASKED: tuple[tuple[str, str, int, str], ...] = (
    ("www.example.com", "A", -1, ""),
    ("WwW.example.com", "AAAA", 0, ""),
    ("near.example.com", "A", 0, "198.51.100.200/32"),
    ("mail.example.com", "A", 0, ""),
    ("hop.example.com", "A", -1, ""),
    ("gone.example.com", "A", -1, ""),
    ("x.apps.example.com", "A", -1, ""),
    ("host.lab.example.com", "A", 0, ""),
    ("www.example.com", "MX", 0, ""),
    ("nope.example.com", "A", 0, "198.51.100.200/32"),
    ("example.com", "ANY", -1, ""),
    ("example.com", "SOA", -1, ""),
    ("big.example.com", "TXT", 0, ""),
    ("example.net", "A", 0, ""),
    ("www.example.com", "A", 1, ""),
)


def test_answers_are_the_golden_ones() -> None:
    drawn = "\n".join(_exchange(*asked) for asked in ASKED)
    if UPDATE in os.environ:
        GOLDEN.parent.mkdir(parents=True, exist_ok=True)
        GOLDEN.write_text(drawn)

    assert drawn == GOLDEN.read_text(), f"look at the difference; {UPDATE}=1 accepts it"


def _exchange(name: str, kind: str, edns: int, ecs: str) -> str:
    options: list[dns.edns.Option] = []
    if ecs:
        address, bits = ecs.split("/")
        options.append(dns.edns.ECSOption(address, int(bits)))
    query = dns.message.make_query(
        name, kind, use_edns=edns if edns >= 0 else False, options=options or None
    )
    query.id = 0x1234
    wire = make_answerer().answer(query.to_wire(), RESOLVER, tcp=False, rng=random.Random(7))
    assert wire is not None
    title = (
        f"== {name} {kind}" + (f" edns={edns}" if edns >= 0 else "") + (f" ecs={ecs}" * bool(ecs))
    )
    return f"{title}\n{dns.message.from_wire(wire).to_text()}\n{wire.hex(' ', 16)}\n"
