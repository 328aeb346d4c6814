"""Whether a run's choices are those of the code that edges run: its hash, its slots, its chains.

Owns the asking of `edge_lb.flow`, `edge_lb.rings` and `edge_lb.owners` about a run. Called by the
bench before it measures, and by tests.
"""

from __future__ import annotations

from array import array

import numpy as np

from edge_lb.flow import slot
from edge_lb.owners import Told, alive, chain, eras, lines_of
from edge_lb.rings import Rings, weights_of
from gslb.fleet.history import VipFlows, pack_slots

from .owner_chains import OwnerChains
from .systems import System
from .tables import RING_SLOTS, VIP_NAME, Servers, name_of
from .traffic import Connections

FLOWS_MAX = 255  # that a report tells of one slot


def reference_ring(servers: Servers) -> np.ndarray:
    """The ring of the serving, slot by slot as an edge plans it."""
    weights = weights_of(servers.members())
    servers_by_name = {name_of(server): server for server in range(1, len(servers.serving))}
    shape = Rings().shape(weights)
    return np.array([servers_by_name[weights[position - 1][0]] for position in shape], np.uint16)


def wrong_choices(system: System, sample: np.ndarray) -> int:
    """Of these flows, how many a system gives to another server than an edge's ring does."""
    flows: Connections = system.flows
    ring = reference_ring(system.servers)
    wanted = [int(ring[slot(flows.flow(int(number)))]) for number in sample]
    return int((system.place(sample) != np.array(wanted)).sum())


def wrong_chains(system: OwnerChains, now_s: float) -> int:
    """Slots whose chain is not what `edge_lb.owners` finds; the system learnt at `now_s`."""
    servers, width = system.servers, system.depth + 1
    present = weights_of(servers.members())
    history = eras(lines_of({"edge1": servers.history})[VIP_NAME])
    found = chain(
        array("H", servers.ring.tobytes()),
        alive(history, present, now_s=now_s, age_s=servers.age_s),
        {name_of(server): server for server in range(1, len(servers.serving))},
        depth=system.depth,
        age_s=servers.age_s,
        rings=Rings(),
        down=frozenset(name_of(int(server)) for server in np.flatnonzero(servers.down)),
        told=reports(system, now_s),
        width=width,
    ).slots
    wide = np.zeros((RING_SLOTS, width), np.uint16)
    wide[:, 0] = servers.ring
    if found is not None:
        wide = np.frombuffer(found, np.uint16).reshape(RING_SLOTS, width)
    return int((system.chains() != wide).any(axis=1).sum())


def reports(system: System, now_s: float) -> dict[str, Told]:
    """What every real that is up tells of the flows it holds."""
    live = system.flows.live
    live = live[system.home[live] != 0]
    home = system.home[live].astype(np.int64)
    size = len(system.servers.serving) * RING_SLOTS
    counts = np.bincount(home * RING_SLOTS + system.flows.slot[live], minlength=size)
    by_server = np.minimum(counts, FLOWS_MAX).astype(np.uint8).reshape(-1, RING_SLOTS)
    return {
        name_of(server): Told(
            observed_at_s=now_s,
            flows=VipFlows(
                vip=VIP_NAME,
                flows=int(by_server[server].sum()),
                oldest_s=None,
                slots=pack_slots(by_server[server].tobytes()),
            ),
        )
        for server in range(1, len(by_server))
        if not system.servers.down[server]
    }
