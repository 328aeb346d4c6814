"""The edge's admin seat: what an operator may ask and change, and the metrics.

Owns which route shows or changes what; the views are `edge_lb.edge_views` and its neighbours, the
verbs `edge_lb.edge_verbs`. It reads the agent and the data plane, and changes neither by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edge_lb.agent import EdgeAgent
from edge_lb.announce_admin import AnnounceSeat
from edge_lb.datapath import Datapath
from edge_lb.edge_plan import EdgePlan
from edge_lb.edge_seen import EdgeSeen
from edge_lb.edge_verbs import EdgeVerbs
from edge_lb.edge_views import EdgeViews
from edge_lb.filter_admin import serve_filter
from edge_lb.share import FlowShare
from edge_lb.share_admin import serve_share
from gslb.fleet.health import SERVING
from gslb.fleet.host import EdgeHost
from gslb.fleet.model import Fleet
from gslb.service.admin import AdminServer
from gslb.service.events import EventLog
from gslb.service.follow import FleetFollower
from gslb.service.metrics import Registry, Sample


def serve_edge(
    admin: AdminServer,
    registry: Registry,
    host: EdgeHost,
    agent: EdgeAgent,
    follower: FleetFollower,
    datapath: Datapath,
    events: EventLog,
    announcing: AnnounceSeat,
    reload: Callable[[], None],
    read_fleet: Callable[[], Fleet],
    share: FlowShare | None,
    *,
    started_s: float,
) -> None:
    """Put every route and metric of an edge on its admin server. `started_s` is Unix time."""
    shown = EdgeViews(host, agent, follower, datapath, announcing, share, started_s=started_s)
    verbs = EdgeVerbs(agent, events, reload)
    admin.show("/status", shown.status)
    admin.show("/vips", shown.vips)
    admin.show("/reals", shown.reals)
    admin.show("/drains", shown.drains.drains)
    admin.show("/drops", shown.drops)
    admin.show("/flow", shown.flow)
    admin.show("/datapath", shown.datapath)
    seen = EdgeSeen(agent, datapath, interface=host.edge.interface)
    admin.show("/trace", seen.trace)
    admin.stream("/capture", "application/x-pcapng", seen.capture)
    admin.show("/plan", EdgePlan(agent, read_fleet).plan)
    admin.change("/real/drain", verbs.drain)
    admin.change("/real/undrain", verbs.undrain)
    admin.change("/edge/drain", verbs.drain_edge)
    admin.change("/edge/undrain", verbs.undrain_edge)
    admin.change("/reload", verbs.reload)
    announcing.serve(admin, registry)
    serve_filter(admin, registry, agent, events)
    if share is not None:
        serve_share(registry, share)
    _register(registry, agent, datapath)


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

    def chains(field: str) -> Callable[[], Iterator[Sample]]:
        def supply() -> Iterator[Sample]:
            for count, counter in datapath.chain_counters().items():
                yield {"candidates": str(count)}, getattr(counter, field)

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
    registry.register(
        "edge_chain_packets", "packets with an owner chain", "counter", chains("packets")
    )
    registry.register("edge_chain_bytes", "bytes of owner chains", "counter", chains("bytes"))
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
        "edge_real_reports_malformed",
        "reports of reals that the last look left out",
        "gauge",
        lambda: [({}, float(agent.real_flows.malformed))],
    )
    registry.register(
        "edge_generation",
        "generation of the last report",
        "gauge",
        lambda: [({}, float(agent.publisher.generation))],
    )
    registry.register(
        "edge_history_generation",
        "generation of the newest of the site's histories",
        "gauge",
        lambda: [({}, float(agent.plan.history_generation if agent.plan else 0))],
    )
    registry.register(
        "edge_history_forgotten_turns",
        "turns that a history had no room for",
        "counter",
        lambda: [({}, agent.planner.forgotten)],
    )
    registry.register(
        "edge_changes_waiting",
        "planned changes that are told and not made yet",
        "gauge",
        lambda: [({}, float(len(agent.planner.notices)))],
    )
    registry.register(
        "edge_changes_unheard",
        "planned changes that were made though an edge had not heard of them",
        "counter",
        lambda: [({}, agent.planner.unheard)],
    )
    registry.register(
        "edge_chain_entries",
        "candidates in chains that age will end",
        "gauge",
        lambda: [({"vip": vip}, float(number)) for vip, number in agent.planner.ending.items()],
    )
