"""What an edge shows: the typed views, made from the agent, its follower and the data plane.

Owns the filling of `gslb.fleet.views` for an edge. Shows only; called by `edge_lb.edge_admin`.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge_lb.agent import EdgeAgent
from edge_lb.announce_admin import AnnounceSeat
from edge_lb.datapath import Datapath, UnknownVipError
from edge_lb.edge_drains import EdgeDrains
from edge_lb.flow import Flow, as_memory_sees, flow_hash
from edge_lb.held import IP_PROTOCOLS
from edge_lb.seats import seat_name
from edge_lb.share import FlowShare
from gslb.fleet import views
from gslb.fleet.config import nearest
from gslb.fleet.config_rules import parse_address
from gslb.fleet.health import SERVING, VipState
from gslb.fleet.host import EdgeHost, split_listen
from gslb.fleet.model import RealName, Vip, VipName
from gslb.service import clock
from gslb.service.admin import AdminRefusal
from gslb.service.follow import FleetFollower
from gslb.service.lifecycle import ExitCode

_MAP_KINDS = {
    1: "hash",
    2: "array",
    6: "per-CPU array",
    9: "LRU hash",
    12: "array of maps",
    27: "ring buffer",
}


class EdgeViews:
    """The GET routes of an edge."""

    def __init__(
        self,
        host: EdgeHost,
        agent: EdgeAgent,
        follower: FleetFollower,
        datapath: Datapath,
        announcing: AnnounceSeat,
        share: FlowShare | None,
        *,
        started_s: float,
    ) -> None:
        self._host = host
        self._share = share
        self._agent = agent
        self._follower = follower
        self._datapath = datapath
        self._announcing = announcing
        self._started_s = started_s
        self.drains = EdgeDrains(agent)

    async def status(self, _params: Mapping[str, str]) -> views.Status:
        """GET /status"""
        agent = self._agent
        rows = self._vip_rows()
        trouble = tuple(self._trouble(rows))
        return views.Status(
            role="edge",
            host=self._host.host.name,
            site=agent.settings.site,
            version=distribution_version(),
            generation=agent.publisher.generation,
            config_hash=agent.fleet.config_hash,
            config_at_s=agent.adopted_at_s,
            store=self._store_trouble() or "ok",
            uptime_s=round(clock.unix_s() - self._started_s, 1),
            well=not trouble,
            trouble=trouble,
            vips=rows,
            counters=self._counters(),
            datapath=f"xdp native on {self._host.edge.interface}",
            announcing=self._announcing.words(),
            drains=self.drains.rows(),
            waiting=tuple(f"{vip}: {words}" for vip, words in agent.waiting().items()),
        )

    async def vips(self, _params: Mapping[str, str]) -> views.VipList:
        """GET /vips"""
        return views.VipList(vips=self._vip_rows(), generation=self._agent.publisher.generation)

    async def reals(self, _params: Mapping[str, str]) -> views.RealList:
        """GET /reals: a row for each real behind each VIP."""
        agent = self._agent
        planned = {vip.name: Tally(vip.ring) for vip in agent.plan.vips} if agent.plan else {}
        counters = self._datapath.real_counters(s.index for s in agent.seats.reals.values())
        rows: list[views.RealRow] = []
        now_s = clock.monotonic_s()
        left_on = {row.name: row.words for row in self.drains.rows()}
        for vip in agent.content().vips:
            for health in vip.reals:
                held = agent.real_flows.fresh(health.name, now_s)
                left = held.of(vip.name) if held is not None else None
                real = agent.fleet.reals[RealName(health.name)]
                seat = agent.seats.reals[seat_name(vip.name, health.name)]
                rows.append(
                    views.RealRow(
                        name=health.name,
                        vip=vip.name,
                        site=real.site,
                        address=str(real.address),
                        weight=real.weight,
                        encap=agent.fleet.vips[VipName(vip.name)].encap_of(real),
                        state=health.state,
                        since_s=health.since_s,
                        slots=planned.get(vip.name, Tally())[seat.index],
                        packets=counters[seat.index].packets,
                        reason="; ".join(filter(None, (health.reason, left_on.get(health.name)))),
                        edge=self._host.host.name,
                        bytes=counters[seat.index].bytes,
                        flows=left.flows if left is not None else -1,
                        oldest_s=(left.oldest_s or 0.0) if left is not None else 0.0,
                    )
                )
        return views.RealList(reals=tuple(rows), generation=agent.publisher.generation)

    async def drops(self, _params: Mapping[str, str]) -> views.Drops:
        """GET /drops: every verdict."""
        return views.Drops(counters=self._counters(), unit="packets")

    async def flow(self, params: Mapping[str, str]) -> views.FlowWhere:
        """GET /flow?client=ADDRESS:PORT&vip=NAME[&port=N]: where a flow goes, and why."""
        vip = self._vip(params.get("vip", ""))
        try:
            client, client_port = split_listen(params.get("client", ""))
            port = int(params.get("port", vip.port))
        except ValueError as error:
            raise AdminRefusal(ExitCode.USAGE, f"flow: {error}") from None
        if not 1 <= port <= 65535:
            text = f"{vip.name} serves every port: say which one by `port`"
            raise AdminRefusal(ExitCode.USAGE, text)
        flow = Flow(
            client=parse_address(client),
            client_port=client_port,
            vip=vip.address,
            vip_port=port,
            protocol=IP_PROTOCOLS[vip.protocol],
        )
        try:
            place = self._datapath.locate(flow)
        except UnknownVipError as error:
            raise AdminRefusal(ExitCode.FAILED, str(error)) from None
        names = {
            seat.index: name.partition("/")[2] for name, seat in self._agent.seats.reals.items()
        }
        ring_real = names.get(place.ring_real, "")
        remembered = names.get(place.remembered_real, "")
        told = self._told(flow, vip, names)
        if remembered:
            reason = f"remembered on queue {place.queue}: an old flow keeps its real"
        elif told:
            reason = "not remembered: told by another edge, and taken over unless it begins anew"
        elif ring_real:
            reason = f"not remembered: slot {place.slot} of the ring decides"
        else:
            reason = "the ring is empty: no real serves"
        return views.FlowWhere(
            client=params["client"],
            vip=vip.name,
            slot=place.slot,
            ring_real=ring_real,
            remembered_real=remembered,
            earlier=tuple(names.get(index, str(index)) for index in place.earlier),
            real=remembered or told or ring_real,
            reason=reason,
        )

    async def datapath(self, _params: Mapping[str, str]) -> views.DatapathView:
        """GET /datapath: the program and its maps, as the kernel tells them."""
        program = self._datapath.program
        return views.DatapathView(
            interface=self._host.edge.interface,
            mode="native",
            program_tag=fd_fact(program.fd, "prog_tag"),
            loaded_at_s=self._started_s,
            pin_dir=self._host.edge.pin_dir,
            maps=tuple(
                views.DatapathMap(
                    name=name,
                    kind=_MAP_KINDS.get(held.shape.type, f"type {held.shape.type}"),
                    entries_max=held.shape.max_entries,
                    bytes=int(fd_fact(held.fd, "memlock") or 0),
                )
                for name, held in sorted(program.maps.items())
            ),
        )

    def _told(self, flow: Flow, vip: Vip, names: Mapping[int, str]) -> str:
        """The real that another edge of the site told of a flow; empty if none did."""
        if self._share is None or not vip.share_flows:
            return ""
        return names.get(self._share.recall(flow_hash(as_memory_sees(flow, vip.options))), "")

    def _vip_rows(self) -> tuple[views.VipRow, ...]:
        agent = self._agent
        fleet_views = self._follower.snapshot.vips
        seats = agent.seats.vips
        counters = self._datapath.vip_counters(seats.values())
        rows: list[views.VipRow] = []
        for health in agent.content().vips:
            vip = agent.fleet.vips[VipName(health.name)]
            here = counters[seats[vip.name]]
            seen = fleet_views.get(vip.name)
            rows.append(
                views.VipRow(
                    name=vip.name,
                    site=vip.site,
                    address=str(vip.address),
                    port=vip.port,
                    protocol=vip.protocol,
                    state=health.state,
                    eligible=seen.eligible if seen is not None else True,
                    reals_up=sum(1 for real in health.reals if real.state in SERVING),
                    reals_total=len(health.reals),
                    packets_per_s=health.packets_per_s,
                    reason=seen.reason if seen is not None else "",
                    packets=here.packets,
                    bytes=here.bytes,
                    dropped=here.dropped,
                    flows_new=here.flows_new,
                    flow_hits=here.flow_hits,
                )
            )
        return tuple(rows)

    def _trouble(self, rows: tuple[views.VipRow, ...]) -> list[str]:
        agent = self._agent
        lines = [f"VIP {row.name} is {row.state}" for row in rows if row.state != VipState.UP]
        for pair, standing in agent.judge.spoken().items():
            if standing.state not in SERVING:
                by = agent.judge.target(pair)
                lines.append(f"{pair[1]} is {standing.state} by {by}: {standing.reason}")
        if agent.judge.doubt:
            lines.append("every check fails and the gateway is silent: the last ring is kept")
        if store := self._store_trouble():
            lines.append(f"store: {store}")
        if self._share is not None and self._share.trouble:
            lines.append(f"flows are not shared: {self._share.trouble}")
        lines += [text for text in _troubles(agent) if text]
        lines += self._announcing.troubles()
        lines += [
            f"VIP {vip.name} is IPv6: checked and published, not forwarded by this program"
            for vip in agent.fleet.vips_of_site(agent.settings.site)
            if vip.address.version == 6
        ]
        return list(dict.fromkeys(lines))

    def _counters(self) -> tuple[views.CounterRow, ...]:
        return tuple(
            views.CounterRow(name=name, packets=counter.packets, bytes=counter.bytes)
            for name, counter in self._datapath.verdicts().items()
        )

    def _store_trouble(self) -> str:
        """Why this edge does not speak, or does not hear: then it is no edge to change under."""
        return self._agent.publisher.trouble or self._follower.store_trouble

    def _vip(self, name: str) -> Vip:
        here = {vip.name: vip for vip in self._agent.fleet.vips_of_site(self._agent.settings.site)}
        found = here.get(VipName(name))
        if found is None:
            raise AdminRefusal(ExitCode.USAGE, f"no VIP `{name}` here; {nearest(name, here)}")
        return found


def _troubles(agent: EdgeAgent) -> tuple[str, ...]:
    return (
        agent.plan_trouble,
        agent.filter.trouble,
        agent.prober.trouble,
        agent.memory_file.trouble,
    )


def distribution_version() -> str:
    """The version of this distribution, or a word that says it was not installed."""
    try:
        return version("waypost")
    except PackageNotFoundError:
        return "unpackaged"


def fd_fact(fd: int, name: str) -> str:
    """One line of what the kernel tells about a BPF descriptor of ours; empty if it does not."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""
