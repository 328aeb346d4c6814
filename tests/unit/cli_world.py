"""Two daemons' admin sockets with recorded views, for the command line to be tried against.

Owned by the tests of `ops.cli`. The sockets are those of `gslb.service.admin`, so that both ends of
the wire are the true ones; only what the daemons say is written down here.
"""

from __future__ import annotations

import asyncio
import io
import shlex
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

from edge_lb import pcapng
from gslb.fleet import views
from gslb.service.admin import AdminRefusal, AdminServer
from gslb.service.events import EventLog
from gslb.service.lifecycle import ExitCode, guarded
from gslb.service.metrics import Registry
from ops.cli.main import run
from ops.cli.seat import Seat

NOW_S = 1_800_000_000.0
PATIENCE_S = 10.0

VIPS = (
    views.VipRow(
        name="web-fra-a",
        site="fra",
        address="192.0.2.10",
        port=443,
        protocol="tcp",
        state="UP",
        eligible=True,
        reals_up=3,
        reals_total=3,
        packets_per_s=412_880.4,
        packets=9_876_543,
        bytes=1_234_567_890,
        dropped=12,
        flows_new=45_678,
        flow_hits=9_700_000,
        reason="2 of 2 edges serve it",
    ),
    views.VipRow(
        name="api-fra",
        site="fra",
        address="2001:db8::11",
        port=443,
        protocol="tcp",
        state="DEGRADED",
        eligible=True,
        reals_up=1,
        reals_total=2,
        packets_per_s=0.0,
        reason="2 of 2 edges serve it, not all reals up",
    ),
    views.VipRow(
        name="dns-fra",
        site="fra",
        address="192.0.2.53",
        port=0,
        protocol="udp",
        state="DOWN",
        eligible=False,
        reals_up=0,
        reals_total=2,
        packets_per_s=-1.0,
        reason="2 of 2 edges see DOWN",
    ),
)


def _real(name: str, vip: str, state: str, reason: str, *, slots: int) -> views.RealRow:
    return views.RealRow(
        name=name,
        vip=vip,
        site="fra",
        address=f"10.1.20.{11 + int(name[-1])}",
        weight=100,
        encap="gue",
        state=state,
        since_s=NOW_S - 250.0,
        slots=slots,
        packets=1_234_567,
        reason=reason,
        edge="fra-edge1",
        bytes=98_765_432,
    )


REALS = (
    _real("fra-web1", "web-fra-a", "UP", "status 200", slots=32_769),
    _real("fra-web2", "web-fra-a", "DRAINING", "drained by anna: kernel upgrade", slots=0),
    _real("fra-web3", "api-fra", "DOWN", "connect timeout 1.0 s", slots=-1),
)

DRAINS = (
    views.DrainRow(
        name="fra-web2",
        by="anna",
        reason="kernel upgrade",
        at_s=NOW_S - 250.0,
        flows=12,
        oldest_s=NOW_S - 7205.0,
        quiet_since_s=0.0,
        words="12 flows left",
    ),
    views.DrainRow(
        name="fra-web4",
        by="ben",
        reason="no reason given",
        at_s=NOW_S - 90.0,
        flows=0,
        oldest_s=0.0,
        quiet_since_s=NOW_S - 15.0,
        words="quiet since 2027-01-15T07:59:45Z",
    ),
    views.DrainRow(
        name="fra-web5",
        by="ben",
        reason="no reason given",
        at_s=NOW_S - 70.0,
        flows=-1,
        oldest_s=0.0,
        quiet_since_s=0.0,
        words="not counted: the real's agent reports nothing",
    ),
)

STATUS = views.Status(
    role="edge",
    host="fra-edge1",
    site="fra",
    version="0.1.0",
    generation=4182,
    config_hash="9f3c1a00beef",
    config_at_s=NOW_S - 7200.0,
    store="ok",
    uptime_s=6 * 86400.0 + 5.0,
    well=True,
    trouble=(),
    vips=VIPS,
    sites=(
        views.SiteRow(name="fra", vips_eligible=2, vips_total=3, edges_fresh=2, edges_total=2),
        views.SiteRow(name="sin", vips_eligible=0, vips_total=4, edges_fresh=0, edges_total=2),
    ),
    counters=(
        views.CounterRow(name="FORWARDED_NEW", packets=98_765_432, bytes=6_320_987_648),
        views.CounterRow(name="DROPPED_SHORT", packets=0, bytes=0),
    ),
    datapath="xdp native on eth0",
    drains=DRAINS,
)

UNWELL = views.Status(
    role="dns",
    host="ns1",
    site="",
    version="0.1.0",
    generation=4181,
    config_hash="9f3c1a00beef",
    config_at_s=NOW_S - 59.0,
    store="192.0.2.250:6379: no answer within 1 s",
    uptime_s=61.0,
    well=False,
    trouble=("the store is lost since 12 s", "vip dns-fra is DOWN"),
    vips=(),
)

DROPS = views.Drops(
    counters=(
        views.CounterRow(name="FORWARDED_REMEMBERED", packets=98_765_432, bytes=6_320_987_648),
        views.CounterRow(name="PASSED_NOT_VIP", packets=17, bytes=1_020),
        views.CounterRow(name="DROPPED_SHORT", packets=0, bytes=0),
    ),
    unit="packets",
)

EXPLANATION = views.Explanation(
    name="www.example.com.",
    type="A",
    client="203.0.113.7",
    pool="web",
    policy="nearest",
    ttl_s=30,
    scope="203.0.113.0/24",
    rcode="NOERROR",
    generation=4182,
    candidates=(
        views.CandidateRow(
            vip="web-fra-a",
            site="fra",
            address="192.0.2.10",
            state="UP",
            distance_km=310.2,
            chosen=True,
            reason="nearest site that serves",
        ),
        views.CandidateRow(
            vip="web-sin-a",
            site="sin",
            address="203.0.113.10",
            state="UP",
            distance_km=-1.0,
            chosen=False,
            reason="farther",
        ),
    ),
    answers=("192.0.2.10",),
    reasons=("the client's network is known to be near fra",),
)

FLOW = views.FlowWhere(
    client="203.0.113.7:40000",
    vip="web-fra-a",
    slot=41_234,
    ring_real="fra-web1",
    remembered_real="",
    earlier=("fra-web2",),
    real="fra-web1",
    reason="not remembered: the ring decides",
)

PLAN = views.PlanView(
    subject="fleet.toml 9f3c1a00beef -> 51d0aa00c0de",
    slots=87_382,
    slots_total=196_608,
    share=87_382 / 196_608,
    flows=-1,
    vips=(
        views.PlanRow(
            vip="web-fra-a",
            slots=21_845,
            share=21_845 / 65_536,
            flows=1_204,
            chains_grow=21_800,
            chains_full=45,
            chain_ends=(
                views.ChainEnd(at_s=1_785_000_000.0, entries=4_000),
                views.ChainEnd(at_s=1_785_003_600.0, entries=21_845),
            ),
            emptied=False,
            change="fra-web1 removed, fra-web2 weight 100 -> 50",
        ),
        views.PlanRow(
            vip="dns-fra",
            slots=65_536,
            share=1.0,
            flows=-1,
            chains_grow=0,
            chains_full=0,
            chain_ends=(),
            emptied=True,
            change="fra-web3 up -> down",
        ),
    ),
)

DRAIN_PLAN = views.PlanView(
    subject="drain fra-web2", slots=0, slots_total=196_608, share=0.0, flows=0, vips=()
)

TRACE = views.Trace(
    client="203.0.113.7:40000",
    destination="192.0.2.10:80",
    protocol="tcp",
    interface="eth0",
    verdict="FORWARDED_NEW",
    action="sent back out",
    filter=("one-carrier: limit 203.0.113.0/24",),
    vip="web-fra-a",
    remembered_real="",
    slot=41_234,
    ring_real="fra-web1",
    earlier=("fra-web2", "fra-web3"),
    real="fra-web1",
    candidates=("fra-web2", "fra-web3"),
    real_address="10.1.20.12",
    real_state="UP",
    encap="gue",
    next_hop="02:00:00:00:00:fe",
    out_interface="eth0",
    bytes=86,
    layers=(
        views.LayerRow(
            name="ethernet",
            fields={"source": "02:00:00:00:00:0a", "destination": "02:00:00:00:00:fe"},
        ),
        views.LayerRow(
            name="ipv4",
            fields={"source": "10.1.0.1", "destination": "10.1.20.12", "ttl": "64", "flags": ""},
        ),
    ),
    program_tag="3b185187f1855c4c",
)

UNTRACED = views.Trace(
    client="203.0.113.7:40000",
    destination="192.0.2.99:53",
    protocol="udp",
    interface="eth0",
    verdict="PASSED_NOT_VIP",
    action="passed to the stack",
    filter=(),
    vip="",
    remembered_real="",
    slot=-1,
    ring_real="",
    earlier=(),
    real="",
    candidates=(),
    real_address="",
    real_state="",
    encap="",
    next_hop="",
    out_interface="",
    bytes=42,
    layers=(),
    program_tag="3b185187f1855c4c",
)

DATAPATH = views.DatapathView(
    interface="eth0",
    mode="native",
    program_tag="3b185187f1855c4c",
    loaded_at_s=NOW_S - 90_000.0,
    pin_dir="/sys/fs/bpf/waypost/edge",
    maps=(
        views.DatapathMap(name="vips", kind="hash", entries_max=512, bytes=16_384),
        views.DatapathMap(name="verdicts", kind="per-CPU array", entries_max=28, bytes=896),
    ),
)


FILTER = views.FilterList(
    rules=(
        views.FilterRow(
            name="scanners",
            prefix="198.18.0.0/15",
            action="deny",
            packets_per_s=0,
            burst=0,
            vips=(),
            in_force=True,
            passed_packets=0,
            dropped_packets=41_234_567,
            dropped_bytes=2_638_000_000,
            until_s=0.0,
            reason="fleet.toml",
        ),
        views.FilterRow(
            name="one-carrier",
            prefix="203.0.113.0/24",
            action="limit",
            packets_per_s=20_000,
            burst=4_000,
            vips=("web-fra-a", "api-fra"),
            in_force=False,
            passed_packets=0,
            dropped_packets=0,
            dropped_bytes=0,
            until_s=0.0,
            reason="fleet.toml",
        ),
        views.FilterRow(
            name="by anna",
            prefix="203.0.113.0/24",
            action="limit",
            packets_per_s=500,
            burst=50,
            vips=("web-fra-a", "api-fra"),
            in_force=True,
            passed_packets=90_210,
            dropped_packets=12,
            dropped_bytes=768,
            until_s=NOW_S + 1_799.0,
            reason="login flood",
        ),
    ),
    limits=(
        views.VipLimitRow(
            vip="web-fra-a",
            packets_per_s=500_000,
            burst=50_000,
            dropped_packets=17,
            dropped_bytes=1_020,
        ),
    ),
)


async def _add_filter(params: Mapping[str, str]) -> views.Done:
    told = " ".join(f"{name}={value}" for name, value in params.items() if value)
    return views.Done(message=told)


async def _remove_filter(params: Mapping[str, str]) -> views.Done:
    if params["prefix"] != "203.0.113.0/24":
        raise AdminRefusal(ExitCode.USAGE, f"no rule by hand for {params['prefix']}")
    return views.Done(message="the rule by hand for 203.0.113.0/24 is gone from this edge")


async def _drain(params: Mapping[str, str]) -> views.Done:
    known = {real.name for real in REALS}
    if params["name"] not in known:
        raise AdminRefusal(ExitCode.USAGE, f"no real `{params['name']}`")
    if params["name"] == "fra-web1" and not params["force"]:
        text = "web-fra-a would lose its last serving real; --force does it all the same"
        raise AdminRefusal(ExitCode.UNSAFE, text)
    return views.Done(message=f"{params['name']} drained by {params['by']}: {params['reason']}")


async def _plan(params: Mapping[str, str]) -> views.PlanView:
    if params.get("drain") == "fra-web9":
        raise AdminRefusal(ExitCode.USAGE, "no real `fra-web9` at site `fra`; fra-web1?")
    return DRAIN_PLAN if params == {"drain": "fra-web2", "weight": "a=1,b=2"} else PLAN


async def _undrain(params: Mapping[str, str]) -> views.Done:
    return views.Done(message=f"{params['name']} takes new flows again")


async def _trace(params: Mapping[str, str]) -> views.Trace:
    return TRACE if params["syn"] else UNTRACED


async def _capture(params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
    """Two packets, and what was wished for as the name of the writer."""
    if params["vip"] == "web-fra":
        raise AdminRefusal(ExitCode.USAGE, "no VIP `web-fra` here; do you mean `web-fra-a`?")
    yield pcapng.opening(" ".join(params.values()), "eth0", 256)
    for number in range(2):
        seen = pcapng.Packet(
            unix_ns=number, octets=bytes(60), length=60, outbound=False, queue=0, comment="A B"
        )
        yield pcapng.packet(seen)
        yield b""
    yield pcapng.closing(2, delivered=2, lost=5)


async def _broken(_params: Mapping[str, str]) -> views.Done:
    raise RuntimeError("a fault of the daemon's own")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command line did."""

    code: int
    out: str
    err: str


class World:
    """A run directory with daemons in it, and the command line in front of them."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.edge_events = EventLog()

    async def waypost(self, line: str) -> Outcome:
        """Run `waypost LINE` beside the daemons' event loop."""
        return await asyncio.to_thread(self.waypost_now, line)

    def waypost_now(self, line: str) -> Outcome:
        """Run `waypost LINE`."""
        seat = Seat(run_dir=self.run_dir, now_s=lambda: NOW_S)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = guarded(lambda: run(shlex.split(line), seat))
        return Outcome(int(code), out.getvalue(), err.getvalue())


def _edge(world: World) -> AdminServer:
    server = AdminServer(world.run_dir / "edge.sock", world.edge_events, Registry())
    shown = {
        "/status": STATUS,
        "/vips": views.VipList(vips=VIPS, generation=4182),
        "/reals": views.RealList(reals=REALS, generation=4182),
        "/drains": views.Drains(drains=DRAINS),
        "/drops": DROPS,
        "/flow": FLOW,
        "/datapath": DATAPATH,
        "/filter": FILTER,
    }
    for route, view in shown.items():
        server.show(route, _says(view))
    server.show("/plan", _plan)
    server.change("/real/drain", _drain)
    server.change("/real/undrain", _undrain)
    server.show("/trace", _trace)
    server.stream("/capture", "application/x-pcapng", _capture)
    server.change("/filter/add", _add_filter)
    server.change("/filter/remove", _remove_filter)
    return server


def _dns(world: World) -> AdminServer:
    server = AdminServer(world.run_dir / "dns.sock", EventLog(), Registry())
    server.show("/status", _says(UNWELL))
    server.show("/vips", _says(views.Done(message="another version")))
    server.show("/explain", _says(EXPLANATION))
    server.show("/drops", _broken)
    return server


def _says(view: views.View):
    async def handler(_params: Mapping[str, str]) -> views.View:
        return view

    return handler


@asynccontextmanager
async def daemons(run_dir: Path) -> AsyncIterator[World]:
    """An edge and a DNS node that answer from `run_dir`."""
    world = World(run_dir)
    tasks = [asyncio.create_task(server.run()) for server in (_edge(world), _dns(world))]
    try:
        async with asyncio.timeout(PATIENCE_S):
            for role in ("edge", "dns"):
                while not _listens(run_dir / f"{role}.sock"):
                    await asyncio.sleep(0)
        yield world
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False
