"""What an edge's announcing is, as records: between agent and announcer, and for operators.

Owns the shapes only. The agent fills `AnnounceTold`; the announcer keeps `Announcing` in a file,
which survives both of them, and the agent shows it. Times are Unix seconds.
"""

from __future__ import annotations

from gslb.fleet.views import View

FILE = "announcing.json"  # in the edge's state directory
STALE_S = 5.0  # the announcer looks far more often: an older record means that it is gone


class AnnounceTold(View, frozen=True):
    """GET /announce/told: what the agent knows that the announcer must. Empty fault: sound."""

    addresses: tuple[str, ...]
    drained: bool
    fault: str
    packets: int  # that were forwarded for the site's VIPs
    histories: bool
    schema: str = "waypost/announce-told/1"


class NeighborRow(View, frozen=True):
    """A router, and whether its session is up."""

    address: str
    up: bool
    since_s: float


class Announcing(View, frozen=True):
    """GET /announce: how an edge's VIPs are announced. `boot` is the kernel's id of its boot."""

    edge: str
    boot: str
    at_s: float
    preference: str  # WAITING, ANNOUNCED, STEPPED_BACK, LOWERED, WITHDRAWN
    since_s: float
    reason: str
    addresses: tuple[str, ...]
    drained: bool
    fault: str
    packets_per_s: float  # forwarded; -1 where not known
    neighbors: tuple[NeighborRow, ...]
    schema: str = "waypost/announcing/1"
