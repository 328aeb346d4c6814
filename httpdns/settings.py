"""https.toml and what it names, read and checked whole: listen address, certificate, callers.

Owns the semantic faults of [https] that need more than its shape. Called by the parent and by each
worker process; reads configuration, never a socket or the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from gslb.fleet.config import ConfigError, Fault, load_fleet
from gslb.fleet.host import (
    HostSection,
    HttpsHost,
    StoreSection,
    fleet_path,
    load_host,
    split_listen,
)
from gslb.fleet.model import Fleet, Network
from gslb.zone import zone_faults

WORKERS_MAX = 64
NAMES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One https.toml, checked, with the fleet it names. Paths are ready to be opened."""

    path: Path
    host: HostSection
    store: StoreSection
    address: str
    port: int
    certificate: Path
    private_key: Path
    workers: int
    trusted: tuple[Network, ...]
    names_max: int
    fleet: Fleet

    @property
    def state_dir(self) -> Path:
        """Where this daemon keeps what survives a restart."""
        return Path(self.host.state_dir)


def load_settings(path: Path) -> Settings:
    """Read the host file, the fleet and its zones. Raises ConfigError with every fault found."""
    file = load_host(path, HttpsHost)
    faults: list[Fault] = []
    trusted: list[Network] = []
    for number, text in enumerate(file.https.trusted_callers):
        try:
            trusted.append(ip_network(text))
        except ValueError as error:
            at = f"$.https.trusted_callers[{number}]"
            faults.append(Fault(str(path), at, str(error), "like 10.0.0.0/8 or 2001:db8::/32"))
    if not 1 <= file.https.workers <= WORKERS_MAX:
        faults.append(Fault(str(path), "$.https.workers", "out of range", f"1..{WORKERS_MAX}"))
    if not 1 <= file.https.names_max <= NAMES_MAX:
        faults.append(Fault(str(path), "$.https.names_max", "out of range", f"1..{NAMES_MAX}"))
    fleet = _load_fleet(fleet_path(path, file.host), faults)
    if faults or fleet is None:
        raise ConfigError(faults)
    address, port = split_listen(file.https.listen)
    return Settings(
        path=path,
        host=file.host,
        store=file.store,
        address=address,
        port=port,
        certificate=path.parent / file.https.certificate,
        private_key=path.parent / file.https.private_key,
        workers=file.https.workers,
        trusted=tuple(trusted),
        names_max=file.https.names_max,
        fleet=fleet,
    )


def _load_fleet(path: Path, faults: list[Fault]) -> Fleet | None:
    try:
        fleet = load_fleet(path)
    except ConfigError as error:
        faults += error.faults
        return None
    faults += zone_faults(fleet)
    return fleet
