"""The daemon on a real server: its VIPs as addresses, silence about them, and the tunnel's end.

Owns `python -m edge_lb real`. A stop leaves everything working, so that a restart drops no
connection; `undo` removes the addresses, the kernel settings, the programs and their pins, and
nothing that was there before. It needs no store to serve: fleet.toml says which VIPs name this
real. What hinders only the counting of VIPs or of flows is told, and hinders nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pyroute2.netlink.exceptions import NetlinkError

from bpf.errors import BpfError
from edge_lb.binding import Binding, vips_of_real
from edge_lb.census_taker import CensusTaker, register_census
from edge_lb.edge_views import distribution_version
from edge_lb.namespaces import namespace_ids
from edge_lb.nexthop import NextHops
from edge_lb.peers import peers_of
from edge_lb.real_chains import chain_view, register_chains
from edge_lb.refusals import need_interface, need_root, translated
from edge_lb.sysctls import Sysctls, real_wanted
from edge_lb.unwrap import Unwrapper
from edge_lb.vip_traffic import UNKNOWN, VipTraffic, register_traffic
from gslb.fleet import views
from gslb.fleet.config import ConfigError, Fault, load_fleet, nearest
from gslb.fleet.host import RealHost, fleet_path, load_host
from gslb.fleet.model import Address, Encap, Fleet, Real, RealName
from gslb.service import clock, log
from gslb.service.admin import AdminRefusal, AdminServer
from gslb.service.events import EventLog
from gslb.service.lifecycle import ExitCode, Refused, hold_lock, live
from gslb.service.metrics import Registry, Sample
from gslb.service.stores import open_store

ROLE = "real"
LOOK_S = 5.0  # how soon an address that someone removed is bound again


def load_real(path: Path) -> tuple[RealHost, Fleet]:
    """The host file and its fleet. ConfigError if the fleet does not know this real."""
    host = load_host(path, RealHost)
    fleet = load_fleet(fleet_path(path, host.host))
    if RealName(host.real.name) not in fleet.reals:
        advice = nearest(host.real.name, fleet.reals)
        fault = Fault(str(path), "$.real.name", f"no real `{host.real.name}` in the fleet", advice)
        raise ConfigError([fault])
    return host, fleet


def check_real(path: Path) -> int:
    """Check the configuration and say so."""
    host, fleet = load_real(path)
    count = len(vips_of_real(fleet, RealName(host.real.name)))
    sys.stdout.write(f"{path}: good; fleet {fleet.config_hash}, {count} VIP addresses here\n")
    return ExitCode.DONE


def undo_real(path: Path) -> int:
    """Remove everything that a start of this daemon made."""
    host = load_host(path, RealHost)
    need_root("undoing a real")
    state_dir = Path(host.host.state_dir)
    with hold_lock(state_dir, ROLE), translated():
        removed = Binding(host.real.vip_interface, state_dir).undo()
        unloaded = Unwrapper(host.real.interface, Path(host.real.pin_dir)).unload()
        unloaded |= VipTraffic(host.real.interface, Path(host.real.pin_dir)).unload()
        restored = Sysctls(state_dir).restore()
    what = "program and pins removed" if unloaded else "no program was loaded"
    sys.stdout.write(
        f"{host.real.name}: {len(removed)} VIP addresses removed, {what}, "
        f"{len(restored)} kernel settings put back\n"
    )
    return ExitCode.DONE


def run_real(path: Path) -> int:
    """Be the real's agent until SIGTERM."""
    host, fleet = load_real(path)
    log.setup(ROLE, host.host.log_level)
    need_root("a real's agent")
    need_interface(host.real.interface, "$.real.interface")
    if host.real.vip_interface:
        need_interface(host.real.vip_interface, "$.real.vip_interface")
    with hold_lock(Path(host.host.state_dir), ROLE):
        agent = RealAgent(path, host, fleet)
        try:
            agent.start()
            asyncio.run(_live(host, agent))
        finally:
            agent.close()
    return ExitCode.DONE


class RealAgent:
    """Keeps one real ready for its VIPs; a Part, and `next_hops` too. `start` before `run`."""

    def __init__(self, path: Path, host: RealHost, fleet: Fleet) -> None:
        state_dir = Path(host.host.state_dir)
        self.host = host
        self.fleet = fleet
        self.events = EventLog()
        self.adopted_at_s = clock.unix_s()
        self.trouble = ""
        self.unwrapper = Unwrapper(host.real.interface, Path(host.real.pin_dir))
        self.traffic = VipTraffic(host.real.interface, Path(host.real.pin_dir))
        self.uncounted = ""  # why VIPs are not counted
        self.store = open_store(host.store) if host.store is not None else None
        self.census = CensusTaker(
            RealName(host.real.name),
            lambda: self.fleet,
            self.store,
            self.events,
            namespaces=host.real.socket_namespaces,
        )
        self.namespaces: dict[str, int] = {}  # of containers, by path: those that are there
        self._path = path
        self._started_s = clock.unix_s()
        self._sysctls = Sysctls(state_dir)
        self._binding = Binding(host.real.vip_interface, state_dir)
        self._wake = asyncio.Event()
        self._settling = asyncio.Lock()
        self.next_hops = NextHops(self._wake.set)

    @property
    def real(self) -> Real:
        """This real, as the fleet knows it."""
        return self.fleet.reals[RealName(self.host.real.name)]

    def start(self) -> None:
        """Silence first: an address that is bound before would be told by ARP. Raises Refused."""
        for setting, how in self._sysctls.set(real_wanted(self.host.real.interface)).items():
            log.get().info("sysctl.changed", setting=f"net/{setting}", value=how)
        vips = vips_of_real(self.fleet, self.real.name)
        self._binding.bind(vips)
        self.next_hops.want(peers_of(self.fleet, self.real.name))
        with suppress(NetlinkError, OSError):  # it follows the kernel as soon as it runs
            self.next_hops.refresh()
        with suppress(OSError):  # `settle` asks again, and tells what hinders
            self.namespaces = namespace_ids(self.host.real.socket_namespaces)
        self._attach(vips)
        self._count(vips)
        self.events.add("real.started", real=self.real.name, vips=str(len(vips)))

    async def run(self) -> None:
        """Settle after a reload or a change of ways, and look now and then; until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            self._wake.clear()
            await self.settle()

    async def settle(self) -> None:
        """Make it so; a failure is told, kept in mind and tried again."""
        async with self._settling:
            vips = vips_of_real(self.fleet, self.real.name)
            try:
                # In a thread of its own: netlink's library runs an event loop of its own.
                change = await asyncio.to_thread(self._binding.bind, vips)
                paths = self.host.real.socket_namespaces
                self.namespaces = await asyncio.to_thread(namespace_ids, paths)
                self._attach(vips)
                await asyncio.to_thread(self._count, vips)
            except (Refused, OSError) as error:
                if not self.trouble:
                    self.events.add("binding.failed", reason=str(error))
                self.trouble = str(error)
                return
            self.trouble = ""
            for address in change.added:
                self.events.add("vip.bound", address=str(address))
            for address in change.removed:
                self.events.add("vip.unbound", address=str(address))

    def reload(self) -> None:
        """Read fleet.toml again, for `settle`; ConfigError leaves everything as it runs."""
        host, fleet = load_real(self._path)
        if host != self.host:
            self.events.add("config.needs_restart", file=str(self._path))
        self.fleet = fleet
        self.adopted_at_s = clock.unix_s()
        self.next_hops.want(peers_of(fleet, self.real.name))
        self.events.add("config.reloaded", config_hash=fleet.config_hash)
        self._wake.set()

    def close(self) -> None:
        """Give back descriptors; the real goes on serving."""
        self.unwrapper.close()
        self.traffic.close()

    async def show_status(self, _params: Mapping[str, str]) -> views.Status:
        """GET /status"""
        store = f"store: {self.census.store_trouble}" if self.census.store_trouble else ""
        trouble = tuple(text for text in (self.trouble, store) if text)
        return views.Status(
            role=ROLE,
            host=self.host.host.name,
            site=self.real.site,
            version=distribution_version(),
            generation=0,
            config_hash=self.fleet.config_hash,
            config_at_s=self.adopted_at_s,
            store=self.census.store_words,
            uptime_s=round(clock.unix_s() - self._started_s, 1),
            well=not trouble,
            trouble=trouble,
            vips=tuple(self._vip_rows()),
            counters=self._counters(),
            datapath=self._datapath_words(),
            chains=chain_view(
                self.unwrapper, self.fleet, self.real.name, self.next_hops, clock.monotonic_s()
            ),
            namespaces=tuple(
                path if path in self.namespaces else f"{path} (not there)"
                for path in self.host.real.socket_namespaces
            ),
        )

    async def show_vips(self, _params: Mapping[str, str]) -> views.VipList:
        """GET /vips: those that are bound here."""
        return views.VipList(vips=tuple(self._vip_rows()), generation=0)

    async def show_drops(self, _params: Mapping[str, str]) -> views.Drops:
        """GET /drops: every verdict of the tunnel's end."""
        return views.Drops(counters=self._counters(), unit="packets")

    async def change_reload(self, _params: Mapping[str, str]) -> views.Done:
        """POST /reload"""
        self.reload()
        await self.settle()
        if self.trouble:
            raise AdminRefusal(ExitCode.FAILED, self.trouble)
        vips = vips_of_real(self.fleet, self.real.name)
        text = f"config {self.fleet.config_hash}: {len(vips)} VIP addresses bound"
        return views.Done(message=text)

    def packets(self) -> Iterator[Sample]:
        """Packets by verdict, for the metrics."""
        for name, counter in self.unwrapper.verdicts().items():
            yield {"verdict": name}, counter.packets

    def octets(self) -> Iterator[Sample]:
        """Bytes by verdict, for the metrics."""
        for name, counter in self.unwrapper.verdicts().items():
            yield {"verdict": name}, counter.bytes

    def _count(self, vips: Sequence[Address]) -> None:
        """Count what each VIP receives and sends; a real that cannot still serves."""
        try:
            self.traffic.apply(vips)
        except (BpfError, OSError) as error:
            if not self.uncounted:
                log.get().warning("traffic.not_counted", reason=str(error))
            self.uncounted = str(error)
        else:
            self.uncounted = ""

    def _attach(self, vips: Sequence[Address]) -> None:
        """The program and its maps, or none of it where edges deliver by MAC address."""
        with translated():
            if set(self.fleet.encaps_of(self.real.name)) - {Encap.L2}:
                if not self.unwrapper.is_open:
                    self.unwrapper.open()
                self.unwrapper.apply([self.real.address], vips)
                peers = peers_of(self.fleet, self.real.name)
                self.unwrapper.lead(peers, self.next_hops.hops, self.next_hops.vlans)
                self.unwrapper.look_into(self.namespaces.values())
            elif self.unwrapper.unload():
                self.events.add("tunnel.removed", real=self.real.name)

    def _vip_rows(self) -> Iterator[views.VipRow]:
        counted = self.traffic.totals()
        for vip in self.fleet.vips.values():
            if self.real.name in vip.reals:
                traffic = counted.get(vip.address, UNKNOWN)
                held = self.census.flows.get(vip.name)
                yield views.VipRow(
                    name=vip.name,
                    site=vip.site,
                    address=str(vip.address),
                    port=vip.port,
                    protocol=vip.protocol,
                    state="BOUND" if self.host.real.vip_interface else "ROUTED",
                    eligible=not self.trouble,
                    reals_up=1,
                    reals_total=1,
                    packets_per_s=0.0,
                    reason=self._where_words(),
                    received_packets=traffic.received.packets,
                    received_bytes=traffic.received.bytes,
                    sent_packets=traffic.sent.packets,
                    sent_bytes=traffic.sent.bytes,
                    flows=held.flows if held is not None else -1,
                    oldest_s=(held.oldest_s or 0.0) if held is not None else 0.0,
                )

    def _where_words(self) -> str:
        interface = self.host.real.vip_interface
        return f"bound on {interface}" if interface else "not bound: the host routes it"

    def _counters(self) -> tuple[views.CounterRow, ...]:
        return tuple(
            views.CounterRow(name=name, packets=counter.packets, bytes=counter.bytes)
            for name, counter in self.unwrapper.verdicts().items()
        )

    def _datapath_words(self) -> str:
        words = "l2: nothing to unwrap"
        if self.unwrapper.is_open:
            words = f"unwraps GUE and IPIP on {self.host.real.interface}, xdp native"
        if self.uncounted:
            words = f"{words}; VIPs are not counted: {self.uncounted}"
        if self.census.trouble:
            words = f"{words}; flows are not counted: {self.census.trouble}"
        return words


async def _live(host: RealHost, agent: RealAgent) -> None:
    registry = Registry()
    registry.register(
        "real_verdict_packets", "packets by how they left the program", "counter", agent.packets
    )
    registry.register(
        "real_verdict_bytes", "bytes by how they left the program", "counter", agent.octets
    )
    register_chains(registry, agent.unwrapper)
    register_traffic(registry, agent.traffic)
    register_census(registry, agent.census)
    admin = AdminServer(Path(host.host.admin_socket), agent.events, registry)
    admin.show("/status", agent.show_status)
    admin.show("/vips", agent.show_vips)
    admin.show("/drops", agent.show_drops)
    admin.change("/reload", agent.change_reload)
    try:
        await live([admin, agent, agent.next_hops, agent.census], reload=agent.reload)
    finally:
        if agent.store is not None:
            await agent.store.close()
