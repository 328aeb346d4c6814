"""Query bytes to response bytes, by splicing what `gslb.render` rendered; no dnslib here.

Owns the protocol: rcodes, flags, EDNS, truncation, ECS scope, CNAME chasing, referrals. Called by
the DNS listeners and by the HTTPS front's /dns-query. Pure; a malformed query is answered or
dropped by name, never raised. The short way (`_direct`) gives the long way's bytes, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import pack

from gslb.client import Client
from gslb.fleet.model import Address
from gslb.query import NSID_CODE, OUTCOMES, Edns, Outcome, Query, parse_query
from gslb.render import QUESTION, DynamicSet, Rendered, Whole
from gslb.subset import Chance
from gslb.zone import CLASS_IN, Found, Kind, ZoneTree, tail

UDP_PLAIN_MAX = 512  # without EDNS, RFC 1035 section 4.2.1
TCP_MAX = 65535
_TYPE_ANY, _TYPE_HINFO = 255, 13
_TRANSFERS = frozenset({251, 252})  # IXFR, AXFR
_META_TYPES = frozenset({41, *range(128, 251), 253, 254})
_HOPS_MAX = 8  # CNAMEs chased in a zone, as long as common resolvers follow
_NOERROR, _FORMERR, _NXDOMAIN, _NOTIMP, _REFUSED, _BADVERS = 0, 1, 3, 4, 5, 16
_QR, _AA, _TC = 0x8000, 0x0400, 0x0200
_ANY_TAIL = tail(_TYPE_HINFO, 3600, b"\x07RFC8482\x00")  # RFC 8482 section 4.2
_OPT_HEAD = b"\0\0\x29"  # root owner, type OPT


@dataclass(slots=True, kw_only=True)
class _Draft:
    """A response before its header. Every section is finished wire format."""

    outcome: Outcome
    rcode: int = _NOERROR
    authoritative: bool = True
    answers: int = 0
    answer: bytes = b""
    authorities: int = 0
    authority: bytes = b""
    extras: int = 0
    extra: bytes = b""
    scope_bits: int = 0


class Answerer:
    """Answers queries from one table of rendered answers, which `install` swaps."""

    __slots__ = ("_count", "_nsid", "_opt", "_opt_do", "_payload_max", "table")

    def __init__(
        self,
        table: Rendered,
        *,
        udp_payload_max: int = 1232,
        nsid: str = "",
        count: Callable[[int], None] | None = None,
    ) -> None:
        """`count` hears the place of each query's outcome in `OUTCOMES`."""
        self.table = table
        self._payload_max = udp_payload_max
        self._nsid = nsid.encode()
        self._count = count
        self._opt = _OPT_HEAD + pack("!HIH", udp_payload_max, 0, 0)
        self._opt_do = _OPT_HEAD + pack("!HIH", udp_payload_max, 0x8000, 0)

    def install(self, table: Rendered) -> None:
        """Answer from a newer table from the next query on."""
        self.table = table

    def answer(
        self, query: bytes, client_address: Address, *, tcp: bool, rng: Chance
    ) -> bytes | None:
        """The response to a query, or None to drop it."""
        wire = self._direct(query, client_address, rng, tcp)
        if wire is not None:
            return wire
        outcome, wire = self.respond(query, client_address, tcp=tcp, rng=rng)
        if self._count is not None:
            self._count(_PLACE[outcome])
        return wire

    def _direct(
        self, query: bytes, client_address: Address, rng: Chance, tcp: bool
    ) -> bytes | None:
        """The short way for a plain query of an exact name; None sends it the long way.

        It needs no name parser: a question that is found byte for byte is a valid one.
        """
        if query[4:11] != b"\0\x01\0\0\0\0\0" or query[2] & 0xFE:
            return None
        end = query.find(b"\0", 12) + 5
        entry = self.table.direct.get(query[12 : end - 4].lower() + query[end - 4 : end])
        if entry is None:
            return None
        rest = query[end:]
        if query[11] == 0 and not rest:
            limit, opt, extras = UDP_PLAIN_MAX, b"", 0
        elif query[11] == 1 and len(rest) == 11 and rest[:3] == _OPT_HEAD:
            if rest[6] or rest[9] or rest[10]:
                return None
            limit = min(max(rest[3] << 8 | rest[4], UDP_PLAIN_MAX), self._payload_max)
            opt, extras = (self._opt_do if rest[7] & 0x80 else self._opt), 1
        else:
            return None
        if isinstance(entry, Whole):
            count, section = entry.count, entry.section
        else:
            pieces = entry.fixed
            if pieces is None:
                place = self.table.locator.locate(Client(address=client_address))
                pieces = entry.pieces(place)
            if not pieces.tails:
                return None
            drawn = pieces.draw(entry.answers, rng)
            count, section = len(drawn), QUESTION + QUESTION.join(drawn)
        outcome, flags = _ANSWERED, _QR | _AA | query[2] << 8
        if end + len(section) + len(opt) > (TCP_MAX if tcp else limit):
            outcome, flags, count, section = _TRUNCATED, flags | _TC, 0, b""
        if self._count is not None:
            self._count(outcome)
        head = pack("!HHHHH", flags, 1, count, 0, extras)
        return b"".join((query[:2], head, query[12:end], section, opt))

    def respond(
        self, data: bytes, client_address: Address, *, tcp: bool, rng: Chance
    ) -> tuple[Outcome, bytes | None]:
        """The long way: what became of the query, and the response if there is one. Not counted."""
        query = parse_query(data)
        if isinstance(query, Outcome):
            if query in _DROPS:
                return query, None
            rcode = _NOTIMP if query is Outcome.NOTIMP else _FORMERR
            flags = _QR | (data[2] & 0x79) << 8 | rcode
            return query, data[:2] + pack("!HHHHH", flags, 0, 0, 0, 0)
        draft = self._draft(query, client_address, rng)
        return self._finish(data, query, draft, tcp=tcp)

    def _draft(self, query: Query, client_address: Address, rng: Chance) -> _Draft:
        edns = query.edns
        if edns is not None and edns.version:
            return _refusal(Outcome.BADVERS, _BADVERS)
        if edns is not None and edns.malformed:
            return _refusal(Outcome.FORMERR, _FORMERR)
        if query.rclass != CLASS_IN or query.rtype in _TRANSFERS:
            return _refusal(Outcome.REFUSED, _REFUSED)
        if query.rtype in _META_TYPES:
            return _refusal(Outcome.NOTIMP, _NOTIMP)
        zone = self.table.zone_of(query.name, query.rtype)
        if zone is None:
            return _refusal(Outcome.REFUSED, _REFUSED)
        subnet = edns.ecs.subnet if edns is not None and edns.ecs is not None else None
        client = Client(address=client_address, subnet=subnet)
        return _walk(self.table, zone, query, client, rng)

    def _finish(
        self, data: bytes, query: Query, draft: _Draft, *, tcp: bool
    ) -> tuple[Outcome, bytes]:
        opt = self._opt_reply(query.edns, draft) if query.edns is not None else b""
        limit = TCP_MAX
        if not tcp:
            offered = query.edns.payload_bytes if query.edns is not None else 0
            limit = min(max(offered, UDP_PLAIN_MAX), self._payload_max if opt else UDP_PLAIN_MAX)
        outcome = draft.outcome
        flags = _QR | (data[2] & 1) << 8 | draft.rcode & 0x0F
        if draft.authoritative:
            flags |= _AA
        counts = (draft.answers, draft.authorities, draft.extras + bool(opt))
        body = draft.answer + draft.authority + draft.extra
        if 12 + len(query.question) + len(body) + len(opt) > limit:
            # All or nothing: half a set would be cached as a whole one (RFC 2181 section 9).
            outcome, flags, counts, body = Outcome.TRUNCATED, flags | _TC, (0, 0, bool(opt)), b""
        head = pack("!HHHHH", flags, 1, *counts)
        return outcome, b"".join((data[:2], head, query.question, body, opt))

    def _opt_reply(self, edns: Edns, draft: _Draft) -> bytes:
        options = b""
        if edns.nsid and self._nsid:
            options += pack("!HH", NSID_CODE, len(self._nsid)) + self._nsid
        if edns.ecs is not None:
            options += edns.ecs.reply(draft.scope_bits)
        flags = (draft.rcode >> 4) << 24 | (0x8000 if edns.dnssec_ok else 0)
        return _OPT_HEAD + pack("!HIH", self._payload_max, flags, len(options)) + options


_PLACE = {outcome: place for place, outcome in enumerate(OUTCOMES)}
_ANSWERED, _TRUNCATED = _PLACE[Outcome.ANSWERED], _PLACE[Outcome.TRUNCATED]
_DROPS = frozenset({Outcome.DROPPED_SHORT, Outcome.DROPPED_RESPONSE})


def _refusal(outcome: Outcome, rcode: int) -> _Draft:
    return _Draft(outcome=outcome, rcode=rcode, authoritative=False)


def _walk(table: Rendered, zone: ZoneTree, query: Query, client: Client, rng: Chance) -> _Draft:
    """Follow a name through its zone, over CNAMEs, to the end."""
    draft = _Draft(outcome=Outcome.ANSWERED)
    name, owner = query.name, QUESTION
    seen = {name}
    for _ in range(_HOPS_MAX):
        found = zone.find(name, query.rtype)
        if found.kind is not Kind.CNAME or found.rrset is None:
            _end(draft, table, zone, query, found, owner, client, rng)
            break
        target = found.rrset.rdatas[0]
        draft.answer += owner + found.rrset.tails[0]
        draft.answers += 1
        # The next owner is the target, whose bytes are the last that were written.
        at = 12 + len(query.question) + len(draft.answer) - len(target)
        name, owner = target.lower(), pack("!H", 0xC000 | at)
        if name in seen or table.zone_of(name, query.rtype) is not zone:
            break
        seen.add(name)
    return draft


def _end(
    draft: _Draft,
    table: Rendered,
    zone: ZoneTree,
    query: Query,
    found: Found,
    owner: bytes,
    client: Client,
    rng: Chance,
) -> None:
    """Put the end of the walk into the draft."""
    match found.kind:
        case Kind.DATA | Kind.CNAME if found.rrset is not None:
            draft.answer += owner + owner.join(found.rrset.tails)
            draft.answers += len(found.rrset.tails)
        case Kind.DYNAMIC if found.pool is not None:
            dynamic = table.dynamic[zone.origin, found.pool, query.rtype]
            _draw(draft, table, zone, query, dynamic, owner, client, rng)
        case Kind.REFERRAL if not draft.answers:
            _refer(draft, zone, query, found)
        case Kind.NODATA if query.rtype == _TYPE_ANY and not found.empty:
            draft.answer += owner + _ANY_TAIL
            draft.answers += 1
        case Kind.NODATA:
            draft.outcome = Outcome.NODATA
            _deny(draft, zone, query, zone.soa_tail())
        case Kind.NXDOMAIN:
            draft.outcome, draft.rcode = Outcome.NXDOMAIN, _NXDOMAIN
            _deny(draft, zone, query, zone.soa_tail())
        case _:
            # An alias that leads into a delegation: the resolver follows it from here.
            pass


def _draw(
    draft: _Draft,
    table: Rendered,
    zone: ZoneTree,
    query: Query,
    dynamic: DynamicSet,
    owner: bytes,
    client: Client,
    rng: Chance,
) -> None:
    place = table.locator.locate(client)
    pieces = dynamic.pieces(place)
    draft.scope_bits = place.scope_bits if pieces.by_client else 0
    drawn = pieces.draw(dynamic.answers, rng)
    if not drawn:
        draft.outcome = Outcome.NODATA
        _deny(draft, zone, query, dynamic.soa)
        return
    draft.answer += owner + owner.join(drawn)
    draft.answers += len(drawn)


def _deny(draft: _Draft, zone: ZoneTree, query: Query, soa: bytes) -> None:
    """Put the SOA into the authority section (RFC 2308 section 3)."""
    draft.authority = _suffix(query, zone.origin) + soa
    draft.authorities = 1


def _refer(draft: _Draft, zone: ZoneTree, query: Query, found: Found) -> None:
    """Put a delegation into the authority section, and the addresses that are known with it."""
    cut = found.rrset
    assert cut is not None, "the tree refers by a set of name servers"
    owner = _suffix(query, found.cut)
    draft.outcome, draft.authoritative = Outcome.REFERRAL, False
    draft.authority = owner + owner.join(cut.tails)
    draft.authorities = len(cut.tails)
    for target, rrset in zone.glue(cut.rdatas):
        draft.extra += target + target.join(rrset.tails)
        draft.extras += len(rrset.tails)


def _suffix(query: Query, ancestor: bytes) -> bytes:
    """A compression pointer to an ancestor of the question's name, inside the question."""
    return pack("!H", 0xC000 | 12 + len(query.name) - len(ancestor))
