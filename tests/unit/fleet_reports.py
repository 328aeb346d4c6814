"""Reports and wills about the small fleet, in a few words each."""

from __future__ import annotations

from gslb.fleet.health import (
    EdgeReport,
    Override,
    OverrideKind,
    RealHealth,
    RealState,
    VipHealth,
    VipState,
)


def report(
    edge: str,
    states: dict[str, VipState],
    *,
    site: str = "fra",
    generation: int = 1,
    sequence: int = 1,
    lease_s: float = 5.0,
    doubt: bool = False,
    packets_per_s: float = 0.0,
) -> EdgeReport:
    """What `edge` says of each VIP; the reals of a serving VIP are one up, one down."""
    reals = (
        RealHealth(name="web1", state=RealState.UP, since_s=0.0, reason=""),
        RealHealth(name="web2", state=RealState.DOWN, since_s=0.0, reason=""),
    )
    serving = {VipState.UP, VipState.DEGRADED}
    return EdgeReport(
        site=site,
        edge=edge,
        config_hash="0123456789ab",
        generation=generation,
        sequence=sequence,
        observed_at_s=0.0,
        lease_s=lease_s,
        doubt=doubt,
        vips=tuple(
            VipHealth(
                name=name,
                state=state,
                since_s=0.0,
                reals=reals if state in serving else reals[1:],
                packets_per_s=packets_per_s,
            )
            for name, state in states.items()
        ),
    )


def drain(kind: OverrideKind, name: str, *, drained: bool = True, generation: int = 1) -> Override:
    """An operator's will."""
    return Override(
        kind=kind,
        name=name,
        drained=drained,
        by="anna",
        reason="kernel upgrade",
        at_s=0.0,
        generation=generation,
    )
