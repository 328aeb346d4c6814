"""The edge's admin seat: what an operator may ask and change, and the metrics.

Owns the routes' handlers and the rule that a drain may not leave a VIP without a serving real,
unless it is forced. It reads the agent and the data plane, and changes only by the agent's verbs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from edge_lb.agent import EdgeAgent
from edge_lb.datapath import Datapath
from edge_lb.edge_plan import EdgePlan
from edge_lb.edge_seen import EdgeSeen
from edge_lb.edge_views import EdgeViews
from edge_lb.filter_admin import serve_filter
from edge_lb.plan import Changes, left_empty
from gslb.fleet import views
from gslb.fleet.config import nearest
from gslb.fleet.health import SERVING
from gslb.fleet.host import EdgeHost
from gslb.fleet.model import Fleet, RealName
from gslb.service import clock
from gslb.service.admin import AdminRefusal, AdminServer
from gslb.service.events import EventLog
from gslb.service.follow import FleetFollower
from gslb.service.lifecycle import ExitCode
from gslb.service.metrics import Registry, Sample

RING_SLOTS_TEXT = "65537"


def serve_edge(
    admin: AdminServer,
    registry: Registry,
    host: EdgeHost,
    agent: EdgeAgent,
    follower: FleetFollower,
    datapath: Datapath,
    events: EventLog,
    reload: Callable[[], None],
    read_fleet: Callable[[], Fleet],
    *,
    started_s: float,
) -> None:
    """Put every route and metric of an edge on its admin server. `started_s` is Unix time."""
    shown = EdgeViews(host, agent, follower, datapath, started_s=started_s)
    verbs = EdgeVerbs(agent, events, reload)
    admin.show("/status", shown.status)
    admin.show("/vips", shown.vips)
    admin.show("/reals", shown.reals)
    admin.show("/drops", shown.drops)
    admin.show("/flow", shown.flow)
    admin.show("/datapath", shown.datapath)
    seen = EdgeSeen(agent, datapath, interface=host.edge.interface)
    admin.show("/trace", seen.trace)
    admin.stream("/capture", "application/x-pcapng", seen.capture)
    admin.show("/plan", EdgePlan(agent, read_fleet).plan)
    admin.change("/real/drain", verbs.drain)
    admin.change("/real/undrain", verbs.undrain)
    admin.change("/reload", verbs.reload)
    serve_filter(admin, registry, agent, events)
    _register(registry, agent, datapath)


class EdgeVerbs:
    """What an operator may change."""

    def __init__(self, agent: EdgeAgent, events: EventLog, reload: Callable[[], None]) -> None:
        self._agent = agent
        self._events = events
        self._reload = reload

    async def drain(self, params: Mapping[str, str]) -> views.Done:
        """No new flows for a real; its old ones stay. Everywhere, by way of the store."""
        agent = self._agent
        name = self._real(params)
        if name in agent.drained:
            return views.Done(message=f"{name} is drained already")
        empty = left_empty(
            agent.fleet,
            agent.settings.site,
            agent.judge.standings(),
            frozenset(agent.drained),
            name,
        )
        if empty and params.get("force", "") not in {"1", "true", "yes"}:
            text = (
                f"draining {name} leaves no serving real for {', '.join(empty)}; force it if meant"
            )
            raise AdminRefusal(ExitCode.UNSAFE, text)
        return await self._tell(name, params, drained=True)

    async def undrain(self, params: Mapping[str, str]) -> views.Done:
        """New flows for a drained real again."""
        name = self._real(params)
        if name not in self._agent.drained:
            return views.Done(message=f"{name} is not drained")
        return await self._tell(name, params, drained=False)

    async def reload(self, _params: Mapping[str, str]) -> views.Done:
        """Read fleet.toml again; a refused one leaves the running configuration."""
        self._reload()
        changes = await self._agent.settle()
        return views.Done(message=f"config {self._agent.fleet.config_hash}: {_told(changes)}")

    async def _tell(
        self, name: RealName, params: Mapping[str, str], *, drained: bool
    ) -> views.Done:
        agent = self._agent
        agent.wills.tell(
            name,
            drained=drained,
            by=params.get("by") or "operator",
            reason=params.get("reason") or "no reason given",
            now_s=clock.unix_s(),
            held=agent.holdings,
        )
        verb = "drain" if drained else "undrain"
        self._events.add(
            f"real.{verb}", real=name, by=params.get("by", ""), reason=params.get("reason", "")
        )
        changes = await agent.settle()
        if agent.plan_trouble:
            raise AdminRefusal(ExitCode.FAILED, f"{verb} of {name} is kept: {agent.plan_trouble}")
        await agent.publisher.beat()
        waiting = any(will.name == name for will in agent.wills.unwritten)
        tail = "; the store is away, the other edges follow when it is back" if waiting else ""
        return views.Done(message=f"{verb} of {name}: {_told(changes)}{tail}")

    def _real(self, params: Mapping[str, str]) -> RealName:
        agent = self._agent
        here = [n for n, real in agent.fleet.reals.items() if real.site == agent.settings.site]
        name = RealName(params.get("name", ""))
        if name not in here:
            text = f"no real `{name}` at site `{agent.settings.site}`; {nearest(name, here)}"
            raise AdminRefusal(ExitCode.USAGE, text)
        return name


def _told(changes: Changes) -> str:
    if not changes:
        return "nothing changes for any flow"
    return "; ".join(
        f"{change.vip}: {change.words}, {change.slots} of {RING_SLOTS_TEXT} slots move"
        for change in changes
    )


def _register(registry: Registry, agent: EdgeAgent, datapath: Datapath) -> None:
    """Metrics, read at scrape time."""

    def verdicts(field: str) -> Callable[[], Iterator[Sample]]:
        def supply() -> Iterator[Sample]:
            for name, counter in datapath.verdicts().items():
                yield {"verdict": name}, getattr(counter, field)

        return supply

    def probes() -> Iterator[Sample]:
        for name, counter in agent.prober.verdicts().items():
            yield {"verdict": name}, counter.packets

    def vips(field: str) -> Callable[[], Iterator[Sample]]:
        def supply() -> Iterator[Sample]:
            counters = datapath.vip_counters(agent.seats.vips.values())
            for name, index in agent.seats.vips.items():
                yield {"vip": name}, getattr(counters[index], field)

        return supply

    def reals(field: str) -> Callable[[], Iterator[Sample]]:
        def supply() -> Iterator[Sample]:
            counters = datapath.real_counters(s.index for s in agent.seats.reals.values())
            for name, seat in agent.seats.reals.items():
                vip, _, real = name.partition("/")
                yield {"vip": vip, "real": real}, getattr(counters[seat.index], field)

        return supply

    def serving() -> Iterator[Sample]:
        for (vip, real), standing in agent.judge.spoken().items():
            yield {"vip": vip, "real": real}, float(standing.state in SERVING)

    def checks() -> Iterator[Sample]:
        yield {"result": "ok"}, agent.checker.passed
        yield {"result": "failed"}, agent.checker.failed

    registry.register(
        "edge_verdict_packets",
        "packets by how they left the program",
        "counter",
        verdicts("packets"),
    )
    registry.register(
        "edge_verdict_bytes", "bytes by how they left the program", "counter", verdicts("bytes")
    )
    registry.register(
        "edge_probe_packets",
        "health probes' packets by how they left the program",
        "counter",
        probes,
    )
    registry.register("edge_vip_packets", "packets for a VIP", "counter", vips("packets"))
    registry.register("edge_vip_bytes", "bytes for a VIP", "counter", vips("bytes"))
    registry.register("edge_vip_dropped", "dropped packets of a VIP", "counter", vips("dropped"))
    registry.register(
        "edge_vip_flows_new", "flows entered into memory", "counter", vips("flows_new")
    )
    registry.register(
        "edge_vip_flow_hits", "packets of remembered flows", "counter", vips("flow_hits")
    )
    registry.register("edge_real_packets", "packets sent to a real", "counter", reals("packets"))
    registry.register("edge_real_bytes", "bytes sent to a real", "counter", reals("bytes"))
    registry.register("edge_real_serving", "1 if a real may get new flows", "gauge", serving)
    registry.register("edge_checks", "health checks by result", "counter", checks)
    registry.register(
        "edge_doubt",
        "1 while every check fails and the gateway does not answer",
        "gauge",
        lambda: [({}, float(agent.judge.doubt))],
    )
    registry.register(
        "edge_store_lost",
        "1 while the store cannot be written",
        "gauge",
        lambda: [({}, float(bool(agent.publisher.trouble)))],
    )
    registry.register(
        "edge_generation",
        "generation of the last report",
        "gauge",
        lambda: [({}, float(agent.publisher.generation))],
    )
