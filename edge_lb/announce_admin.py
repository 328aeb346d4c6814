"""The agent's side of announcing: what it tells the announcer, and what it shows of it.

Owns the routes /announce and /announce/told, the words and troubles of `waypost status`, and the
metrics. The announcer is another process, and its record a file: neither needs the other to live.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from edge_lb.agent import EdgeAgent
from edge_lb.announce import Preference
from edge_lb.datapath import Datapath
from edge_lb.watchdog import Watchdog
from gslb.fleet.announcing import FILE, STALE_S, AnnounceTold, Announcing
from gslb.fleet.host import EdgeHost
from gslb.fleet.model import EdgeName
from gslb.service import clock
from gslb.service.admin import AdminRefusal, AdminServer
from gslb.service.follow import FleetFollower
from gslb.service.lifecycle import ExitCode
from gslb.service.metrics import Registry, Sample

FORWARDED = "FORWARDED_"  # so that who pings a VIP keeps no drain waiting


class AnnounceSeat:
    """What is asked and shown of an edge's announcing; nothing of it without `[bgp]`."""

    def __init__(
        self,
        host: EdgeHost,
        agent: EdgeAgent,
        follower: FleetFollower,
        datapath: Datapath,
        watchdog: Watchdog,
    ) -> None:
        self._host = host
        self._agent = agent
        self._follower = follower
        self._datapath = datapath
        self._watchdog = watchdog
        self._file = Path(host.host.state_dir) / FILE
        self._joined = False  # the store was read, the plan was made of it, and others know of it
        self._first: int | None = None  # the generation of the history of that plan

    def serve(self, admin: AdminServer, registry: Registry) -> None:
        """Put routes and metrics on the admin server."""
        admin.show("/announce", self.announcing)
        admin.show("/announce/told", self.told)
        if self._host.bgp is None:
            return
        registry.register(
            "edge_announce_preference",
            "1 for how the edge's VIPs are announced; none without an announcer",
            "gauge",
            self._preferences,
        )
        registry.register(
            "edge_bgp_session_up", "1 while a router's session is up", "gauge", self._sessions
        )

    async def told(self, _params: Mapping[str, str]) -> AnnounceTold:
        """GET /announce/told"""
        agent = self._agent
        if not self._joined and not self._follower.store_trouble:
            await agent.settle()
            if self._first is None and not agent.plan_trouble:
                self._first = agent.planner.history.generation
            self._joined = self._first is not None and not agent.unheard_by(self._first)
        wanted = {vip.address for vip in agent.fleet.vips_of_site(agent.settings.site)}
        written = {vip.address for vip in agent.plan.vips} if agent.plan is not None else set()
        verdicts = self._datapath.verdicts()
        fault = f"the plan cannot be written: {agent.plan_trouble}" if agent.plan_trouble else ""
        return AnnounceTold(
            addresses=tuple(sorted(map(str, wanted & written))),
            drained=EdgeName(agent.settings.edge) in agent.drained_edges,
            fault=fault or self._watchdog.fault,
            packets=sum(
                counter.packets for name, counter in verdicts.items() if name.startswith(FORWARDED)
            ),
            histories=self._joined,
        )

    async def announcing(self, _params: Mapping[str, str]) -> Announcing:
        """GET /announce"""
        if self._host.bgp is None:
            text = f"{self._host.host.name} announces nothing: its file has no [bgp]"
            raise AdminRefusal(ExitCode.UNSUPPORTED, text)
        record = self._record()
        if record is None:
            text = "no announcer has run here yet; start `waypost announce`"
            raise AdminRefusal(ExitCode.FAILED, text)
        return record

    def words(self) -> str:
        """How the VIPs are announced, in one line; empty without `[bgp]`."""
        if self._host.bgp is None:
            return ""
        record = self._record()
        if record is None:
            return "nothing: no announcer has run here yet"
        up = sum(1 for neighbor in record.neighbors if neighbor.up)
        routers = f"{up} of {len(record.neighbors)} sessions up"
        return f"{record.preference}, {len(record.addresses)} addresses, {routers}: {record.reason}"

    def troubles(self) -> list[str]:
        """What an operator should see to. A drain is nobody's trouble."""
        if self._host.bgp is None:
            return []
        record = self._record()
        if record is None:
            return ["announcing: no announcer has run here yet; start `waypost announce`"]
        age_s = clock.unix_s() - record.at_s
        if age_s > STALE_S:
            return [f"announcing: the announcer is silent for {age_s:.0f} s"]
        lines = [f"BGP: no session with {row.address}" for row in record.neighbors if not row.up]
        if record.preference in (Preference.WAITING, Preference.WITHDRAWN) and not record.drained:
            lines.append(f"VIPs are not announced: {record.reason}")
        return lines

    def _record(self) -> Announcing | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Announcing)
        except (OSError, msgspec.DecodeError):
            return None

    def _preferences(self) -> Iterator[Sample]:
        record = self._record()
        if record is not None and clock.unix_s() - record.at_s <= STALE_S:
            for preference in Preference:
                value = float(preference == record.preference)
                yield {"preference": preference.lower()}, value

    def _sessions(self) -> Iterator[Sample]:
        record = self._record()
        for row in record.neighbors if record is not None else ():
            yield {"neighbor": row.address}, float(row.up)
