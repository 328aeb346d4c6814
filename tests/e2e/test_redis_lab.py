"""The same world with a real redis-server as its store, and sticky ECMP on its router."""

from __future__ import annotations

import pytest

from ops.lab import demo_dns, demo_edges, demo_failures, router
from ops.lab.lab import Lab

pytestmark = pytest.mark.e2e


def test_names_are_answered_from_health_that_travelled_through_redis(redis_lab: Lab) -> None:
    assert demo_dns.answered(redis_lab) == demo_dns.WEB_ADDRESSES


def test_a_killed_redis_that_returns_empty_changes_no_answer(redis_lab: Lab) -> None:
    step = next(step for step in demo_failures.STEPS if "store is stopped" in step.title)

    shown = step.show(redis_lab)

    assert "redis-server killed" in shown.ran
    assert demo_dns.answered(redis_lab) == demo_dns.WEB_ADDRESSES


def test_health_moves_again_after_the_return(redis_lab: Lab) -> None:
    killed = next(step for step in demo_failures.STEPS if "all reals of a site" in step.title)
    returns = next(step for step in demo_failures.STEPS if step.title == "the site returns")

    killed.show(redis_lab)
    returns.show(redis_lab)

    assert demo_dns.answered(redis_lab) == demo_dns.WEB_ADDRESSES


def test_the_router_routes_by_resilient_groups_of_what_bird_hears(redis_lab: Lab) -> None:
    heard = router.ways(table=router.BGP_TABLE)

    assert heard
    assert router.ways() == heard


def test_an_edge_that_loses_its_data_path_leaves_the_groups(redis_lab: Lab) -> None:
    step = next(step for step in demo_edges.STEPS if "loses its data path" in step.title)

    assert "stated" in step.show(redis_lab).came
    assert router.ways() == router.ways(table=router.BGP_TABLE)
