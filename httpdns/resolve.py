"""A native request answered: names and a client in, addresses with their reasons to trust out.

Owns the one way from `gslb.decide` to a native reply. A dynamic name is drawn from the very
contests that DNS draws from; for every other name (authored, alias, delegated, absent) the DNS
answer path is asked and its answer is read, so HTTPS and DNS cannot disagree. Pure: snapshot,
chance and the DNS answer path are arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network

import msgspec

from gslb.client import Client
from gslb.decide import FAMILY, Contest, Decider
from gslb.fleet.model import Address, PoolName
from gslb.fleet.snapshot import Snapshot
from gslb.geo import Locator, Place, network_of
from gslb.subset import Chance
from httpdns.protocol import (
    NAME_BYTES_MAX,
    Addresses,
    Ask,
    ErrorCode,
    NameReply,
    RecordType,
    ResolveReply,
    name_fault,
)
from httpdns.wire import Heard, Truncated, hear, question

AskDns = Callable[[bytes, Address, Chance], bytes | None]
"""The DNS answer path: query bytes, client, chance -> response bytes, or None for no answer."""

CLIENTS_KEPT = 8192  # askers remembered for a snapshot, about 400 bytes each
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NXDOMAIN, _NOERROR = 3, 0


def absolute_name(text: str) -> str | None:
    """The name in lower case with the trailing dot; None for what is not a host name."""
    if len(text) > NAME_BYTES_MAX + 1:
        return None
    bare = text.lower().removesuffix(".")
    return f"{bare}." if _HOST_NAME.fullmatch(bare) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asker:
    """What is known of one client address under one snapshot."""

    text: str
    place: Place
    scope: str | msgspec.UnsetType


class Resolver:
    """Every native answer under one snapshot. Replaced, never changed, when the snapshot is."""

    __slots__ = (
        "_ask_dns",
        "_decider",
        "_locator",
        "_names",
        "_negative",
        "_seen",
        "_snapshot",
        "_texts",
    )

    def __init__(self, snapshot: Snapshot, locator: Locator, ask_dns: AskDns) -> None:
        self._snapshot = snapshot
        self._locator = locator
        self._decider = Decider(snapshot, locator)
        self._ask_dns = ask_dns
        self._names = {
            spelling: (name, pool)
            for zone in snapshot.fleet.zones.values()
            for name, pool in zone.dynamic.items()
            for spelling in (name, name.removesuffix("."))
        }
        self._texts = {view.vip.address: str(view.vip.address) for view in snapshot.vips.values()}
        self._negative: dict[tuple[str, RecordType], int] = {}
        self._seen = lru_cache(CLIENTS_KEPT)(self._see)

    def resolve(self, ask: Ask, rng: Chance) -> ResolveReply:
        """Answer every name of the request, in its order; a name that fails fails alone."""
        asker = self._seen(ask.client)
        return ResolveReply(
            generation=self._snapshot.generation,
            client=asker.text,
            names=tuple(self._name(text, ask, asker, rng) for text in ask.names),
        )

    def _see(self, address: Address) -> _Asker:
        subnet = ip_network((address, address.max_prefixlen))
        place = self._locator.locate(Client(address=address, subnet=subnet))
        scope = _scope(address, place.scope_bits)
        return _Asker(text=str(address), place=place, scope=scope)

    def _name(self, text: str, ask: Ask, asker: _Asker, rng: Chance) -> NameReply:
        known = self._names.get(text) or self._names.get(text.lower())
        if known is not None:
            return self._dynamic(text, *known, ask, asker, rng)
        name = absolute_name(text)
        if name is None:
            fault = name_fault(ErrorCode.NAME_MALFORMED)
            return NameReply(name=text, addresses=Addresses(), ttl_s=0, error=fault)
        return self._authored(text, name, ask, rng)

    def _dynamic(
        self, text: str, name: str, pool: PoolName, ask: Ask, asker: _Asker, rng: Chance
    ) -> NameReply:
        """What `Decider.decide` answers with the same chance, without wording its reasons."""
        found: dict[str, tuple[str, ...]] = {}
        ttls: list[int] = []
        by_client = False
        for rtype in ask.types:
            contest: Contest = self._decider.contest(pool, FAMILY[rtype.value])
            field = contest.field(asker.place)
            drawn = field.draw(contest.pool.answers, rng)
            found[rtype.value] = tuple(self._texts[seat.address] for seat in drawn)
            by_client = by_client or field.by_client
            ttls.append(contest.pool.ttl_s if drawn else self._absence_s(name, rtype, ask, rng))
        return NameReply(
            name=text,
            addresses=Addresses(**found),
            ttl_s=min(ttls),
            scope=asker.scope if by_client else msgspec.UNSET,
        )

    def _absence_s(self, name: str, rtype: RecordType, ask: Ask, rng: Chance) -> int:
        """How long DNS lets the absence of this family be kept; asked once a snapshot."""
        known = self._negative.get((name, rtype))
        if known is None:
            heard = self._hear(name, rtype, ask, rng)
            known = heard.ttl_s if heard is not None and heard.ttl_s is not None else 0
            self._negative[name, rtype] = known
        return known

    def _authored(self, text: str, name: str, ask: Ask, rng: Chance) -> NameReply:
        """Say what the DNS says of a name that no pool answers."""
        found: dict[str, tuple[str, ...]] = {}
        ttls: list[int] = []
        bits = 0
        for rtype in ask.types:
            heard = self._hear(name, rtype, ask, rng)
            code = _code(heard)
            if heard is None or code is not None:
                return _failed(text, heard, code or ErrorCode.NOT_SERVED)
            found[rtype.value] = heard.addresses
            ttls.append(heard.ttl_s or 0)
            bits = max(bits, heard.scope_bits)
        return NameReply(
            name=text, addresses=Addresses(**found), ttl_s=min(ttls), scope=_scope(ask.client, bits)
        )

    def _hear(self, name: str, rtype: RecordType, ask: Ask, rng: Chance) -> Heard | None:
        message = self._ask_dns(question(name, rtype, ask.client), ask.client, rng)
        if message is None:
            return None
        try:
            return hear(message, rtype)
        except Truncated:
            return None


def _code(heard: Heard | None) -> ErrorCode | None:
    """Why the DNS answer carries no addresses; None where it does, or where absence is certain."""
    if heard is None:
        return ErrorCode.NOT_SERVED
    if heard.rcode == _NXDOMAIN:
        return ErrorCode.NO_SUCH_NAME
    if heard.rcode != _NOERROR:
        return ErrorCode.NOT_SERVED
    if heard.referral:
        return ErrorCode.DELEGATED
    if heard.alias and not heard.addresses and not heard.negative:
        return ErrorCode.ALIAS_OUTSIDE
    return None


def _scope(address: Address, bits: int) -> str | msgspec.UnsetType:
    return str(network_of(address, bits)) if bits else msgspec.UNSET


def _failed(text: str, heard: Heard | None, code: ErrorCode) -> NameReply:
    ttl_s = heard.ttl_s or 0 if heard is not None else 0
    fault = name_fault(code)
    if heard is not None and code is ErrorCode.ALIAS_OUTSIDE:
        return NameReply(
            name=text, addresses=Addresses(), ttl_s=ttl_s, alias=heard.alias, error=fault
        )
    return NameReply(name=text, addresses=Addresses(), ttl_s=ttl_s, error=fault)
