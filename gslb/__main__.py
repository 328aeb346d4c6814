"""`python -m gslb`: the DNS daemon, and `check`, which names every fault of a fleet.toml.

Owns the command line and the order of a start: configuration, lock, ports, then processes.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from gslb.fleet.config import ConfigError, Fault
from gslb.fleet.host import DnsHost, fleet_path, load_host
from gslb.seat import run_seat
from gslb.server import endpoints
from gslb.service import log
from gslb.service.lifecycle import guarded, hold_lock
from gslb.service.metrics import CounterTable
from gslb.supervisor import Child, Supervisor, settle
from gslb.worker import COUNTERS, Duty, load_checked_fleet, run_worker


def main(argv: list[str]) -> int:
    """Run with these arguments; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gslb", description="Waypost's DNS server.")
    parser.add_argument("--config", type=Path, metavar="DNS.TOML", help="this host's file")
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    commands = parser.add_subparsers(dest="command")
    check = commands.add_parser("check", help="check a fleet.toml with its zone files")
    check.add_argument("fleet", type=Path)
    args = parser.parse_args(argv)
    if args.command == "check":
        return guarded(partial(_check, args.fleet))
    if args.config is None:
        parser.error("--config DNS.TOML is needed")
    return guarded(partial(_start, args.config, check=args.check))


def _check(path: Path) -> int:
    fleet = load_checked_fleet(path)
    sys.stdout.write(f"{path}: good, configuration {fleet.config_hash}\n")
    return 0


def _start(config: Path, *, check: bool) -> int:
    host = load_host(config, DnsHost)
    if host.dns.geo_database:
        advice = "list client networks in $.site.NAME.clients instead"
        raise ConfigError(
            [Fault(str(config), "$.dns.geo_database", "no geo database can be read yet", advice)]
        )
    fleet = load_checked_fleet(fleet_path(config, host.host))
    if check:
        sys.stdout.write(f"{config}: good, configuration {fleet.config_hash}\n")
        return 0
    log.setup("dns", host.host.log_level)
    with hold_lock(Path(host.host.state_dir), "dns"):
        listen = tuple(settle(endpoint) for endpoint in endpoints(host.dns.listen))
        return _Server(Duty(config=config, host=host, fleet=fleet, endpoints=listen)).run()


class _Server:
    """The whole server: what its children share, and what each of them is started with."""

    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        self._workers = duty.host.dns.workers or os.cpu_count() or 1
        self._counters = CounterTable(COUNTERS, self._workers)
        self._lifeline, self._held_open = os.pipe()
        self._news, self._tell = os.pipe()
        os.set_blocking(self._tell, False)

    def run(self) -> int:
        """Fork and supervise; returns the exit code."""
        seat = Child(name="seat", main=self._seat)
        workers = [
            Child(name=f"worker-{number}", main=partial(self._worker, number))
            for number in range(self._workers)
        ]
        return Supervisor([*workers, seat], self._tell, self._reload).run()

    def _worker(self, number: int) -> int:
        os.close(self._held_open)
        return run_worker(self._duty, number, self._counters.row(number), self._lifeline)

    def _seat(self) -> int:
        os.close(self._held_open)
        return run_seat(self._duty, self._counters, self._news, self._lifeline)

    def _reload(self) -> None:
        """Keep the configuration that a child will be started with anew; a bad one is kept out."""
        duty = self._duty
        try:
            fleet = load_checked_fleet(fleet_path(duty.config, duty.host.host))
        except ConfigError:
            return  # every running process reads it too, and logs the faults
        self._duty = Duty(config=duty.config, host=duty.host, fleet=fleet, endpoints=duty.endpoints)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
