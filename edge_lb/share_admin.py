"""What an edge counts of shared flows, as metrics.

Owns their names. Called by `edge_lb.edge_admin` where the store can carry shared flows.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_lb.share import FlowShare
from gslb.service.metrics import Registry, Sample


def serve_share(registry: Registry, share: FlowShare) -> None:
    """Register the metrics of shared flows."""

    def heard() -> Iterator[Sample]:
        outcome = share.outcome
        yield {"outcome": "taken"}, outcome.taken
        yield {"outcome": "renewed"}, outcome.renewed
        yield {"outcome": "outdated"}, outcome.outdated
        yield {"outcome": "refused"}, outcome.refused
        yield {"outcome": "no_room"}, outcome.no_room

    registry.register(
        "edge_shared_flows_told",
        "flows told to the other edges",
        "counter",
        lambda: [({}, float(share.told))],
    )
    registry.register(
        "edge_shared_flows_heard", "flows that other edges told, by what became", "counter", heard
    )
    registry.register(
        "edge_shared_flows_evicted",
        "flows of other edges that gave way to others",
        "counter",
        lambda: [({}, float(share.outcome.evicted))],
    )
    registry.register(
        "edge_shared_flows_forgotten",
        "own flows forgotten because another edge saw them later",
        "counter",
        lambda: [({}, float(share.outcome.forgotten))],
    )
    registry.register(
        "edge_shared_batches_missed",
        "messages of other edges that were gone before they were read",
        "counter",
        lambda: [({}, float(share.batches_missed))],
    )
    registry.register(
        "edge_shared_batches_malformed",
        "messages that were none of an edge",
        "counter",
        lambda: [({}, float(share.malformed))],
    )
    registry.register(
        "edge_shared_flows_held",
        "flows of other edges that can be taken over",
        "gauge",
        lambda: [({}, float(share.held))],
    )
    registry.register(
        "edge_shared_lost",
        "1 while flows are not shared",
        "gauge",
        lambda: [({}, float(bool(share.trouble)))],
    )
