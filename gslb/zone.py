"""Authored zones: the tree of names, and what it says to a question (RFC 1034 section 4.3.2).

Owns exact, wildcard (RFC 4592), delegation, CNAME, NODATA and NXDOMAIN, and the faults of zone
text. Names are lower-case wire format throughout. Called by `gslb.render`, `gslb.answer` and every
start-up check. Pure; it knows which names a pool answers, not with what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from struct import pack

from gslb.fleet import model
from gslb.fleet.config import Fault
from gslb.fleet.model import Fleet, PoolName
from gslb.zonefile import Record, name_text, parse_zone_text, wire_name

TYPE_A, TYPE_NS, TYPE_CNAME, TYPE_SOA, TYPE_AAAA, TYPE_DS = 1, 2, 5, 6, 28, 43
CLASS_IN = 1
DYNAMIC_TYPES = {TYPE_A: 4, TYPE_AAAA: 6}
"""The types that a pool answers, with their IP version."""


def tail(rtype: int, ttl_s: int, rdata: bytes) -> bytes:
    """A record without its owner name, which is spliced in front (RFC 1035 section 3.2.1)."""
    return pack("!HHIH", rtype, CLASS_IN, ttl_s, len(rdata)) + rdata


@dataclass(frozen=True, slots=True, kw_only=True)
class Rrset:
    """All records of one owner and type. A set has one TTL, the least (RFC 2181 section 5.2)."""

    rtype: int
    ttl_s: int
    rdatas: tuple[bytes, ...]
    tails: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One name. Without sets and pool it is an empty non-terminal, which exists all the same."""

    rrsets: Mapping[int, Rrset] = field(default_factory=dict)
    pool: PoolName | None = None


class Kind(Enum):
    """What the tree says to a question."""

    DATA = "data"
    CNAME = "cname"
    DYNAMIC = "dynamic"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    REFERRAL = "referral"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The tree's answer. `rrset` is set for DATA, CNAME and REFERRAL, `pool` for DYNAMIC.

    `cut` is the delegation's owner. A wildcard's data stands under the name that was asked.
    """

    kind: Kind
    rrset: Rrset | None = None
    pool: PoolName | None = None
    cut: bytes = b""
    empty: bool = False  # NODATA at an empty non-terminal


_NODATA = Found(kind=Kind.NODATA)
_EMPTY = Found(kind=Kind.NODATA, empty=True)
_NXDOMAIN = Found(kind=Kind.NXDOMAIN)


class ZoneTree:
    """One authored zone, ready for look-ups in O(labels)."""

    __slots__ = ("negative_ttl_s", "nodes", "origin", "soa")

    def __init__(self, origin: bytes, nodes: Mapping[bytes, Node]) -> None:
        self.origin = origin
        self.nodes = nodes
        self.soa = nodes[origin].rrsets[TYPE_SOA]
        minimum = int.from_bytes(self.soa.rdatas[0][-4:], "big")
        self.negative_ttl_s = min(self.soa.ttl_s, minimum)  # RFC 2308 section 5

    def soa_tail(self, ttl_max_s: int | None = None) -> bytes:
        """The SOA for the authority section of a negative answer, without its owner."""
        ttl_s = self.negative_ttl_s if ttl_max_s is None else min(self.negative_ttl_s, ttl_max_s)
        return tail(TYPE_SOA, ttl_s, self.soa.rdatas[0])

    def holds(self, name: bytes) -> bool:
        """Whether the name is the origin or below it."""
        return any(ancestor == self.origin for ancestor in ancestors(name))

    def find(self, name: bytes, rtype: int) -> Found:
        """What the zone says of a name at or below the origin and a type."""
        path = [ancestor for ancestor in ancestors(name) if len(ancestor) >= len(self.origin)]
        encloser = self.origin
        for ancestor in reversed(path):
            node = self.nodes.get(ancestor)
            if node is None:
                break
            encloser = ancestor
            cut = node.rrsets.get(TYPE_NS) if ancestor != self.origin else None
            if cut is not None and not (ancestor == name and rtype == TYPE_DS):
                return Found(kind=Kind.REFERRAL, rrset=cut, cut=ancestor)
        if encloser == name:
            return _at(self.nodes[name], rtype)
        wildcard = self.nodes.get(b"\x01*" + encloser)
        return _at(wildcard, rtype) if wildcard is not None else _NXDOMAIN

    def glue(self, targets: tuple[bytes, ...]) -> Iterator[tuple[bytes, Rrset]]:
        """The addresses that the zone holds for name servers, with their owners."""
        for target in targets:
            node = self.nodes.get(target.lower())
            if node is not None:
                for rtype in (TYPE_A, TYPE_AAAA):
                    rrset = node.rrsets.get(rtype)
                    if rrset is not None:
                        yield target, rrset


def _at(node: Node, rtype: int) -> Found:
    alias = node.rrsets.get(TYPE_CNAME)
    if alias is not None and rtype != TYPE_CNAME:
        return Found(kind=Kind.CNAME, rrset=alias)
    if node.pool is not None and rtype in DYNAMIC_TYPES:
        return Found(kind=Kind.DYNAMIC, pool=node.pool)
    rrset = node.rrsets.get(rtype)
    if rrset is not None:
        return Found(kind=Kind.DATA, rrset=rrset)
    return _NODATA if node.rrsets or node.pool is not None else _EMPTY


def ancestors(name: bytes) -> Iterator[bytes]:
    """The name, then each name above it, up to the root."""
    at = 0
    while name[at]:
        yield name[at:]
        at += name[at] + 1
    yield b"\0"


def build_zone(zone: model.Zone) -> ZoneTree:
    """The tree of a zone that `zone_faults` found nothing wrong with."""
    origin = wire_name(zone.origin)
    records, _ = parse_zone_text(zone.text, zone.origin)
    dynamic = {wire_name(name): pool for name, pool in zone.dynamic.items()}
    sets: dict[bytes, dict[int, list[Record]]] = {name: {} for name in dynamic}
    for record in records:
        sets.setdefault(record.owner, {}).setdefault(record.rtype, []).append(record)
    nodes = {
        owner: Node(
            rrsets={rtype: _rrset(members) for rtype, members in types.items()},
            pool=dynamic.get(owner),
        )
        for owner, types in sets.items()
    }
    for owner in list(nodes):
        for ancestor in ancestors(owner):
            if len(ancestor) > len(origin):
                nodes.setdefault(ancestor, Node())
    return ZoneTree(origin, nodes)


def _rrset(members: list[Record]) -> Rrset:
    ttl_s = min(member.ttl_s for member in members)
    rdatas = tuple(dict.fromkeys(member.rdata for member in members))
    rtype = members[0].rtype
    return Rrset(
        rtype=rtype,
        ttl_s=ttl_s,
        rdatas=rdatas,
        tails=tuple(tail(rtype, ttl_s, rdata) for rdata in rdatas),
    )


def zone_faults(fleet: Fleet) -> list[Fault]:
    """Everything wrong with the fleet's zone texts, in the order of the files."""
    return [
        Fault(zone.file, f"line {line}" if line else zone.origin, reason, advice)
        for zone in fleet.zones.values()
        for line, reason, advice in _faults(zone)
    ]


def _faults(zone: model.Zone) -> Iterator[tuple[int, str, str]]:
    records, bad = parse_zone_text(zone.text, zone.origin)
    origin = wire_name(zone.origin)
    for bad_line in bad:
        yield bad_line.line, bad_line.reason, ""
    seen: dict[bytes, list[Record]] = {}
    soas: list[Record] = []
    for record in records:
        owner = name_text(record.owner)
        if origin not in ancestors(record.owner):
            advice = "end a relative name without a dot"
            yield record.line, f"`{owner}` is not in `{zone.origin}`", advice
            continue
        if record.rtype == TYPE_SOA:
            if record.owner != origin:
                yield record.line, f"SOA at `{owner}`", f"it belongs to `{zone.origin}`"
            else:
                soas.append(record)
        yield from _alias_faults(record, owner, seen.setdefault(record.owner, []))
        seen[record.owner].append(record)
    if not soas:
        yield 0, "no SOA", f"begin with `@ IN SOA ns1.{zone.origin} ...`"
    for extra in soas[1:]:
        yield extra.line, f"a second SOA, the first is on line {soas[0].line}", "keep one"
    yield from _dynamic_faults(zone, seen)


def _alias_faults(
    record: Record, owner: str, before: list[Record]
) -> Iterator[tuple[int, str, str]]:
    others = [other for other in before if TYPE_CNAME in {record.rtype, other.rtype}]
    if others:
        same = record.rtype == others[0].rtype
        if same and record.rdata == others[0].rdata:
            return
        reason = "a second CNAME" if same else "CNAME beside other data"
        yield (
            record.line,
            f"{reason} at `{owner}` (line {others[0].line})",
            "RFC 1034 section 3.6.2",
        )


def _dynamic_faults(
    zone: model.Zone, seen: Mapping[bytes, list[Record]]
) -> Iterator[tuple[int, str, str]]:
    origin = wire_name(zone.origin)
    for name in zone.dynamic:
        owner = wire_name(name)
        if owner.startswith(b"\x01*"):
            yield 0, f"dynamic `{name}` is a wildcard", "name each dynamic name"
        for record in seen.get(owner, []):
            if record.rtype in (TYPE_A, TYPE_AAAA, TYPE_CNAME):
                reason = f"`{name}` is dynamic in fleet.toml and authored here"
                yield record.line, reason, "remove one of them"
        for ancestor in ancestors(owner):
            cuts = [record for record in seen.get(ancestor, []) if record.rtype == TYPE_NS]
            if cuts and ancestor != origin and len(ancestor) > len(origin):
                reason = f"dynamic `{name}` is delegated away by `{name_text(ancestor)}`"
                yield cuts[0].line, reason, "remove the delegation or the dynamic name"
