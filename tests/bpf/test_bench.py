"""The bench measures what it names: each packet of a long run is as fresh as the first."""

from collections.abc import Iterator

import pytest
from bench_datapath import CHAINS, SCALES, TABLE, added_bytes, within_limits
from datapath_stand import IPV4, IPV6, Case, Family, Stand, UnexpectedVerdictError, stand

from bpf.packets import ETHERNET_BYTES, read_ipv4
from gslb.fleet.model import Encap

pytestmark = pytest.mark.bpf
PACKETS = 1000


@pytest.fixture(scope="module")
def bench() -> Iterator[Stand]:
    with stand() as made:
        yield made


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("encap", Encap)
def test_the_last_packet_of_a_run_leaves_as_a_single_one_does(
    bench: Stand, encap: Encap, family: Family
) -> None:
    case = Case(name="one flow", verdict="FORWARDED_REMEMBERED", encap=encap, family=family)
    with bench.case(case) as run:
        assert run(PACKETS) > 0
        first_client = bytearray(run.run.frame)
        first_client[family.ports_at : family.ports_at + 2] = (1024).to_bytes(2, "big")
        alone = run.program.test_run(bytes(first_client), ifindex=bench.bench.in_ifindex)

        assert run.run.last_packet == alone.packet


def test_clients_take_turns_and_checksums_stay_right(bench: Stand) -> None:
    flows = (1 << 16) + 1  # one more than a client address has ports here
    case = Case(
        name="turns",
        verdict="FORWARDED_REMEMBERED",
        encap=Encap.L2,
        flows=flows,
        memory=2 * flows,
    )
    with bench.case(case) as run:
        run(flows)
        packet = read_ipv4(run.run.last_packet[ETHERNET_BYTES:])

        assert str(packet.source) == "100.1.0.254"
        assert packet.checksum_ok


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in (*TABLE, *CHAINS, *SCALES)
        if case.flows <= 10_000 and not case.name.startswith("one established flow")
    ],
    ids=lambda case: case.name,
)
def test_every_other_small_case_meets_its_verdict(bench: Stand, case: Case) -> None:
    assert within_limits((case,)) == (case,)
    with bench.case(case) as run:
        assert run(PACKETS) > 0


@pytest.mark.parametrize(("family", "address_bytes", "tunnel"), [(IPV4, 4, 32), (IPV6, 16, 52)])
@pytest.mark.parametrize("earlier", [0, 1, 2, 3])
def test_a_chain_has_the_candidates_that_its_case_says(
    bench: Stand, family: Family, address_bytes: int, tunnel: int, earlier: int
) -> None:
    case = Case(name="chain", verdict="FORWARDED_REMEMBERED", family=family, earlier=earlier)

    added = added_bytes(bench, case)

    assert added == tunnel + (8 + earlier * address_bytes if earlier else 0)


def test_a_case_that_takes_another_way_is_refused(bench: Stand) -> None:
    case = Case(name="wrong", verdict="FORWARDED_NEW")
    with bench.case(case) as run, pytest.raises(UnexpectedVerdictError, match="REMEMBERED"):
        run(PACKETS)
