"""What holds of every decision, whatever the fleet and its health."""

from __future__ import annotations

import random
from ipaddress import ip_address

from arbitrary_fleet import ANY_PACE, snapshots, subnets
from hypothesis import given, settings
from hypothesis import strategies as st

from gslb.client import Client
from gslb.decide import decide
from gslb.fleet.health import OverrideKind
from gslb.fleet.model import Network
from gslb.fleet.snapshot import Snapshot
from gslb.geo import Locator

RESOLVER = ip_address("192.0.2.200")


@settings(max_examples=150, suppress_health_check=ANY_PACE, deadline=None)
@given(snapshots(), st.sampled_from(["A", "AAAA"]), subnets(), st.integers(0, 1000))
def test_no_answer_is_empty_because_of_health(
    snapshot: Snapshot, kind: str, subnet: Network | None, seed: int
) -> None:
    client = Client(address=RESOLVER, subnet=subnet)
    decision = decide(
        "www.example.com", kind, client, snapshot, Locator(snapshot.fleet), random.Random(seed)
    )
    assert decision is not None
    version = 4 if kind == "A" else 6
    held = snapshot.holdings
    members = [
        snapshot.vips[name]
        for name in decision.pool.vips
        if snapshot.vips[name].vip.address.version == version
    ]
    drained = {
        view.vip.address for view in members if held.drained(OverrideKind.VIP, view.vip.name)
    }
    open_to = {view.vip.address for view in members} - drained
    chosen = [view.vip.address for view in decision.chosen]

    assert bool(chosen) == bool(open_to)
    assert set(chosen) <= open_to
    assert len(chosen) == len(set(chosen)) <= decision.pool.answers
    assert len(decision.candidates) == len(members)
    assert sum(candidate.chosen for candidate in decision.candidates) == len(chosen)
    assert all(candidate.reason for candidate in decision.candidates)
    assert decision.reasons
    sound = {
        address
        for address in open_to
        if all(view.eligible for view in members if view.vip.address == address)
    }
    assert not sound or set(chosen) <= sound


@settings(max_examples=60, suppress_health_check=ANY_PACE, deadline=None)
@given(snapshots(), subnets(), st.integers(0, 1000))
def test_the_same_snapshot_client_and_chance_decide_the_same(
    snapshot: Snapshot, subnet: Network | None, seed: int
) -> None:
    client = Client(address=RESOLVER, subnet=subnet)
    decisions = [
        decide(
            "www.example.com.",
            "A",
            client,
            snapshot,
            Locator(snapshot.fleet),
            random.Random(seed),
        )
        for _ in range(2)
    ]

    assert decisions[0] == decisions[1]
