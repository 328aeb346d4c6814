"""`python -m httpdns --config https.toml [--check]`: the parent process of the HTTPS service.

Owns the order of a start (configuration, certificate, lock, port, workers), reload and drain. It
serves no request itself: `httpdns.crew` keeps the processes that do.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from gslb.fleet.config import ConfigError
from gslb.service import clock, log
from gslb.service.admin import AdminServer
from gslb.service.events import EventLog
from gslb.service.follow import FleetFollower
from gslb.service.lifecycle import ExitCode, Part, guarded, hold_lock, live
from gslb.service.metrics import Registry
from gslb.service.stores import open_store
from httpdns.certificates import CertificateWatch, Pair, read_pair
from httpdns.crew import Crew, counter_rows, open_sockets
from httpdns.seat import Seat
from httpdns.settings import Settings, load_settings
from httpdns.worker import counter_table


def main() -> int:
    """Start the service, or only check its configuration."""
    parser = argparse.ArgumentParser(prog="waypost https", description="The HTTPS-DNS service.")
    parser.add_argument("--config", required=True, type=Path, help="https.toml of this host")
    parser.add_argument("--check", action="store_true", help="check every file and exit")
    options = parser.parse_args()
    return guarded(lambda: start(options.config, check=options.check))


def start(config: Path, *, check: bool) -> int:
    """Check everything; then, unless `check`, serve until SIGTERM."""
    settings = load_settings(config)
    pair = _read_pair(settings)
    if check:
        until = f"certificate for {pair.subject}"
        sys.stdout.write(f"{config}: well; config {settings.fleet.config_hash}, {until}\n")
        return ExitCode.DONE
    log.setup("https", settings.host.log_level)
    with hold_lock(settings.state_dir, "https"):
        asyncio.run(serve(settings, pair))
    return ExitCode.DONE


async def serve(settings: Settings, pair: Pair) -> None:
    """The parent's life."""
    sockets = open_sockets(settings.address, settings.port, settings.workers)
    (settings.state_dir / "https.counters").unlink(missing_ok=True)
    counters = counter_table(settings.state_dir, counter_rows(settings.workers))
    events, registry = EventLog(), Registry()
    crew = Crew(settings, sockets, pair, events)
    store = open_store(settings.store)
    follower = FleetFollower(
        settings.fleet,
        store,
        state_path=settings.state_dir / "https.state",
        on_snapshot=lambda snapshot: _tell(events, snapshot.generation),
    )
    seat = Seat(
        settings=settings,
        crew=crew,
        follower=follower,
        counters=counters,
        started_s=clock.monotonic_s(),
        config_at_s=clock.unix_s(),
    )

    def on_certificate() -> None:
        try:
            _take_pair(_read_pair(seat.settings), crew, events)
        except ConfigError as error:
            for fault in error.faults:
                events.add("certificate.refused", reason=str(fault))

    def reload() -> None:
        fresh = load_settings(settings.path)
        fresh_pair = _read_pair(fresh)
        _warn_of_restart(settings, fresh)
        seat.settings, seat.config_at_s = fresh, clock.unix_s()
        follower.replace_fleet(fresh.fleet)
        crew.reload(fresh)
        _take_pair(fresh_pair, crew, events)
        events.add("config.reloaded", config_hash=fresh.fleet.config_hash)

    admin = AdminServer(Path(settings.host.admin_socket), events, registry)
    seat.serve(admin, reload)
    seat.measure(registry)
    watch = CertificateWatch(settings.certificate, settings.private_key, on_certificate)
    port = str(sockets[0].getsockname()[1])
    events.add("https.listening", address=settings.address, port=port)
    parts: list[Part] = [follower, crew, watch, admin]
    try:
        await live(parts, reload=reload, drain=crew.drain)
    finally:
        for listener in sockets:
            listener.close()
    await store.close()
    log.get().info("https.stopped")


def _read_pair(settings: Settings) -> Pair:
    return read_pair(settings.certificate, settings.private_key, settings.path, clock.unix_s())


def _take_pair(pair: Pair, crew: Crew, events: EventLog) -> None:
    """Serve with this pair from now on, unless it is the one in use."""
    if (pair.chain, pair.key) == (crew.pair.chain, crew.pair.key):
        return
    crew.take_pair(pair)
    events.add("certificate.replaced", names=pair.subject)


def _warn_of_restart(settings: Settings, fresh: Settings) -> None:
    """Say what a reload cannot change: what was opened at the start stays open."""
    kept = ("address", "port", "workers", "certificate", "private_key", "store", "host")
    for key in kept:
        if getattr(settings, key) != getattr(fresh, key):
            log.get().warning("config.needs_restart", key=key)


def _tell(events: EventLog, generation: int) -> None:
    events.add("answers.changed", generation=str(generation))


if __name__ == "__main__":
    sys.exit(main())
