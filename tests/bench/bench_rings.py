"""Seconds to build every ring of a large site, and milliseconds until a lost real is off the path.

First one ring, by number of reals and by weights: CPU time of one core by each build of the
library, how even it is, and what the loss of a real moves, beside a ring of Maglev hashing. Then
256 VIPs of 100 reals, no real behind two of them, so that nothing is shared; the reference makes a
few slots and is not asked for all. Next the owner chains of 256 VIPs of 100 reals
after the drain of one, each VIP for itself. Then a site of 12 VIPs with the same 100 reals
loses one behind all of them: from the changed standings to the swapped rings, in true maps, each
time another real, so that no ring is remembered. Last the same site with its running agent,
over veth: from an operator's word or a check's answer to the packets (veth_change.py). `--quick`
asks for few rounds. Needs root. The last line is one JSON object.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

from survival.maglev import maglev_ring
from veth_change import measure_changes

from bpf.compile import compile_stale, library_builds
from bpf.workbench import Workbench
from edge_lb import fastring, rendezvous
from edge_lb.datapath import Datapath
from edge_lb.owners import Era, chain
from edge_lb.plan import Plan, Standings, build_plan
from edge_lb.rendezvous import Member
from edge_lb.rings import Rings, weights_of
from edge_lb.seats import Seats, assign
from gslb.fleet.health import RealState
from gslb.fleet.model import Fleet, RealName, VipName

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from site_fleet import FRA, fleet, real, vip

VIPS, REALS, ROUNDS, REFERENCE_SLOTS = 256, 100, 5, 1000
NUMBERS, LOSSES = (1, 100, 468), 20
SITE_VIPS, CHANGES = 12, 9
AGENT_ROUNDS, QUICK_ROUNDS = 7, 2


def one_ring(rounds_wanted: int) -> list[dict[str, float | str]]:
    """For each number of reals and kind of weights: CPU time, evenness, and what a loss moves."""
    found: list[dict[str, float | str]] = []
    for number in NUMBERS:
        for kind, step in (("like weights", 0), ("all weights unlike", 1)):
            weights = {real: 100 + real * step for real in range(1, number + 1)}
            row: dict[str, float | str] = {"reals": number, "weights": kind}
            for build in library_builds("rows"):
                took_s: list[float] = []
                for _ in range(rounds_wanted):
                    started_s = time.process_time()
                    fastring.build_ring(members_of(weights), build=build)
                    took_s.append(time.process_time() - started_s)
                row[f"{build.name}_ms"] = round(statistics.median(took_s) * 1e3, 2)
            found.append(row | evenness(weights))
            if not step:
                found[-1] |= {f"maglev_{name}": it for name, it in of_maglev(number).items()}
    return found


def members_of(weights: Mapping[int, int]) -> list[Member]:
    """Members with these weights, by index."""
    return [
        Member(name=f"real{real}", weight=weight, index=real) for real, weight in weights.items()
    ]


def evenness(weights: Mapping[int, int]) -> dict[str, float]:
    """The largest and least share of a fair one; what a loss moves, of what it has to move."""
    ring, total = fastring.build_ring(members_of(weights)), sum(weights.values())
    shares = Counter(ring)
    ratios = [shares[one] * total / (len(ring) * weight) for one, weight in weights.items()]
    moved = [
        fastring.moved(ring, fastring.build_ring(members_of({**weights, lost: 0}))) / shares[lost]
        for lost in list(weights)[:LOSSES]
    ]
    return {
        "max_share": round(max(ratios), 3),
        "min_share": round(min(ratios), 3),
        "moved_by_a_loss": round(statistics.mean(moved), 3),
    }


def of_maglev(number: int) -> dict[str, float]:
    """The same of a ring of Maglev hashing."""
    reals = list(range(1, number + 1))
    ring = maglev_ring(reals)
    shares = Counter(ring.tolist())
    moved = [
        float((maglev_ring([one for one in reals if one != lost]) != ring).sum()) / shares[lost]
        for lost in reals[:LOSSES]
    ]
    return {
        "max_share": round(max(shares.values()) * number / len(ring), 3),
        "min_share": round(min(shares.values()) * number / len(ring), 3),
        "moved_by_a_loss": round(statistics.mean(moved), 3),
    }


def build_seconds(rounds_wanted: int) -> dict[str, float]:
    """CPU time for all rings: by the library, and by the reference from a few."""
    sites = [
        tuple(Member(name=f"v{vip}-r{real}", weight=100, index=real + 1) for real in range(REALS))
        for vip in range(VIPS)
    ]
    rounds: list[float] = []
    for _ in range(rounds_wanted):
        started_s = time.process_time()
        for members in sites:
            fastring.build_ring(members)
        rounds.append(time.process_time() - started_s)
    started_s = time.process_time()
    rendezvous.build_ring(sites[0], REFERENCE_SLOTS)
    per_slot_s = (time.process_time() - started_s) / REFERENCE_SLOTS
    reference_s = per_slot_s * rendezvous.RING_SLOTS * VIPS
    return {
        "build_s_median": round(statistics.median(rounds), 3),
        "build_s_lowest": round(min(rounds), 3),
        "build_s_highest": round(max(rounds), 3),
        "reference_s_from_few_slots": round(reference_s, 1),
    }


def chain_seconds(rounds_wanted: int) -> dict[str, float]:
    """CPU time for all chains after a drain: of like VIPs, and of VIPs that share no real."""
    found: dict[str, float] = {}
    for kind, name in (("like", "r{real}"), ("unlike", "v{vip}-r{real}")):
        rings, rounds = Rings(), list[float]()
        for drained in range(rounds_wanted):
            took_s = 0.0
            for vip_number in range(VIPS):
                names = [name.format(vip=vip_number, real=real) for real in range(REALS)]
                seats = {one: number for number, one in enumerate(names, 1)}
                before = weights_of(dict.fromkeys(names, 100))
                left = weights_of(dict.fromkeys(names[:drained] + names[drained + 1 :], 100))
                past = (Era.of(before, 1.0),)
                rings.shape(before)  # it was in use until now
                started_s = time.process_time()
                ring = rings.ring(tuple(Member(name=n, weight=w, index=seats[n]) for n, w in left))
                chain(ring, past, seats, depth=3, age_s=3600.0, rings=rings)
                took_s += time.process_time() - started_s
            rounds.append(took_s)
        found[f"chains_{kind}_s_median"] = round(statistics.median(rounds), 3)
        found[f"chains_{kind}_s_lowest"] = round(min(rounds), 3)
        found[f"chains_{kind}_s_highest"] = round(max(rounds), 3)
    return found


def site() -> Fleet:
    """One site: SITE_VIPS VIPs on other ports, each with all the reals."""
    names = [RealName(f"web{number}") for number in range(REALS)]
    return fleet(
        reals={name: real(name, number + 1) for number, name in enumerate(names)},
        vips=tuple(
            vip(VipName(f"vip{number}"), 80 + number, tuple(names)) for number in range(SITE_VIPS)
        ),
    )


def change_milliseconds() -> dict[str, float]:
    """Wall time of plan and apply after one real of every VIP died."""
    whole = site()
    seats, rings = assign(whole, FRA, Seats()), Rings()

    def planned(standings: Standings) -> Plan:
        return build_plan(
            whole,
            FRA,
            seats,
            standings,
            frozenset(),
            generation=1,
            tunnel_source=IPv4Address("10.50.0.1"),
            mtu=1500,
            rings=rings,
        )

    took_ms: list[float] = []
    datapath = Datapath("in0", Path("/nowhere"))
    datapath.open_private()
    datapath.apply(planned({}))
    for number in range(CHANGES):
        dead = {(name, RealName(f"web{number}")): RealState.DOWN for name in whole.vips}
        started_s = time.perf_counter()
        datapath.apply(planned(dead))
        took_ms.append((time.perf_counter() - started_s) * 1e3)
    datapath.close()
    return {
        "change_ms_median": round(statistics.median(took_ms), 1),
        "change_ms_lowest": round(min(took_ms), 1),
        "change_ms_highest": round(max(took_ms), 1),
    }


def agent_milliseconds(rounds: int) -> dict[str, dict[str, float]]:
    """From a change of one real to the packets, through the running agent, and packets lost."""
    found: dict[str, dict[str, float]] = {}
    for name, changes in measure_changes(rounds).items():
        took_ms = [change.took_s * 1e3 for change in changes]
        found[name] = {
            "median": round(statistics.median(took_ms), 1),
            "lowest": round(min(took_ms), 1),
            "highest": round(max(took_ms), 1),
            "lost_packets_median": statistics.median(change.lost for change in changes),
        }
    return found


def main() -> None:
    """Build, change, and print."""
    parser = argparse.ArgumentParser(description="how fast rings are built, and changes are seen")
    parser.add_argument("--quick", action="store_true", help="few rounds: a proof")
    is_quick = parser.parse_args().quick
    compile_stale()
    tell("building one ring")
    one = one_ring(1 if is_quick else ROUNDS)
    tell("building rings")
    built = build_seconds(1 if is_quick else ROUNDS)
    tell("chaining owners")
    chained = chain_seconds(1 if is_quick else ROUNDS)
    tell("changing a real, in maps")
    with Workbench():
        changed = change_milliseconds()
    tell("changing a real, through its agent, over veth")
    through_agent = agent_milliseconds(QUICK_ROUNDS if is_quick else AGENT_ROUNDS)
    print(
        json.dumps(
            {
                "bench": "rings",
                "one_ring": one,
                **built,
                **chained,
                **changed,
                "agent_change_ms": through_agent,
            }
        )
    )


def tell(what: str) -> None:
    """Progress, for a person who waits."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
