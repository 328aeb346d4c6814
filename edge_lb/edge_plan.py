"""GET /plan of an edge: what a change would do to flows, before anybody makes it.

Owns the route's parameters and its view; `edge_lb.forecast` does the comparing. Shows only: neither
the agent nor a map is touched, and fleet.toml is read from the disk without being adopted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from edge_lb.agent import EdgeAgent
from edge_lb.chaining import words_of
from edge_lb.forecast import Situation, VipForecast, forecast
from edge_lb.outlook import Outlook
from edge_lb.rendezvous import RING_SLOTS, WEIGHT_MAX
from gslb.fleet import views
from gslb.fleet.config import nearest
from gslb.fleet.model import Fleet, RealName
from gslb.service import clock
from gslb.service.admin import AdminRefusal
from gslb.service.lifecycle import ExitCode


class EdgePlan:
    """The route. `read_fleet` reads the configuration on disk, and raises ConfigError."""

    def __init__(self, agent: EdgeAgent, read_fleet: Callable[[], Fleet]) -> None:
        self._agent = agent
        self._read_fleet = read_fleet

    async def plan(self, params: Mapping[str, str]) -> views.PlanView:
        """GET /plan[?drain=REAL,...&down=REAL,...&weight=REAL=N,...]; without any, a reload."""
        agent = self._agent
        before = Situation(
            fleet=agent.fleet,
            standings=agent.judge.standings(),
            drained=frozenset(agent.drained),
        )
        if unknown := set(params) - {"drain", "down", "weight"}:
            raise AdminRefusal(ExitCode.USAGE, f"plan: unknown parameter `{min(unknown)}`")
        subject, after = await self._after(before, params)
        site, seats = agent.settings.site, agent.seats
        outlook = await self._outlook()
        found = await asyncio.to_thread(forecast, site, seats, before, after, outlook)
        names = {
            vip.name for fleet in (before.fleet, after.fleet) for vip in fleet.vips_of_site(site)
        }
        return _view(subject, found, len(names))

    async def _outlook(self) -> Outlook:
        """What is known of the past, and what reals say of their flows at this moment."""
        planner, flows = self._agent.planner, self._agent.real_flows
        await flows.look()
        now_s = clock.monotonic_s()
        fresh = (one for one in flows.reports if flows.fresh(one.real, now_s) is not None)
        return Outlook(
            past=planner.past,
            own=planner.history,
            live=words_of(tuple(fresh)),
            weights=planner.weights,
            now_s=clock.unix_s(),
        )

    async def _after(self, before: Situation, params: Mapping[str, str]) -> tuple[str, Situation]:
        said: list[str] = []
        after = before
        for name in _listed(params, "drain"):
            after = after.with_drained(self._real(name))
            said.append(f"drain {name}")
        for name in _listed(params, "down"):
            after = after.with_down(self._real(name))
            said.append(f"{name} down")
        for pair in _listed(params, "weight"):
            name, _, number = pair.partition("=")
            if not number.isdecimal() or int(number) > WEIGHT_MAX:
                raise AdminRefusal(ExitCode.USAGE, f"weight: `{pair}` is not like REAL=100")
            after = after.with_weight(self._real(name), int(number))
            said.append(f"{name} weight {number}")
        if said:
            return ", ".join(said), after
        fleet = await asyncio.to_thread(self._read_fleet)
        subject = f"fleet.toml {before.fleet.config_hash} -> {fleet.config_hash}"
        return subject, Situation(fleet=fleet, standings=before.standings, drained=before.drained)

    def _real(self, name: str) -> RealName:
        agent = self._agent
        here = [n for n, real in agent.fleet.reals.items() if real.site == agent.settings.site]
        if name not in here:
            text = f"no real `{name}` at site `{agent.settings.site}`; {nearest(name, here)}"
            raise AdminRefusal(ExitCode.USAGE, text)
        return RealName(name)


def _listed(params: Mapping[str, str], key: str) -> list[str]:
    return [word for word in params.get(key, "").split(",") if word]


def _view(subject: str, found: tuple[VipForecast, ...], vips: int) -> views.PlanView:
    total = vips * RING_SLOTS
    moved = sum(one.slots for one in found)
    flows = [one.flows for one in found]
    return views.PlanView(
        subject=subject,
        slots=moved,
        slots_total=total,
        share=moved / total if total else 0.0,
        flows=sum(known for known in flows if known is not None) if None not in flows else -1,
        vips=tuple(
            views.PlanRow(
                vip=one.vip,
                slots=one.slots,
                share=one.slots / RING_SLOTS,
                flows=one.flows if one.flows is not None else -1,
                chains_grow=one.chains.grown,
                chains_full=one.chains.full,
                chain_ends=tuple(
                    views.ChainEnd(at_s=at_s, entries=entries) for at_s, entries in one.chains.ends
                ),
                emptied=one.emptied,
                change=one.words,
            )
            for one in found
        ),
    )
