"""The drains of a site as an operator sees them: who drained what, and what is left there.

Owns the filling of `gslb.fleet.views.DrainRow`; `edge_lb.real_flows` says what is quiet. Shows
only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from edge_lb.agent import EdgeAgent
from gslb.fleet import views
from gslb.fleet.health import Override
from gslb.fleet.model import RealName
from gslb.service import clock

NOT_COUNTED = "not counted: the real's agent reports nothing"


class EdgeDrains:
    """The GET route of drains, and its rows for other views."""

    def __init__(self, agent: EdgeAgent) -> None:
        self._agent = agent

    async def drains(self, _params: Mapping[str, str]) -> views.Drains:
        """GET /drains"""
        return views.Drains(drains=self.rows())

    def rows(self) -> tuple[views.DrainRow, ...]:
        """Every drained real of this site."""
        agent = self._agent
        return tuple(
            self._row(name, will)
            for name, will in agent.drained.items()
            if agent.fleet.reals[name].site == agent.settings.site
        )

    def _row(self, name: RealName, will: Override) -> views.DrainRow:
        agent, heard = self._agent, self._agent.real_flows
        held = heard.fresh(name, clock.monotonic_s())
        quiet_s = heard.quiet_since(will)
        flows, oldest_s, quiet_since_s = -1, 0.0, 0.0
        waits = [words for vip, words in agent.waiting().items() if agent.leaves(vip, name)]
        if waits:
            words = waits[0]
        elif quiet_s is not None:
            flows, quiet_since_s = 0, quiet_s
            words = f"quiet since {_instant(quiet_s)}"
        elif held is None:
            words = NOT_COUNTED
        elif not held.is_counted(heard.effective_s(will)):
            words = "counting"
        else:
            flows, oldest_s = held.flows, held.oldest_s or 0.0
            words = f"{flows} flow{'s'[: flows > 1]} left"
        return views.DrainRow(
            name=name,
            by=will.by,
            reason=will.reason,
            at_s=will.at_s,
            flows=flows,
            oldest_s=oldest_s,
            quiet_since_s=quiet_since_s,
            words=words,
        )


def _instant(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
