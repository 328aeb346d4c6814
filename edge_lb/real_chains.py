"""What a real knows of owner chains, for operators: how deep flows are found, edges, peers.

Owns the reading of those counters into views and metrics. Called by `edge_lb.real_agent`. It
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edge_lb.nexthop import NextHops
from edge_lb.peers import peers_of
from edge_lb.plan import NextHop
from edge_lb.unwrap import Unwrapper
from gslb.fleet import views
from gslb.fleet.model import Fleet, RealName
from gslb.service.metrics import Registry, Sample

RECENT_S = 60.0  # an edge that was silent for longer no longer counts as one that disagrees


def chain_view(
    unwrapper: Unwrapper, fleet: Fleet, name: RealName, ways: NextHops, now_s: float
) -> views.Chains | None:
    """All of it; None while no program is loaded. `now_s` is of the monotonic clock."""
    if not unwrapper.is_open:
        return None
    edges = tuple(
        views.EdgeHeard(
            address=str(heard.address),
            generation=heard.generation,
            packets=heard.packets,
            age_s=round(max(0.0, now_s - heard.seen_s), 1),
        )
        for heard in unwrapper.heard()
    )
    recent = {edge.generation for edge in edges if edge.age_s <= RECENT_S}
    wanted = peers_of(fleet, name)
    return views.Chains(
        found=tuple(counter.packets for counter in unwrapper.depths()),
        edges=edges,
        edges_agree=len(recent) <= 1,
        peers=tuple(
            views.PeerRow(
                name=real.name,
                address=str(real.address),
                way=_words(ways.hops.get(real.address)),
            )
            for real in fleet.reals.values()
            if real.address in wanted
        ),
    )


def register_chains(registry: Registry, unwrapper: Unwrapper) -> None:
    """The metrics."""

    def found() -> Iterator[Sample]:
        for depth, counter in enumerate(unwrapper.depths()):
            yield {"depth": str(depth)}, counter.packets

    def generations() -> Iterable[Sample]:
        return [({"edge": str(one.address)}, one.generation) for one in unwrapper.heard()]

    def packets() -> Iterable[Sample]:
        return [({"edge": str(one.address)}, one.packets) for one in unwrapper.heard()]

    registry.register(
        "real_owner_found_packets",
        "packets with an owner chain whose flow was found here",
        "counter",
        found,
    )
    registry.register(
        "real_edge_chain_packets", "packets that an edge sent with a chain", "counter", packets
    )
    registry.register(
        "real_edge_generation",
        "generation of the site's history that an edge's last chain told, 32 bits of it",
        "gauge",
        generations,
    )


def _words(hop: NextHop | None) -> str:
    return f"{hop.destination.hex(':')} by interface {hop.ifindex}" if hop else ""
