"""`waypost config ...`: files checked before any daemon meets them."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import click

from gslb.fleet.config import ConfigError, load_fleet
from gslb.fleet.host import DnsHost, EdgeHost, HttpsHost, RealHost, fleet_path, load_host
from gslb.fleet.views import View
from gslb.service.lifecycle import ExitCode
from ops.cli.daemons import MODULES, python_argv, python_environment
from ops.cli.seat import seat, shared_options

FLEET = "fleet"
FLEET_TABLES = frozenset({"fleet", "site", "vip", "pool", "zone"})  # [real] is in real.toml too
CHECK_S = 60.0  # a fleet with a zone of 100,000 records takes about 10 s


class FileCheck(View, frozen=True):
    """What became of one file."""

    file: str
    role: str  # fleet, dns, https, edge, real
    ok: bool
    faults: tuple[str, ...]


class ConfigCheck(View, frozen=True):
    """What became of every named file."""

    files: tuple[FileCheck, ...]
    schema: str = "waypost/config-check/1"


@click.group()
def config() -> None:
    """Configuration files."""


@config.command("check")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@shared_options
def check(files: tuple[Path, ...]) -> None:
    """Check fleet.toml with its zones, and host files with the fleet that they name."""
    here = seat()
    result = ConfigCheck(files=tuple(check_file(file) for file in files))
    if here.json:
        here.say_json(result)
    else:
        for item in result.files:
            if item.ok:
                here.say(f"{item.file}: ok ({item.role})\n")
            for fault in item.faults:
                click.echo(f"waypost: {fault}", err=True)
    if not all(item.ok for item in result.files):
        click.get_current_context().exit(ExitCode.CONFIG)


def check_file(file: Path) -> FileCheck:
    """Check one file as what its tables say it is."""
    role = role_of(file)
    faults = _fleet_faults(file) if role == FLEET else _host_faults(file, role)
    return FileCheck(file=str(file), role=role, ok=not faults, faults=faults)


def role_of(file: Path) -> str:
    """The role whose table the file has; what has a table of the fleet's own is the fleet."""
    try:
        table = tomllib.loads(file.read_bytes().decode())
    except (OSError, ValueError):
        return FLEET
    if not FLEET_TABLES.isdisjoint(table):
        return FLEET
    default = "dns" if "host" in table else FLEET
    return next((role for role in MODULES if role in table), default)


def _fleet_faults(file: Path) -> tuple[str, ...]:
    """The faults of fleet.toml; its zones are parsed where the DNS daemon lives."""
    try:
        load_fleet(file)
    except ConfigError as error:
        return tuple(str(fault) for fault in error.faults)
    argv = python_argv("gslb", "check", str(file))
    try:
        child = subprocess.run(
            argv,
            env=python_environment(),
            capture_output=True,
            text=True,
            timeout=CHECK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return (f"{file}: the zones were not checked within {CHECK_S:g} s",)
    if child.returncode == 0:
        return ()
    said = tuple(line.removeprefix("waypost: ") for line in child.stderr.splitlines() if line)
    return said or (f"{file}: refused, exit code {child.returncode}",)


def _host_faults(file: Path, role: str) -> tuple[str, ...]:
    try:
        match role:
            case "https":
                host = load_host(file, HttpsHost).host
            case "edge":
                host = load_host(file, EdgeHost).host
            case "real":
                host = load_host(file, RealHost).host
            case _:
                host = load_host(file, DnsHost).host
        load_fleet(fleet_path(file, host))
    except ConfigError as error:
        return tuple(str(fault) for fault in error.faults)
    return ()
