"""The load on each VIP, from the data plane's counters: packets a second between two looks.

Owns the last look. Used by `edge_lb.agent` at every beat; no state survives a restart.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_lb.datapath import Datapath
from edge_lb.seats import Seats
from gslb.fleet.model import Vip, VipName
from gslb.service import clock

SPAN_MIN_S = 0.2  # looks closer than this answer with the last rates: they would be noise


class LoadMeter:
    """Rates of VIPs."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self._looked_s = 0.0
        self._packets: dict[VipName, int] = {}
        self._rates: dict[VipName, float] = {}

    def rates(self, vips: Iterable[Vip], seats: Seats) -> dict[VipName, float]:
        """Packets a second of each VIP since the last look; 0 at a VIP's first one."""
        now_s = clock.monotonic_s()
        span_s = now_s - self._looked_s
        if span_s < SPAN_MIN_S:
            return self._rates
        indexes = {vip.name: seats.vips[vip.name] for vip in vips}
        counters = self._datapath.vip_counters(indexes.values())
        packets = {name: counters[index].packets for name, index in indexes.items()}
        self._rates = {
            name: max(0.0, round((total - self._packets.get(name, total)) / span_s, 1))
            for name, total in packets.items()
        }
        self._packets, self._looked_s = packets, now_s
        return self._rates
