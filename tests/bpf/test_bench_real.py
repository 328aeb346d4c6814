"""The real's bench measures what it names: each packet of a run is as fresh as the first."""

from __future__ import annotations

import pytest
from bench_real import TABLE, runs
from datapath_stand import stand

pytestmark = pytest.mark.bpf
PACKETS = 1000


def test_every_case_gets_its_verdict_and_ends_as_a_single_packet_does() -> None:
    with stand() as bench, runs(bench, TABLE) as checked:
        assert len(checked) == len(TABLE)
        for run in checked.values():
            assert run(PACKETS) > 0
            alone = run.program.test_run(run.frame, ifindex=bench.bench.in_ifindex)
            assert run.last_packet == alone.packet
