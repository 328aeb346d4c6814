"""The shape of fleet.toml: a struct for each table, and nothing else.

Owns names, types and defaults of keys. Read by `gslb.fleet.config`, judged by
`gslb.fleet.config_rules`; unknown keys are refused.
"""

from __future__ import annotations

import msgspec

from gslb.fleet.model import (
    Affinity,
    CheckKind,
    CheckVia,
    Encap,
    Fallback,
    FilterAction,
    FlowMemory,
    Fragments,
    Policy,
    Protocol,
)


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of fleet.toml: unknown keys are refused."""


class FleetSection(_Section, frozen=True):
    """[fleet]"""

    name: str


class LocationSection(_Section, frozen=True):
    """A place: country by ISO 3166-1 alpha-2, degrees."""

    country: str
    lat: float
    lon: float


class SiteSection(_Section, frozen=True):
    """[site.NAME]"""

    location: LocationSection
    edges: tuple[str, ...]
    weight: int = 100
    clients: tuple[str, ...] = ()


class RealSection(_Section, frozen=True):
    """[real.NAME]"""

    site: str
    address: str
    weight: int = 100
    encap: Encap | None = None
    server_id: int | None = None


class CheckSection(_Section, frozen=True):
    """The check of a VIP. `port` is the VIP's own where it is left out."""

    kind: CheckKind = CheckKind.TCP
    via: CheckVia = CheckVia.TUNNEL
    port: int | None = None
    path: str = "/"
    host: str = ""
    expect_status: int = 200
    interval_s: float = 2.0
    timeout_s: float = 1.0
    rise: int = 2
    fall: int = 3


class LimitSection(_Section, frozen=True):
    """The limit of a VIP. Without `burst`, a tenth of a second's packets."""

    packets_per_s: int = 0  # 0: no limit
    burst: int | None = None


class QuicSection(_Section, frozen=True):
    """The connection ids of a VIP that name a real."""

    server_id_bytes: int = 0
    rotation: int = 0


class VipSection(_Section, frozen=True):
    """[vip.NAME]"""

    site: str
    address: str
    reals: tuple[str, ...]
    port: int = 0
    protocol: Protocol = Protocol.TCP
    check: CheckSection = CheckSection()
    limit: LimitSection = LimitSection()
    encap: Encap = Encap.GUE
    tunnel_checksum: bool = False
    flow_memory: FlowMemory = FlowMemory.ALL
    flows_per_queue: int = 0
    owner_chain: int | None = None  # of TCP 3; a UDP server has to connect its sockets for it
    connection_age_s: float = 3600.0
    slow_start_s: float = 0.0
    share_flows: bool = False
    affinity: Affinity = Affinity.FLOW
    fallback: Fallback = Fallback.DROP
    fragments: Fragments = Fragments.MEMORY
    quic: QuicSection = QuicSection()


class FilterSection(_Section, frozen=True):
    """[filter.NAME]. `packets_per_s` and `burst` belong to the action `limit`."""

    prefix: str
    action: FilterAction
    packets_per_s: int = 0
    burst: int | None = None
    vips: tuple[str, ...] = ()


class PoolSection(_Section, frozen=True):
    """[pool.NAME]"""

    vips: tuple[str, ...]
    policy: Policy = Policy.NEAREST
    answers: int = 2
    ttl_s: int = 30


class ZoneSection(_Section, frozen=True):
    """[zone."ORIGIN"]"""

    file: str
    dynamic: dict[str, str] = {}


class FleetFile(_Section, frozen=True):
    """fleet.toml"""

    fleet: FleetSection
    site: dict[str, SiteSection]
    real: dict[str, RealSection] = {}
    vip: dict[str, VipSection] = {}
    filter: dict[str, FilterSection] = {}
    pool: dict[str, PoolSection] = {}
    zone: dict[str, ZoneSection] = {}
