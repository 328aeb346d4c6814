"""What the edge believes of its reals: rise and fall, and doubt of itself. Pure.

Owns the step from check results to standings, and the rule of doubt (docs/decisions/0005): when the
newest result of every check of at least two reals is a failure, the edge itself may be cut off.
Until the gateway has been asked, and while it does not answer either, the last belief is kept.
Driven by `edge_lb.checker` and `edge_lb.agent`; time is an argument, in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_lb.plan import Standings
from edge_lb.seats import Seats, seat_name
from gslb.fleet.health import RealState, Standing, step
from gslb.fleet.model import (
    Address,
    Check,
    CheckVia,
    Fleet,
    Real,
    RealName,
    SiteName,
    Vip,
    VipName,
)

DOUBT_REALS_MIN = 2  # one failing real says nothing about the edge


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One real and one check of it, at `address`; `seat` is 0 unless the check takes the tunnel.

    VIPs whose direct checks of a real are equal share the target; through the tunnel every VIP has
    its own, for each may be bound on the real or not.
    """

    real: RealName
    address: Address
    check: Check
    seat: int = 0

    def __str__(self) -> str:
        where = self.check.path if self.check.kind != "tcp" else ""
        way = f" {self.address} by tunnel" if self.check.via is CheckVia.TUNNEL else ""
        return f"{self.check.kind}{way} :{self.check.port}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A target whose state changed."""

    target: Target
    before: RealState
    after: Standing


def targets_of(
    fleet: Fleet, site: SiteName, seats: Seats
) -> dict[tuple[VipName, RealName], Target]:
    """The target of each real behind each VIP of `site`. `seats` must hold every pair."""
    return {
        (vip.name, name): _target(fleet.reals[name], vip, seats)
        for vip in fleet.vips_of_site(site)
        for name in vip.reals
    }


def _target(real: Real, vip: Vip, seats: Seats) -> Target:
    if vip.check.via is CheckVia.DIRECT:
        return Target(real=real.name, address=real.address, check=vip.check)
    seat = seats.reals[seat_name(vip.name, real.name)]
    return Target(real=real.name, address=vip.address, check=vip.check, seat=seat.index)


class Judge:
    """The standings of all targets, newest and believed. `doubt` tells that they may differ."""

    def __init__(
        self,
        targets: Mapping[tuple[VipName, RealName], Target],
        remembered: Mapping[tuple[VipName, RealName], Standing],
    ) -> None:
        self.doubt = False
        self._targets: dict[tuple[VipName, RealName], Target] = {}
        self._newest: dict[Target, Standing] = {}
        self._believed: dict[Target, Standing] = {}
        self._failing: dict[Target, bool] = {}
        self.retarget(targets, remembered)

    def retarget(
        self,
        targets: Mapping[tuple[VipName, RealName], Target],
        remembered: Mapping[tuple[VipName, RealName], Standing] | None = None,
    ) -> None:
        """Judge these targets from now on; what is known of a target is kept."""
        known = remembered or {}
        start = {target: known.get(pair, Standing()) for pair, target in targets.items()}
        self._targets = dict(targets)
        self._newest = {target: self._newest.get(target, start[target]) for target in start}
        self._believed = {target: self._believed.get(target, start[target]) for target in start}
        self._failing = {t: failed for t, failed in self._failing.items() if t in start}

    @property
    def targets(self) -> Iterable[Target]:
        """Every target, once."""
        return tuple(self._newest)

    def target(self, pair: tuple[VipName, RealName]) -> Target:
        """The target of a VIP and a real behind it."""
        return self._targets[pair]

    def observe(self, target: Target, *, ok: bool, reason: str, now_s: float) -> Transition | None:
        """Take one result; the transition if the state changed. A target that left is ignored."""
        before = self._newest.get(target)
        if before is None:
            return None
        check = target.check
        after = step(before, ok=ok, reason=reason, rise=check.rise, fall=check.fall, now_s=now_s)
        self._newest[target] = after
        self._failing[target] = not ok
        if after.state is before.state:
            return None
        return Transition(target=target, before=before.state, after=after)

    @property
    def all_failing(self) -> bool:
        """Whether the newest result of every target failed, over at least two reals."""
        reals = {target.real for target in self._newest}
        return len(reals) >= DOUBT_REALS_MIN and all(
            self._failing.get(target, False) for target in self._newest
        )

    def believe(self, *, doubt: bool) -> None:
        """Take the newest standings as true, unless the edge doubts itself.

        What failed during a doubt is no evidence: when it ends, counting starts again from the last
        belief, so that the return of the edge's own link does not empty a ring.
        """
        if doubt:
            self.doubt = True
        elif self.doubt:
            self.doubt = False
            self._newest = dict(self._believed)
            self._failing.clear()
        else:
            self._believed = dict(self._newest)

    def spoken(self) -> dict[tuple[VipName, RealName], Standing]:
        """What is reported: the belief, but in doubt what the checks say, marked as doubted."""
        source = self._newest if self.doubt else self._believed
        return {pair: source[target] for pair, target in self._targets.items()}

    def believed(self) -> dict[tuple[VipName, RealName], Standing]:
        """What the plan is made of, and what is kept over a restart."""
        return {pair: self._believed[target] for pair, target in self._targets.items()}

    def standings(self) -> Standings:
        """The believed states, for the plan."""
        return {pair: self._believed[target].state for pair, target in self._targets.items()}

    def since(self) -> dict[tuple[VipName, RealName], float]:
        """Since when each is in its believed state."""
        return {pair: self._believed[target].since_s for pair, target in self._targets.items()}
