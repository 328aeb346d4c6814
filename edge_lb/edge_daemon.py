"""The edge's daemon as a process: configuration, start, reload, stop, and undoing all of it.

Owns `python -m edge_lb agent`. The order matters: everything that can be refused is refused before
anything is changed. A stop leaves the pinned program forwarding; `undo` takes it off.
"""

from __future__ import annotations

import asyncio
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from random import Random

from bpf import program
from edge_lb import prober
from edge_lb.agent import EdgeAgent, EdgeSettings
from edge_lb.announce_admin import AnnounceSeat
from edge_lb.datapath import Datapath
from edge_lb.edge_admin import serve_edge
from edge_lb.filter import capacity_faults as filter_capacity_faults
from edge_lb.gateway import Gateway
from edge_lb.memory import MemoryFile
from edge_lb.prober import Prober
from edge_lb.refusals import need_interface, need_root, translated
from edge_lb.seats import capacity_faults
from edge_lb.share import FlowShare, ShareSettings
from edge_lb.sysctls import Sysctls, edge_wanted
from edge_lb.watchdog import Watchdog
from gslb.fleet.config import ConfigError, Fault, load_fleet, nearest
from gslb.fleet.host import EdgeHost, StoreKind, fleet_path, load_host
from gslb.fleet.model import EdgeName, Encap, Fleet, SiteName
from gslb.service import clock, log
from gslb.service.admin import AdminServer
from gslb.service.events import EventLog
from gslb.service.follow import FleetFollower
from gslb.service.lifecycle import ExitCode, Part, hold_lock, live
from gslb.service.metrics import Registry
from gslb.service.stores import open_flow_stream, open_store

ROLE = "edge"


def load_edge(path: Path) -> tuple[EdgeHost, Fleet]:
    """The host file and its fleet. ConfigError with every fault, also of one against the other."""
    host = load_host(path, EdgeHost)
    fleet = load_fleet(fleet_path(path, host.host))
    faults = [Fault(str(path), *found) for found in _faults(host, fleet)]
    if not faults:
        file = str(fleet_path(path, host.host))
        faults = [Fault(file, *found) for found in capacity_faults(fleet, SiteName(host.edge.site))]
        faults += [Fault(file, *found) for found in filter_capacity_faults(fleet)]
    if faults:
        raise ConfigError(faults)
    return host, fleet


def check_edge(path: Path) -> int:
    """Check the configuration and say so."""
    host, fleet = load_edge(path)
    count = len(fleet.vips_of_site(SiteName(host.edge.site)))
    sys.stdout.write(f"{path}: good; fleet {fleet.config_hash}, {count} VIPs at this site\n")
    return ExitCode.DONE


def undo_edge(path: Path) -> int:
    """Take the program off the interface, remove its pins, put the kernel's settings back."""
    host = load_host(path, EdgeHost)
    need_root("undoing an edge")
    state_dir = Path(host.host.state_dir)
    with hold_lock(state_dir, ROLE), translated():
        unloaded = program.unload(Path(host.edge.pin_dir))
        prober.forget()
        restored = Sysctls(state_dir).restore()
    what = "program and pins removed" if unloaded else "no program was loaded"
    sys.stdout.write(f"{host.host.name}: {what}, {len(restored)} kernel settings put back\n")
    return ExitCode.DONE


def run_edge(path: Path) -> int:
    """Be the edge's agent until SIGTERM."""
    host, fleet = load_edge(path)
    log.setup(ROLE, host.host.log_level)
    need_root("an edge")
    need_interface(host.edge.interface, "$.edge.interface")
    state_dir = Path(host.host.state_dir)
    with hold_lock(state_dir, ROLE):
        datapath = Datapath(
            host.edge.interface,
            Path(host.edge.pin_dir),
            flows_per_queue=host.edge.flows_per_queue,
        )
        way = Prober(host.edge.interface)
        with translated():
            datapath.open()
        for name in datapath.program.renewed:
            log.get().info("datapath.renewed", map=name, carried="sums, by name")
        try:
            with translated():
                way.open(datapath.program.maps)
            _set_sysctls(host, fleet)
            asyncio.run(_live(path, host, fleet, datapath, way))
        finally:
            way.close()
            datapath.close()
    return ExitCode.DONE


async def _live(path: Path, host: EdgeHost, fleet: Fleet, datapath: Datapath, way: Prober) -> None:
    state_dir = Path(host.host.state_dir)
    events = EventLog()
    registry = Registry()
    store = open_store(host.store)
    agent = EdgeAgent(
        _settings(host),
        fleet,
        datapath,
        way,
        store,
        Gateway(host.edge.interface),
        MemoryFile(state_dir),
        events,
        Random(),  # jitter only; seeded by the system, so that edges do not check in step
    )
    follower = FleetFollower(
        fleet,
        store,
        state_path=state_dir / "fleet.json",
        on_snapshot=lambda _: agent.wake(),
        on_histories=agent.wake,
    )
    agent.follow(follower)
    started_s = clock.unix_s()
    await asyncio.to_thread(agent.next_hops.refresh)
    with translated():
        agent.start()

    def reload() -> None:
        fresh_host, fresh = load_edge(path)
        if fresh_host != host:
            events.add("config.needs_restart", file=str(path))
        _set_sysctls(host, fresh)
        agent.adopt(fresh)

    watchdog = Watchdog(datapath, events)
    share = _open_share(host, agent, datapath, events)
    admin = AdminServer(Path(host.host.admin_socket), events, registry)
    serve_edge(
        admin,
        registry,
        host,
        agent,
        follower,
        datapath,
        events,
        AnnounceSeat(host, agent, follower, datapath, watchdog),
        reload,
        lambda: load_edge(path)[1],
        share,
        started_s=started_s,
    )
    parts: list[Part] = [
        admin,
        follower,
        way,
        agent.checker,
        agent,
        agent.publisher,
        agent.real_flows,
        agent.next_hops,
    ]
    if host.bgp is not None:
        parts.append(watchdog)
    if share is not None:
        parts.append(share)
    try:
        await live(parts, reload=reload)
    finally:
        await store.close()


def _open_share(
    host: EdgeHost, agent: EdgeAgent, datapath: Datapath, events: EventLog
) -> FlowShare | None:
    """What shares flows; None where the store has no stream, and no VIP may ask for it."""
    site = SiteName(host.edge.site)
    stream = open_flow_stream(host.store, site)
    if stream is None:
        return None
    settings = ShareSettings(
        site=site,
        edge=host.host.name,
        run=int(clock.unix_s() * 1000),
        sweep_s=host.share.sweep_s,
        refresh_s=host.share.refresh_s,
        flows=host.share.flows,
    )
    return FlowShare(settings, datapath, stream, lambda: (agent.fleet, agent.plan), events)


def _set_sysctls(host: EdgeHost, fleet: Fleet) -> None:
    """What the kernel must allow, before anything is sent to the fleet's reals."""
    vips = fleet.vips_of_site(SiteName(host.edge.site))
    ipv6 = any(fleet.reals[name].address.version == 6 for vip in vips for name in vip.reals)
    wanted = edge_wanted(host.edge.interface, ipv6=ipv6)
    for setting, how in Sysctls(Path(host.host.state_dir)).set(wanted).items():
        log.get().info("sysctl.changed", setting=f"net/{setting}", value=how)


def _settings(host: EdgeHost) -> EdgeSettings:
    return EdgeSettings(
        edge=host.host.name,
        site=SiteName(host.edge.site),
        tunnel_source=IPv4Address(host.edge.tunnel_source),
        tunnel_source_v6=IPv6Address(v6) if (v6 := host.edge.tunnel_source_v6) else None,
        mtu=host.edge.mtu,
        beat_s=host.edge.beat_s,
        lease_s=host.edge.lease_s,
    )


def _faults(host: EdgeHost, fleet: Fleet) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    site = fleet.sites.get(SiteName(host.edge.site))
    if site is None:
        advice = nearest(host.edge.site, fleet.sites)
        found.append(("$.edge.site", f"no site `{host.edge.site}` in the fleet", advice))
    elif EdgeName(host.host.name) not in site.edges:
        reason = f"`{host.host.name}` is no edge of site `{site.name}`"
        found.append(("$.host.name", reason, nearest(host.host.name, site.edges)))
    if host.bgp is not None:
        own = {4: host.bgp.local_address, 6: host.bgp.local_address_v6}
        for vip in fleet.vips_of_site(SiteName(host.edge.site)):
            if not own[vip.address.version]:
                at = "$.bgp.local_address" + ("_v6" if vip.address.version == 6 else "")
                found.append((at, f"missing, and VIP `{vip.name}` is {vip.address}", "name one"))
                break
    if not host.edge.tunnel_source_v6:
        found += [
            ("$.edge.tunnel_source_v6", f"missing, and VIP `{vip}` has the real {real}", "name one")
            for vip, real in _first_ipv6_tunnel(fleet, SiteName(host.edge.site))
        ]
    if host.store.kind is not StoreKind.REDIS:
        found += [
            ("$.store.kind", f"VIP `{vip.name}` has share_flows", 'it takes kind = "redis"')
            for vip in fleet.vips_of_site(SiteName(host.edge.site))
            if vip.share_flows
        ][:1]
    return found


def _first_ipv6_tunnel(fleet: Fleet, site: SiteName) -> list[tuple[str, str]]:
    """The first VIP of a site that tunnels to an IPv6 address, and that real."""
    for vip in fleet.vips_of_site(site):
        for real in (fleet.reals[name] for name in vip.reals):
            if real.address.version == 6 and vip.encap_of(real) is not Encap.L2:
                return [(vip.name, f"`{real.name}` at {real.address}")]
    return []
