"""The same world with a real redis-server as its store: its death and its empty return."""

from __future__ import annotations

import pytest

from ops.lab import demo_dns, demo_failures
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
