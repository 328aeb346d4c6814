"""What an edge says of its VIPs, from what it believes. Pure.

Owns the shape of the content of a report and the rule of when it is new: a state of a VIP or the
set of its serving reals changed. Loads, reasons and SUSPECT ride along on the next beat, so that a
single failed check makes no daemon of the fleet render its answers again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gslb.fleet.health import (
    SERVING,
    Override,
    RealHealth,
    RealState,
    Standing,
    VipHealth,
    VipState,
    vip_state,
)
from gslb.fleet.model import Fleet, RealName, SiteName, VipName

Essence = tuple[str, bool, tuple[tuple[str, VipState, tuple[str, ...]], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Everything of an EdgeReport but its numbers and its lease."""

    config_hash: str
    doubt: bool
    vips: tuple[VipHealth, ...]

    @property
    def essence(self) -> Essence:
        """What makes a new generation when it changes."""
        return (
            self.config_hash,
            self.doubt,
            tuple(
                (vip.name, vip.state, tuple(r.name for r in vip.reals if r.state in SERVING))
                for vip in self.vips
            ),
        )


def content(
    fleet: Fleet,
    site: SiteName,
    standings: Mapping[tuple[VipName, RealName], Standing],
    drained: Mapping[RealName, Override],
    packets_per_s: Mapping[VipName, float],
    *,
    doubt: bool,
) -> Content:
    """The report's content. A drain is laid over the standing, whose reason stays readable."""
    return Content(
        config_hash=fleet.config_hash,
        doubt=doubt,
        vips=tuple(
            _vip(
                vip.name,
                tuple(
                    _real(name, standings.get((vip.name, name), Standing()), drained.get(name))
                    for name in vip.reals
                ),
                packets_per_s.get(vip.name, 0.0),
            )
            for vip in fleet.vips_of_site(site)
        ),
    )


def _vip(name: VipName, reals: tuple[RealHealth, ...], packets_per_s: float) -> VipHealth:
    return VipHealth(
        name=name,
        state=vip_state(reals),
        since_s=max((real.since_s for real in reals), default=0.0),
        reals=reals,
        packets_per_s=packets_per_s,
    )


def _real(name: RealName, standing: Standing, will: Override | None) -> RealHealth:
    if will is None:
        return RealHealth(
            name=name, state=standing.state, since_s=standing.since_s, reason=standing.reason
        )
    return RealHealth(
        name=name,
        state=RealState.DRAINING,
        since_s=will.at_s,
        reason=f"drained by {will.by}: {will.reason}; checks say {standing.state}: "
        f"{standing.reason}",
    )
