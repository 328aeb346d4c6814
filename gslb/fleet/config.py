"""fleet.toml and the host files: read, checked whole, and turned into the nouns.

Owns reading TOML and every message about a faulty configuration. A file
is refused with all of its semantic faults at once, each with file, path, reason and nearest name.
The only file of `gslb.fleet` that reads configuration from disk; it never writes.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from gslb.fleet import model
from gslb.fleet.fleet_file import FleetFile, VipSection
from gslb.fleet.model import Fleet, PoolName, Protocol, RealName, SiteName, VipName

T = TypeVar("T", bound=msgspec.Struct)
FLOWS_MIN, FLOWS_MAX = 1024, 1 << 26  # of the flow memory of one receive queue
OWNER_CHAIN_MAX = 3
CONNECTION_AGE_MIN_S, CONNECTION_AGE_MAX_S = 1.0, 30 * 86400.0
SLOW_START_MAX_S = 86400.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a configuration: where, what, and the mend."""

    file: str
    path: str
    reason: str
    advice: str = ""

    def __str__(self) -> str:
        mend = f" ({self.advice})" if self.advice else ""
        return f"{self.file}: {self.path}: {self.reason}{mend}"


class ConfigError(Exception):
    """A configuration was refused; `faults` holds every one that was found."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


def read_toml(path: Path, shape: type[T]) -> T:
    """The file as a `shape`. Raises ConfigError with path and nearest key for anything unfit."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        advice = "check the path and the permissions"
        raise ConfigError([Fault(str(path), "$", error.strerror or "unreadable", advice)]) from None
    return parse_toml(raw, str(path), shape)


def parse_toml(raw: bytes, file: str, shape: type[T]) -> T:
    """TOML bytes as a `shape`; see `read_toml`."""
    try:
        table = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        fault = Fault(file, f"byte {error.start}", "not UTF-8", "save the file as UTF-8")
        raise ConfigError([fault]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            [Fault(file, "$", f"not TOML: {error}", "TOML allows a key once")]
        ) from None
    unknown = list(_unknown_keys(table, shape, "$", file))
    if unknown:
        raise ConfigError(unknown)
    try:
        return msgspec.convert(table, shape)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `")
        raise ConfigError([Fault(file, where.rstrip("`") or "$", text)]) from None


def _unknown_keys(value: object, shape: object, path: str, file: str) -> list[Fault]:
    """Every unknown key below `value`, with the nearest valid name (msgspec stops at the first)."""
    faults: list[Fault] = []
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct) and isinstance(value, dict):
        known = {field.encode_name: field.type for field in msgspec.structs.fields(shape)}
        for key, inner in value.items():
            if key not in known:
                faults.append(Fault(file, f"{path}.{key}", "unknown key", nearest(key, known)))
            else:
                faults += _unknown_keys(inner, known[key], f"{path}.{key}", file)
    elif getattr(shape, "__origin__", None) is dict and isinstance(value, dict):
        element = shape.__args__[1]  # type: ignore[attr-defined]
        for key, inner in value.items():
            faults += _unknown_keys(inner, element, f"{path}.{_quoted(key)}", file)
    elif getattr(shape, "__origin__", None) is tuple and isinstance(value, list):
        element = shape.__args__[0]  # type: ignore[attr-defined]
        for number, inner in enumerate(value):
            faults += _unknown_keys(inner, element, f"{path}[{number}]", file)
    return faults


def nearest(word: str, known: object) -> str:
    """Advice that names the nearest valid name, or all of them if none is near."""
    names = sorted(str(name) for name in known)  # type: ignore[attr-defined]
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"one of: {', '.join(names)}" if names else ""


def _quoted(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'


def load_fleet(path: Path) -> Fleet:
    """Read fleet.toml and its zone files. Raises ConfigError with every fault that was found."""
    shape = read_toml(path, FleetFile)
    digest = hashlib.sha256(path.read_bytes())
    faults: list[Fault] = []
    texts: dict[str, str] = {}
    for origin, zone in shape.zone.items():
        try:
            texts[origin] = (path.parent / zone.file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            where = f'$.zone."{origin}".file'
            faults.append(Fault(str(path), where, f"{zone.file}: {error}", "name a readable file"))
            texts[origin] = ""
        digest.update(texts[origin].encode())
    return build_fleet(shape, texts, str(path), digest.hexdigest()[:12], faults)


def build_fleet(
    shape: FleetFile, zone_texts: dict[str, str], file: str, config_hash: str, faults: list[Fault]
) -> Fleet:
    """The nouns from a parsed file. Adds to `faults`, and raises ConfigError if there are any."""
    from gslb.fleet.config_rules import find_faults, parse_address, parse_network

    faults = faults + find_faults(shape, file)
    if faults:
        raise ConfigError(faults)
    zones: dict[str, model.Zone] = {}
    for origin, section in shape.zone.items():
        apex = absolute(origin, "")
        zones[apex] = model.Zone(
            origin=apex,
            file=section.file,
            text=zone_texts[origin],
            dynamic={absolute(n, apex): PoolName(p) for n, p in section.dynamic.items()},
        )
    return Fleet(
        name=shape.fleet.name,
        config_hash=config_hash,
        sites={
            SiteName(name): model.Site(
                name=SiteName(name),
                location=model.Location(
                    country=site.location.country, lat=site.location.lat, lon=site.location.lon
                ),
                weight=site.weight,
                edges=tuple(model.EdgeName(edge) for edge in site.edges),
                clients=tuple(parse_network(text) for text in site.clients),
            )
            for name, site in shape.site.items()
        },
        reals={
            RealName(name): model.Real(
                name=RealName(name),
                site=SiteName(real.site),
                address=parse_address(real.address),
                weight=real.weight,
                encap=real.encap,
                server_id=real.server_id,
            )
            for name, real in shape.real.items()
        },
        vips={
            VipName(name): model.Vip(
                name=VipName(name),
                site=SiteName(vip.site),
                address=parse_address(vip.address),
                port=vip.port,
                protocol=vip.protocol,
                reals=tuple(RealName(real) for real in vip.reals),
                check=_check(vip),
                limit=rate_of(vip.limit.packets_per_s, vip.limit.burst),
                encap=vip.encap,
                tunnel_checksum=vip.tunnel_checksum,
                flow_memory=vip.flow_memory,
                flows_per_queue=vip.flows_per_queue,
                owner_chain=_owner_chain(vip),
                connection_age_s=vip.connection_age_s,
                slow_start_s=vip.slow_start_s,
                share_flows=vip.share_flows,
                options=model.VipOptions(
                    affinity=vip.affinity,
                    fallback=vip.fallback,
                    fragments=vip.fragments,
                    quic=model.Quic(**msgspec.structs.asdict(vip.quic)),
                ),
            )
            for name, vip in shape.vip.items()
        },
        pools={
            PoolName(name): model.Pool(
                name=PoolName(name),
                policy=pool.policy,
                vips=tuple(VipName(vip) for vip in pool.vips),
                answers=pool.answers,
                ttl_s=pool.ttl_s,
            )
            for name, pool in shape.pool.items()
        },
        zones=zones,
        filters={
            name: model.FilterRule(
                name=name,
                prefix=parse_network(rule.prefix),
                action=rule.action,
                rate=rate_of(rule.packets_per_s, rule.burst),
                vips=tuple(VipName(vip) for vip in rule.vips),
            )
            for name, rule in shape.filter.items()
        },
    )


def rate_of(packets_per_s: int, burst: int | None) -> model.Rate | None:
    """A rate from what was written; None where there is none."""
    if packets_per_s == 0:
        return None
    at_once = burst if burst is not None else max(1, packets_per_s // 10)
    return model.Rate(packets_per_s=packets_per_s, burst=at_once)


def _owner_chain(vip: VipSection) -> int:
    if vip.owner_chain is not None:
        return vip.owner_chain
    return OWNER_CHAIN_MAX if vip.protocol is Protocol.TCP else 0


def _check(vip: VipSection) -> model.Check:
    check = vip.check
    return model.Check(
        kind=check.kind,
        via=check.via,
        port=check.port if check.port is not None else vip.port,
        path=check.path,
        host=check.host or vip.address,
        expect_status=check.expect_status,
        interval_s=check.interval_s,
        timeout_s=check.timeout_s,
        rise=check.rise,
        fall=check.fall,
    )


def absolute(name: str, origin: str) -> str:
    """`name` in lower case with the trailing dot; relative to `origin`, `@` is the origin."""
    lower = name.lower()
    if lower == "@":
        return origin
    if lower.endswith("."):
        return lower
    return f"{lower}.{origin}" if origin and origin != "." else f"{lower}."
