"""Two edges without a network that share flows through a real redis-server.

Owns a private data plane for each, their agents' part in sharing, and packets for them. The same
reals have other indexes and epochs at each edge, and another ring, so that only what was told can
lead a flow to its real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

from datapath_plans import plan, real, ring_to, vip

from bpf.packets import ACK, TCP, UDP, ethernet, ipv4, tcp, udp
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath
from edge_lb.flow import Flow, flow_hash
from edge_lb.plan import Plan, PlannedReal, RealForwarding
from edge_lb.share import FlowShare, ShareSettings
from gslb.fleet.flow_stream import FlowStream
from gslb.fleet.model import Fleet, Protocol
from gslb.service.events import EventLog
from tests.contract.stands import RedisStand
from tests.unit.site_fleet import FRA, TLS, WEB1, WEB2, WWW
from tests.unit.site_fleet import fleet as small_fleet
from tests.unit.site_fleet import vip as site_vip

PATIENCE_S = 60.0  # a bound on every wait; no test waits for it to pass
SWEEP_S, REFRESH_S = 0.02, 30.0
WWW_ADDRESS, DNS_ADDRESS, TLS_ADDRESS = (IPv4Address(f"192.0.2.{octet}") for octet in (80, 53, 43))
FLOWS = 4096
_runs = count(1)


def shared_fleet() -> Fleet:
    """`www` over TCP and `dns` over UDP share their flows, `tls` does not."""
    www = replace(site_vip(WWW, 80, (WEB1, WEB2)), share_flows=True, connection_age_s=600.0)
    dns = replace(www, name="dns", protocol=Protocol.UDP, port=53)
    return small_fleet(vips=(www, dns, site_vip(TLS, 443, (WEB1, WEB2))))


def hash_of(client: int) -> int:
    """The hash of the flow that `Edge.send` sends to `www` for a client."""
    address = IPv4Address(0x0A000000 + client)
    return flow_hash(
        Flow(client=address, client_port=40000, vip=WWW_ADDRESS, vip_port=80, protocol=TCP)
    )


class Edge:
    """One edge. `first` is the index of its first real, `towards` the position its ring names."""

    def __init__(
        self, bench: Workbench, name: str, *, first: int, towards: int, flows: int = FLOWS
    ) -> None:
        self._bench = bench
        self._first, self._epoch, self._towards = first, first + 1, towards
        self.name = name
        self.fleet = shared_fleet()
        self.datapath = Datapath("in0", Path("/nowhere"), flows_per_queue=flows)
        self.datapath.open_private()
        self.plan: Plan | None = None
        self.events = EventLog()
        self.make_plan()

    def make_plan(self, *, down: Sequence[int] = (), towards: int | None = None) -> None:
        """Apply the plan; `down` are positions of reals that are down."""
        self._towards = self._towards if towards is None else towards
        indexes = range(self._first, self._first + 6)
        names = [f"{vip}/{web}" for vip in ("www", "dns", "tls") for web in (WEB1, WEB2)]
        reals: list[PlannedReal] = []
        for at, (index, name) in enumerate(zip(indexes, names, strict=True)):
            state = RealForwarding.DOWN if at % 2 in down else RealForwarding.UP
            made = real(index, epoch=self._epoch, state=state, host=at + 1)
            reals.append(replace(made, name=name))
        vips = [
            replace(
                vip(ring_to(indexes[2 * at + self._towards]), index=at, address=address),
                name=name,
                port={"www": 80, "dns": 53, "tls": 443}[name],
                protocol=Protocol.UDP if name == "dns" else Protocol.TCP,
                shares_flows=name != "tls",
            )
            for at, (name, address) in enumerate(
                (("www", WWW_ADDRESS), ("dns", DNS_ADDRESS), ("tls", TLS_ADDRESS))
            )
        ]
        self.plan = plan(reals, vips)
        self.datapath.apply(self.plan)

    def send(
        self, clients: Iterable[int], *, to: IPv4Address = WWW_ADDRESS, flags: int = ACK
    ) -> dict[str, int]:
        """A packet of each client; how many had which verdict."""
        before = self.datapath.verdicts()
        for client in clients:
            source = str(IPv4Address(0x0A000000 + client))
            if to == DNS_ADDRESS:
                packet = ipv4(source, str(to), UDP, udp(40000, 53, b"question"))
            else:
                port = 80 if to == WWW_ADDRESS else 443
                packet = ipv4(source, str(to), TCP, tcp(40000, port, flags))
            self.datapath.program.test_run(ethernet(packet), ifindex=self._bench.in_ifindex)
        after = self.datapath.verdicts()
        moved = {name: after[name].packets - before[name].packets for name in after}
        return {name: number for name, number in moved.items() if number}

    def sent_to(self, position: int) -> int:
        """Packets that went to a real: of `www` 0 and 1, `dns` 2 and 3, `tls` 4 and 5."""
        index = self._first + position
        return self.datapath.real_counters([index])[index].packets

    def close(self) -> None:
        """End the private copy."""
        self.datapath.close()


@asynccontextmanager
async def sharing(
    stand: RedisStand,
    edge: Edge,
    *,
    flows: int = FLOWS,
    sweep_s: float = SWEEP_S,
    refresh_s: float = REFRESH_S,
) -> AsyncIterator[FlowShare]:
    """The edge's agent shares flows, for the time of the block."""
    settings = ShareSettings(
        site=FRA,
        edge=edge.name,
        run=next(_runs),
        sweep_s=sweep_s,
        refresh_s=refresh_s,
        flows=flows,
    )
    share = FlowShare(
        settings,
        edge.datapath,
        open_stream(stand),
        lambda: (edge.fleet, edge.plan),
        edge.events,
    )
    task = asyncio.create_task(share.run())
    try:
        yield share
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None, task.exception()


def open_stream(stand: RedisStand) -> FlowStream:
    """The site's stream, as a third party sees it."""
    return FlowStream(stand.url, password=None, prefix="waypost", site=FRA, timeout_s=2.0)


async def until(condition: Callable[[], bool]) -> None:
    """Come back when the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(SWEEP_S)
