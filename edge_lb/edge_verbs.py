"""What an operator may change at an edge: drains of reals and edges, and a reload.

Owns the rule that a drain may not leave a VIP without a serving real, or a site without an edge,
unless it is forced. Called over the admin socket (`edge_lb.edge_admin`); it changes only by way of
the agent, and a will that the store cannot take yet is followed here all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_lb.agent import EdgeAgent
from edge_lb.changes import Changes
from edge_lb.plan import left_empty
from edge_lb.rendezvous import RING_SLOTS
from gslb.fleet import views
from gslb.fleet.config import nearest
from gslb.fleet.health import OverrideKind
from gslb.fleet.model import EdgeName, RealName, VipName
from gslb.service import clock
from gslb.service.admin import AdminRefusal
from gslb.service.events import EventLog
from gslb.service.lifecycle import ExitCode

_YES = frozenset({"1", "true", "yes"})


class EdgeVerbs:
    """What an operator may change."""

    def __init__(self, agent: EdgeAgent, events: EventLog, reload: Callable[[], None]) -> None:
        self._agent = agent
        self._events = events
        self._reload = reload

    async def drain(self, params: Mapping[str, str]) -> views.Done:
        """No new flows for a real; its old ones stay. Everywhere, by way of the store."""
        agent = self._agent
        name = self._real(params)
        if name in agent.drained:
            return views.Done(message=f"{name} is drained already")
        empty = left_empty(
            agent.fleet,
            agent.settings.site,
            agent.judge.standings(),
            frozenset(agent.drained),
            name,
        )
        if empty and params.get("force", "") not in _YES:
            text = (
                f"draining {name} leaves no serving real for {', '.join(empty)}; force it if meant"
            )
            raise AdminRefusal(ExitCode.UNSAFE, text)
        return await self._tell(OverrideKind.REAL, name, params, drained=True)

    async def undrain(self, params: Mapping[str, str]) -> views.Done:
        """New flows for a drained real again."""
        name = self._real(params)
        if name not in self._agent.drained:
            return views.Done(message=f"{name} is not drained")
        return await self._tell(OverrideKind.REAL, name, params, drained=False)

    async def drain_edge(self, params: Mapping[str, str]) -> views.Done:
        """An edge of this site shall leave; the whole site is told by way of the store."""
        agent = self._agent
        name = self._edge(params)
        if name in agent.drained_edges:
            return views.Done(message=f"{name} is drained already")
        left = set(agent.fleet.sites[agent.settings.site].edges) - {name, *agent.drained_edges}
        if not left and params.get("force", "") not in _YES:
            text = f"draining {name} leaves no edge at {agent.settings.site}; force it if meant"
            raise AdminRefusal(ExitCode.UNSAFE, text)
        return await self._tell(OverrideKind.EDGE, name, params, drained=True)

    async def undrain_edge(self, params: Mapping[str, str]) -> views.Done:
        """A drained edge of this site shall take part again."""
        name = self._edge(params)
        if name not in self._agent.drained_edges:
            return views.Done(message=f"{name} is not drained")
        return await self._tell(OverrideKind.EDGE, name, params, drained=False)

    async def reload(self, _params: Mapping[str, str]) -> views.Done:
        """Read fleet.toml again; a refused one leaves the running configuration."""
        self._reload()
        changes = await self._agent.settle()
        told = _told(changes, self._agent.waiting())
        return views.Done(message=f"config {self._agent.fleet.config_hash}: {told}")

    async def _tell(
        self, kind: OverrideKind, name: str, params: Mapping[str, str], *, drained: bool
    ) -> views.Done:
        agent = self._agent
        told = agent.wills.tell(
            kind,
            name,
            drained=drained,
            by=params.get("by") or "operator",
            reason=params.get("reason") or "no reason given",
            now_s=clock.unix_s(),
            held=agent.holdings,
        )
        verb = "drain" if drained else "undrain"
        said = {"by": params.get("by", ""), "reason": params.get("reason", "")}
        self._events.add(f"{kind}.{verb}", **{kind: name}, **said)
        changes = await agent.settle()
        if agent.plan_trouble:
            raise AdminRefusal(ExitCode.FAILED, f"{verb} of {name} is kept: {agent.plan_trouble}")
        await agent.publisher.beat()
        waiting = told in agent.wills.unwritten
        tail = "; the store is away, the other edges follow when it is back" if waiting else ""
        words = _told(changes, agent.waiting() if kind is OverrideKind.REAL else {})
        return views.Done(message=f"{verb} of {name}: {words}{tail}")

    def _real(self, params: Mapping[str, str]) -> RealName:
        agent = self._agent
        here = [n for n, real in agent.fleet.reals.items() if real.site == agent.settings.site]
        name = RealName(params.get("name", ""))
        if name not in here:
            text = f"no real `{name}` at site `{agent.settings.site}`; {nearest(name, here)}"
            raise AdminRefusal(ExitCode.USAGE, text)
        return name

    def _edge(self, params: Mapping[str, str]) -> EdgeName:
        site = self._agent.settings.site
        here = self._agent.fleet.sites[site].edges
        name = EdgeName(params.get("name", ""))
        if name not in here:
            text = f"no edge `{name}` at site `{site}`; {nearest(name, here)}"
            raise AdminRefusal(ExitCode.USAGE, text)
        return name


def _told(changes: Changes, waiting: Mapping[VipName, str]) -> str:
    """What changed for new flows, and what will once it is heard of."""
    lines = [
        f"{change.vip}: {change.words}, {change.slots} of {RING_SLOTS} slots move"
        for change in changes
    ]
    lines += [f"{vip}: {words}" for vip, words in waiting.items()]
    return "; ".join(lines) or "nothing changes for any flow"
