"""The semantic rules of fleet.toml: what a well-shaped file may still get wrong.

Owns one function that returns all faults at once, called by `gslb.fleet.config` only. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

from gslb.fleet.config import (
    CONNECTION_AGE_MAX_S,
    CONNECTION_AGE_MIN_S,
    FLOWS_MAX,
    FLOWS_MIN,
    OWNER_CHAIN_MAX,
    SLOW_START_MAX_S,
    Fault,
    absolute,
    nearest,
)
from gslb.fleet.fleet_file import CheckSection, FleetFile, VipSection
from gslb.fleet.model import (
    Address,
    CheckKind,
    Encap,
    Fallback,
    FilterAction,
    FlowMemory,
    Fragments,
    Network,
    Protocol,
)

ANSWERS_MAX = 25  # 25 AAAA and an OPT fit the 1232 bytes of one datagram under any owner name
TTL_MAX_S = 86400
RATE_MAX = 100_000_000  # packets a second; above it a token is too short a time to be counted
PAUSE_MAX_S = 3600  # an empty bucket is full again within an hour
_LABEL = re.compile(r"[a-z0-9_*]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def parse_address(text: str) -> Address:
    """An address from text; ValueError if it is none."""
    return ip_address(text)


def parse_network(text: str) -> Network:
    """A network from text without host bits; ValueError if it is none."""
    return ip_network(text)


def find_faults(shape: FleetFile, file: str) -> list[Fault]:
    """Every semantic fault of the file, in its order."""
    return [
        Fault(file, path, reason, advice)
        for rule in (_names, _sites, _reals, _vips, _filters, _pools, _zones)
        for path, reason, advice in rule(shape)
    ]


Found = Iterator[tuple[str, str, str]]


def _names(shape: FleetFile) -> Found:
    tables: tuple[tuple[str, Iterable[str]], ...] = (
        ("site", shape.site),
        ("real", shape.real),
        ("vip", shape.vip),
        ("filter", shape.filter),
        ("pool", shape.pool),
    )
    for table, names in tables:
        for name in names:
            if not _NAME.fullmatch(name):
                yield f'$.{table}."{name}"', "not a name", "letters, digits, `.`, `_` and `-`"
    if not shape.site:
        yield "$.site", "no site", "add [site.NAME]"


def _sites(shape: FleetFile) -> Found:
    owner: dict[str, str] = {}
    for name, site in shape.site.items():
        at = f"$.site.{name}"
        if not site.edges:
            yield f"{at}.edges", "no edge", "name at least one edge"
        for number, edge in enumerate(site.edges):
            if edge in owner:
                reason = f"edge `{edge}` is already at site `{owner[edge]}`"
                yield f"{at}.edges[{number}]", reason, "an edge has one site"
            owner[edge] = name
        if not -90 <= site.location.lat <= 90 or not -180 <= site.location.lon <= 180:
            yield f"{at}.location", "not on earth", "lat -90..90, lon -180..180"
        if not 0 <= site.weight <= 65535:
            yield f"{at}.weight", f"{site.weight} is out of range", "0..65535"
        for number, text in enumerate(site.clients):
            yield from _network(f"{at}.clients[{number}]", text)


def _reals(shape: FleetFile) -> Found:
    seen: dict[Address, str] = {}
    for name, real in shape.real.items():
        at = f"$.real.{name}"
        if real.site not in shape.site:
            yield f"{at}.site", f"no site `{real.site}`", nearest(real.site, shape.site)
        if not 0 <= real.weight <= 65535:
            yield f"{at}.weight", f"{real.weight} is out of range", "0..65535"
        address = _address_or_none(real.address)
        if address is None:
            yield f"{at}.address", f"`{real.address}` is not an IP address", ""
        elif address in seen:
            yield f"{at}.address", f"`{address}` is already real `{seen[address]}`", "one name each"
        else:
            seen[address] = name


def _vips(shape: FleetFile) -> Found:
    seen: dict[tuple[Address, int, Protocol], str] = {}
    homes: dict[Address, str] = {}
    for name, vip in shape.vip.items():
        at = f"$.vip.{name}"
        if vip.site not in shape.site:
            yield f"{at}.site", f"no site `{vip.site}`", nearest(vip.site, shape.site)
        if not 0 <= vip.port <= 65535:
            yield f"{at}.port", f"{vip.port} is not a port", "1..65535, or 0 for every port"
        address = _address_or_none(vip.address)
        if address is None:
            yield f"{at}.address", f"`{vip.address}` is not an IP address", ""
        else:
            key = (address, vip.port, vip.protocol)
            if key in seen:
                yield f"{at}.address", f"same address, port and protocol as `{seen[key]}`", ""
            seen[key] = name
            if homes.setdefault(address, vip.site) != vip.site:
                reason = f"`{address}` is also a VIP at site `{homes[address]}`"
                yield f"{at}.site", reason, "a VIP address belongs to one site"
        yield from _members(shape, at, vip, address)
        yield from _options(at, vip)
        yield from _quic(shape, at, vip)
        yield from _check(f"{at}.check", vip.check, vip.port)
        yield from rate_faults(f"{at}.limit", vip.limit.packets_per_s, vip.limit.burst)


def _options(at: str, vip: VipSection) -> Found:
    if vip.flows_per_queue and vip.flow_memory is FlowMemory.NONE:
        reason = "no flow memory has no size"
        yield f"{at}.flows_per_queue", reason, 'leave it out, or `flow_memory = "none"`'
    elif vip.flows_per_queue and not FLOWS_MIN <= vip.flows_per_queue <= FLOWS_MAX:
        yield f"{at}.flows_per_queue", "out of range", f"{FLOWS_MIN}..{FLOWS_MAX}"
    if vip.owner_chain is not None and not 0 <= vip.owner_chain <= OWNER_CHAIN_MAX:
        yield f"{at}.owner_chain", "out of range", f"0..{OWNER_CHAIN_MAX}"
    if not CONNECTION_AGE_MIN_S <= vip.connection_age_s <= CONNECTION_AGE_MAX_S:
        bounds = f"{CONNECTION_AGE_MIN_S:g}..{CONNECTION_AGE_MAX_S:g} seconds"
        yield f"{at}.connection_age_s", "out of range", bounds
    if not 0 <= vip.slow_start_s <= SLOW_START_MAX_S:
        yield f"{at}.slow_start_s", "out of range", f"0..{SLOW_START_MAX_S:g} seconds"
    if vip.share_flows and vip.flow_memory is FlowMemory.NONE:
        reason = "no flow memory has no flows to share"
        yield f"{at}.share_flows", reason, 'leave it out, or `flow_memory = "none"`'
    if vip.fallback is Fallback.RESET and vip.protocol is not Protocol.TCP:
        yield f"{at}.fallback", "`reset` is of TCP", "use `drop` or `pass`"
    if vip.fragments is Fragments.TWO_TUPLE and (vip.protocol is not Protocol.UDP or vip.port):
        reason = "`two_tuple` takes every port of a UDP address"
        yield f"{at}.fragments", reason, 'set `protocol = "udp"` and `port = 0`, or use `memory`'


def _quic(shape: FleetFile, at: str, vip: VipSection) -> Found:
    size, rotation = vip.quic.server_id_bytes, vip.quic.rotation
    if not 0 <= size <= 4:
        yield f"{at}.quic.server_id_bytes", f"{size} is out of range", "1..4, or 0 for none"
        return
    if not 0 <= rotation <= 6:
        yield (
            f"{at}.quic.rotation",
            f"{rotation} is out of range",
            "0..6; 7 tells that none holds",
        )
    if not size:
        return
    if vip.protocol is not Protocol.UDP:
        yield f"{at}.quic", "QUIC is of UDP", 'set `protocol = "udp"`'
    owner: dict[int, str] = {}
    for number, name in enumerate(vip.reals):
        here = f"{at}.reals[{number}]"
        if name not in shape.real:
            continue
        server_id = shape.real[name].server_id
        if server_id is None:
            yield here, f"`{name}` has no server_id", "QUIC connection ids name the real by it"
        elif not 0 <= server_id < 256**size:
            yield here, f"server_id {server_id} of `{name}` does not fit {size} bytes", ""
        elif owner.setdefault(server_id, name) != name:
            yield here, f"`{name}` has the server_id of `{owner[server_id]}`", "one each"


def _members(shape: FleetFile, at: str, vip: VipSection, address: Address | None) -> Found:
    if not vip.reals:
        yield f"{at}.reals", "no real", "name at least one"
    known = [shape.real[name] for name in vip.reals if name in shape.real]
    for number, name in enumerate(vip.reals):
        here = f"{at}.reals[{number}]"
        if name not in shape.real:
            yield here, f"no real `{name}`", nearest(name, shape.real)
            continue
        if name in vip.reals[:number]:
            yield here, f"`{name}` is named twice", "name it once; use `weight` for more"
        real = shape.real[name]
        if real.site != vip.site and {real.site, vip.site} <= shape.site.keys():
            yield here, f"`{name}` is at site `{real.site}`, the VIP at `{vip.site}`", "same site"
        if _address_or_none(real.address) == address is not None:
            yield here, f"`{name}` has the VIP's own address", "give the real an address of its own"
    if known and all(real.weight == 0 for real in known):
        yield f"{at}.reals", "every real has weight 0", "give one of them a weight above 0"
    if (
        vip.tunnel_checksum
        and known
        and not any((real.encap or vip.encap) is Encap.GUE for real in known)
    ):
        yield f"{at}.tunnel_checksum", "no real of this VIP is reached by gue", "only gue has one"


def _check(at: str, check: CheckSection, vip_port: int) -> Found:
    if check.port is None and vip_port == 0:
        yield f"{at}.port", "missing, and the VIP serves every port", "name the port to check"
    if check.port is not None and not 1 <= check.port <= 65535:
        yield f"{at}.port", f"{check.port} is not a port", "1..65535"
    if not 0.05 <= check.interval_s <= 3600:
        yield f"{at}.interval_s", f"{check.interval_s} is out of range", "0.05..3600"
    if not 0 < check.timeout_s <= check.interval_s:
        yield (
            f"{at}.timeout_s",
            f"{check.timeout_s} is not within the interval",
            "0 < t <= interval",
        )
    for key, count in (("rise", check.rise), ("fall", check.fall)):
        if not 1 <= count <= 100:
            yield f"{at}.{key}", f"{count} is out of range", "1..100"
    if check.kind is not CheckKind.TCP and not check.path.startswith("/"):
        yield f"{at}.path", f"`{check.path}` is not a path", "begin with `/`"
    if not 100 <= check.expect_status <= 599:
        yield f"{at}.expect_status", f"{check.expect_status} is not a status", "100..599"


def _filters(shape: FleetFile) -> Found:
    seen: dict[tuple[Network, str], str] = {}
    for name, rule in shape.filter.items():
        at = f"$.filter.{name}"
        prefix = _network_or_none(rule.prefix)
        if prefix is None:
            yield from _network(f"{at}.prefix", rule.prefix)
        for number, vip in enumerate(rule.vips):
            if vip not in shape.vip:
                yield f"{at}.vips[{number}]", f"no VIP `{vip}`", nearest(vip, shape.vip)
            elif vip in rule.vips[:number]:
                yield f"{at}.vips[{number}]", f"`{vip}` is named twice", ""
        for vip in dict.fromkeys(rule.vips or ("",)):
            if prefix is None:
                continue
            if (prefix, vip) in seen:
                whose = f" for VIP `{vip}`" if vip else ""
                reason = f"`{prefix}`{whose} is already in filter `{seen[prefix, vip]}`"
                yield f"{at}.prefix", reason, "one rule for a prefix"
            seen[prefix, vip] = name
        if rule.action is FilterAction.LIMIT and rule.packets_per_s == 0:
            yield f"{at}.packets_per_s", "missing for a limit", f"1..{RATE_MAX}"
        elif rule.action is not FilterAction.LIMIT and rule.packets_per_s:
            advice = 'set action = "limit"'
            yield f"{at}.packets_per_s", f"contradicts action `{rule.action}`", advice
        yield from rate_faults(at, rule.packets_per_s, rule.burst)


def rate_faults(at: str, packets_per_s: int, burst: int | None) -> Found:
    """What is wrong with a token bucket; a rate of 0 is none."""
    if not 0 <= packets_per_s <= RATE_MAX:
        yield f"{at}.packets_per_s", f"{packets_per_s} is out of range", f"0..{RATE_MAX}"
    elif burst is not None and packets_per_s == 0:
        yield f"{at}.burst", "without packets_per_s", "name the rate as well"
    elif burst is not None and not 1 <= burst <= packets_per_s * PAUSE_MAX_S:
        advice = f"1..{packets_per_s * PAUSE_MAX_S}, an hour's packets"
        yield f"{at}.burst", f"{burst} is out of range", advice


def _pools(shape: FleetFile) -> Found:
    for name, pool in shape.pool.items():
        at = f"$.pool.{name}"
        if not pool.vips:
            yield f"{at}.vips", "no VIP", "name at least one"
        for number, vip in enumerate(pool.vips):
            if vip not in shape.vip:
                yield f"{at}.vips[{number}]", f"no VIP `{vip}`", nearest(vip, shape.vip)
            elif vip in pool.vips[:number]:
                yield f"{at}.vips[{number}]", f"`{vip}` is named twice", ""
        if not 1 <= pool.answers <= ANSWERS_MAX:
            yield f"{at}.answers", f"{pool.answers} is out of range", f"1..{ANSWERS_MAX}"
        if not 0 <= pool.ttl_s <= TTL_MAX_S:
            yield f"{at}.ttl_s", f"{pool.ttl_s} is out of range", f"0..{TTL_MAX_S}"


def _zones(shape: FleetFile) -> Found:
    origins: dict[str, str] = {}
    for origin, zone in shape.zone.items():
        at = f'$.zone."{origin}"'
        apex = absolute(origin, "")
        if apex in origins:
            yield at, f"the same zone as `{origins[apex]}`", "name it once"
        origins[apex] = origin
        if not _domain(apex):
            yield at, "not a domain name", "labels of letters, digits, `-` and `_`"
        for name, pool in zone.dynamic.items():
            here = f"{at}.dynamic.{name if _NAME.fullmatch(name) else chr(34) + name + chr(34)}"
            owner = absolute(name, apex)
            if not _domain(owner):
                yield here, "not a domain name", ""
            elif owner != apex and not owner.endswith("." + apex) and apex != ".":
                yield here, f"`{owner}` is not below `{apex}`", "use a relative name"
            if pool not in shape.pool:
                yield here, f"no pool `{pool}`", nearest(pool, shape.pool)


def _domain(name: str) -> bool:
    labels = name.rstrip(".").split(".") if name != "." else []
    return len(name) <= 254 and all(_LABEL.fullmatch(label) for label in labels)


def _address_or_none(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _network_or_none(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _network(path: str, text: str) -> Found:
    try:
        ip_network(text)
    except ValueError as error:
        yield path, f"`{text}` is not a network: {error}", "like 192.0.2.0/24, no host bits"
