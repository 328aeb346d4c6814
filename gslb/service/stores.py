"""From the [store] table to what is on it: the one place that knows both implementations."""

from __future__ import annotations

from pathlib import Path

from gslb.fleet.config import ConfigError, Fault
from gslb.fleet.flow_stream import FlowStream
from gslb.fleet.host import StoreKind, StoreSection
from gslb.fleet.model import SiteName
from gslb.fleet.redis_store import RedisStore
from gslb.fleet.sqlite_store import SqliteStore
from gslb.fleet.store import Store


def open_store(section: StoreSection) -> Store:
    """The store that the section names; it connects lazily, so a lost store never stops a start.

    Raises ConfigError if the password file cannot be read.
    """
    if section.kind is StoreKind.SQLITE:
        return SqliteStore(Path(section.path), timeout_s=section.timeout_s)
    return RedisStore(
        section.url,
        password=_password(section.password_file),
        prefix=section.prefix,
        timeout_s=section.timeout_s,
    )


def open_flow_stream(section: StoreSection, site: SiteName) -> FlowStream | None:
    """The stream of the site's shared flows, connected lazily; None where the store has none.

    Raises ConfigError if the password file cannot be read.
    """
    if section.kind is not StoreKind.REDIS:
        return None
    return FlowStream(
        section.url,
        password=_password(section.password_file),
        prefix=section.prefix,
        site=site,
        timeout_s=section.timeout_s,
    )


def _password(path: str) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        advice = "a file with the password on one line"
        raise ConfigError([Fault(path, "$.store.password_file", str(error), advice)]) from None
