"""Every verdict of both programs has a packet that earns it."""

import pytest

from bpf import selftest
from bpf.real_cases import REAL_CASES
from bpf.real_trial import ChainCase, Unwrapper
from bpf.selftest import LB_CASES
from bpf.trial import Balancer, Case

pytestmark = pytest.mark.bpf


@pytest.mark.parametrize("case", LB_CASES, ids=lambda case: f"{case.verdict}: {case.name}")
def test_the_balancer_gives_the_verdict(balancer: Balancer, case: Case):
    result = balancer.run(case)

    assert result.ok, result.detail


@pytest.mark.parametrize("case", REAL_CASES, ids=lambda case: f"{case.verdict}: {case.name}")
def test_the_real_gives_the_verdict(unwrapper: Unwrapper, case: Case | ChainCase):
    result = unwrapper.run(case)

    assert result.ok, result.detail


def test_every_verdict_of_the_balancer_has_a_case(balancer: Balancer):
    assert {case.verdict for case in LB_CASES} == set(balancer.program.verdict_names())


def test_every_verdict_of_the_real_has_a_case(unwrapper: Unwrapper):
    assert {case.verdict for case in REAL_CASES} == set(unwrapper.program.verdict_names())


def test_the_self_test_passes_on_this_kernel(objects: None):
    failed = [result for result in selftest.run() if not result.ok]

    assert failed == []


def test_a_wrong_verdict_is_told_with_what_was_seen(balancer: Balancer):
    wrong = Case(verdict="DROPPED_TTL", name="not a TTL", frame=LB_CASES[0].frame)

    result = balancer.run(wrong)

    assert not result.ok
    assert "PASSED_NOT_IP 1" in result.detail
