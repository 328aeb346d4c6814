"""How late other edges know of a flow, what dies within that time, and what sharing flows costs.

Two edges without a network (private data planes, packets by test runs) and a redis-server of their
own on a Unix socket, all on this machine. The lag is from a flow's first packet at one edge until
the other would forward it to the same real; flows come at random moments. Then an edge dies amid
new flows, and packets of those flows that the other sends elsewhere are counted. Then a million
flows are told at once: how fast, Redis's memory for them, and the time of a sweep over them.
`--quick` asks for few rounds. Needs root. The last line is one JSON object.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "bpf"))
from share_stand import Edge, hash_of, open_stream, sharing, until

from bpf.compile import compile_stale
from bpf.workbench import Workbench
from edge_lb.share import ShareSettings, shared_reals
from edge_lb.shared_codec import Batch, decode, encode
from edge_lb.shared_tables import News, Sweeper, TakenOver, ticks_now
from gslb.fleet.flow_stream import BEGINNING, Bounds
from tests.contract.stands import RedisStand
from tests.unit.site_fleet import FRA

SWEEPS_S = (0.25, 0.05)
SECONDS, QUICK_SECONDS = 10.0, 2.0  # of each measurement of the lag
FLOWS_A_SECOND = 100
DEATHS, QUICK_DEATHS = 5, 2
MILLION, QUICK_MILLION = 1 << 20, 1 << 17
SWEPT = 12  # sweeps that are timed
POLL_S = 0.001
ROOMY = Bounds(messages=100_000, age_s=600.0)

Figures = dict[str, float]


async def empty(stand: RedisStand) -> None:
    """Nobody told anything yet."""
    async with stand.client() as client:
        await client.flushall()


async def lags(bench: Workbench, stand: RedisStand, sweep_s: float, seconds: float) -> Figures:
    """Milliseconds from a flow's first packet until the other edge knows its real."""
    one, two = Edge(bench, "edge1", first=1, towards=0), Edge(bench, "edge2", first=30, towards=1)
    rng, pending, found_ms = Random(1), dict[int, float](), list[float]()
    await empty(stand)
    async with (
        sharing(stand, one, sweep_s=sweep_s),
        sharing(stand, two, sweep_s=sweep_s) as heard,
    ):
        one.send([1])
        await until(lambda: heard.outcome.taken >= 1)  # both are at work
        started_s, client = time.perf_counter(), 1
        due_s = started_s
        while (now_s := time.perf_counter()) < started_s + seconds or pending:
            if due_s <= now_s < started_s + seconds:
                client += 1
                one.send([client])
                pending[hash_of(client)] = time.perf_counter()
                due_s += rng.expovariate(FLOWS_A_SECOND)
            known = [number for number in pending if heard.recall(number)]
            found_ms += [(time.perf_counter() - pending.pop(number)) * 1e3 for number in known]
            await asyncio.sleep(POLL_S)
    one.close()
    two.close()
    return {
        "flows": len(found_ms),
        "lag_ms_median": round(statistics.median(found_ms), 1),
        "lag_ms_p99": round(statistics.quantiles(found_ms, n=100)[98], 1),
        "lag_ms_highest": round(max(found_ms), 1),
    }


async def lost_by_death(
    bench: Workbench, stand: RedisStand, sweep_s: float, deaths: int
) -> Figures:
    """Flows of a dead edge that the other one sends elsewhere, of so many a second."""
    lost: list[int] = []
    rng = Random(2)
    for _ in range(deaths):
        one = Edge(bench, "edge1", first=1, towards=0)
        two = Edge(bench, "edge2", first=30, towards=1)
        clients = range(2, 2)
        await empty(stand)
        async with sharing(stand, two, sweep_s=sweep_s) as heard:
            async with sharing(stand, one, sweep_s=sweep_s):
                one.send([1])
                await until(lambda: heard.outcome.taken >= 1)
                started_s, life_s = time.perf_counter(), 1.0 + rng.random() * sweep_s
                while (since_s := time.perf_counter() - started_s) < life_s:
                    fresh = range(clients.stop, clients.start + int(since_s * FLOWS_A_SECOND))
                    one.send(fresh)
                    clients = range(clients.start, max(clients.stop, fresh.stop))
                    await asyncio.sleep(POLL_S)
            verdicts = two.send(clients)  # ECMP leads all flows of the dead edge here
        lost.append(verdicts.get("FORWARDED_NEW", 0))
        one.close()
        two.close()
    return {
        "flows_a_second": FLOWS_A_SECOND,
        "lost_median": statistics.median(lost),
        "lost_highest": max(lost),
    }


def told_at_random(count: int) -> bytes:
    """So many flows of the first name, all with a packet just now."""
    hashes = os.urandom(8 * count)
    return b"".join(hashes[at : at + 8] + bytes(4) for at in range(0, len(hashes), 8))


async def a_million(bench: Workbench, stand: RedisStand, count: int) -> Figures:
    """What one telling of so many flows takes, step by step, and the sweeps after it."""
    one = Edge(bench, "edge1", first=1, towards=0, flows=count)
    two = Edge(bench, "edge2", first=30, towards=1)
    settings = ShareSettings(
        site=FRA, edge="edge1", run=1, sweep_s=0.25, refresh_s=60.0, flows=count
    )
    assert one.plan is not None
    assert two.plan is not None
    mine = shared_reals(one.fleet, one.plan, settings)
    theirs = shared_reals(two.fleet, two.plan, settings)
    sweeper, filled = Sweeper(), TakenOver(one.datapath.program, count)
    filled.take(told_at_random(count), [1], mine.seats, ())
    memory = one.datapath.flow_memory
    sweeper.watch(one.datapath.program.maps["flows"], memory.indexes(0))
    (table,) = sweeper.tables
    table.memory[:] = filled.octets()  # of the same size, so flows lie in their places
    held = sum(1 for _ in filled.entries())

    def swept(share: float) -> tuple[list[News], float]:
        started_s = time.thread_time()
        found = sweeper.sweep(mine.seats, ticks_now(), share=share, most=1 << 16)
        return found, (time.thread_time() - started_s) * 1e3

    found, all_new_ms = swept(0.0)
    quiet_ms = [swept(0.0)[1] for _ in range(SWEPT)]
    usual_ms = [swept(0.25 / 60)[1] for _ in range(SWEPT)]
    batches = [
        Batch(
            edge="edge1",
            run=1,
            number=number,
            names=tuple(mine.names[real] for real in news.reals),
            flows=news.flows,
        )
        for number, news in enumerate(found)
    ]
    stream = open_stream(stand)
    await empty(stand)
    async with stand.client() as client:
        before = int((await client.info("memory"))["used_memory"])
        started_s = time.perf_counter()
        for batch in batches:
            await stream.append([encode(batch)], ROOMY)
        told_s = time.perf_counter() - started_s
        after = int((await client.info("memory"))["used_memory"])
    heard, last = TakenOver(two.datapath.program, count), BEGINNING
    outcome_taken, took_ms, started_s = 0, 0.0, time.perf_counter()
    newest = await stream.newest()
    while last != newest:
        for message_id, message in await stream.read_after(last):
            batch, last = decode(message), message_id
            at_s = time.thread_time()
            targets = [theirs.indexes[name] for name in batch.names]
            outcome_taken += heard.take(batch.flows, targets, theirs.seats, ()).taken
            took_ms += (time.thread_time() - at_s) * 1e3
    heard_s = time.perf_counter() - started_s
    assert sum(batch.count for batch in batches) == held
    await stream.close()
    for closed in (sweeper, filled, heard, one, two):
        closed.close()
    return {
        "flows": held,
        "places": table.places,
        "sweep_ms_all_new": round(all_new_ms, 1),
        "sweep_ms_nothing_new": round(statistics.median(quiet_ms), 1),
        "sweep_ms_with_refresh": round(statistics.median(usual_ms), 1),
        "sweep_core_percent": round(statistics.median(usual_ms) / 250 * 100, 2),
        "append_flows_a_second": round(held / told_s),
        "read_and_take_flows_a_second": round(held / heard_s),
        "take_ns_a_flow": round(took_ms * 1e6 / held),
        "taken": outcome_taken,
        "redis_bytes": after - before,
        "redis_bytes_a_flow": round((after - before) / held, 1),
    }


async def measure(bench: Workbench, *, quick: bool) -> dict[str, Figures]:
    """Every figure, told as it comes."""
    figures: dict[str, Figures] = {}

    def note(name: str, found: Figures) -> None:
        figures[name] = found
        words = ", ".join(f"{key} {value}" for key, value in found.items())
        sys.stdout.write(f"{name}: {words}\n")
        sys.stdout.flush()

    stand = RedisStand()
    await stand.start()
    try:
        for sweep_s in SWEEPS_S:
            seconds, deaths = (QUICK_SECONDS, QUICK_DEATHS) if quick else (SECONDS, DEATHS)
            note(f"lag, sweep {sweep_s} s", await lags(bench, stand, sweep_s, seconds))
            lost = await lost_by_death(bench, stand, sweep_s, deaths)
            note(f"death of an edge, sweep {sweep_s} s", lost)
        count = QUICK_MILLION if quick else MILLION
        note("a million flows", await a_million(bench, stand, count))
    finally:
        await stand.stop()
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: no figures to publish")
    quick = parser.parse_args().quick
    compile_stale()
    with Workbench() as bench:
        figures = asyncio.run(measure(bench, quick=quick))
    sys.stdout.write(f"{json.dumps(figures)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
