"""A query's bytes, read once and carefully: header, question, EDNS.

Owns the bounds checks and the closed list of what may become of a query. Called by `gslb.answer`.
Pure; it never raises for what a stranger sent: a fault is a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gslb.client import ECS_CODE, Ecs, parse_ecs

HEADER_BYTES = 12
NSID_CODE = 3
_TYPE_OPT = 41
_NAME_MAX = 255


class Outcome(Enum):
    """What became of a query; each one is counted under this name."""

    ANSWERED = "answered"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    REFERRAL = "referral"
    TRUNCATED = "truncated"  # an answer too large for its datagram: TC
    REFUSED = "refused"  # outside our zones, another class, or a zone transfer
    FORMERR = "formerr"
    NOTIMP = "notimp"  # an opcode or a meta type that is not served
    BADVERS = "badvers"  # an EDNS version above 0
    DROPPED_SHORT = "dropped_short"  # less than a header
    DROPPED_RESPONSE = "dropped_response"  # QR is set: answering it could loop


OUTCOMES = tuple(Outcome)
"""All outcomes; the place of each is the index of its counter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edns:
    """The OPT record of a query (RFC 6891). `malformed` asks for FORMERR with an OPT."""

    payload_bytes: int
    version: int
    dnssec_ok: bool
    nsid: bool
    ecs: Ecs | None
    malformed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One well-formed question. `question` is as it came (0x20 case kept), `name` in lower case."""

    question: bytes
    name: bytes
    rtype: int
    rclass: int
    edns: Edns | None


def parse_query(data: bytes) -> Query | Outcome:
    """The question of a query, or the outcome that refuses it."""
    if len(data) < HEADER_BYTES:
        return Outcome.DROPPED_SHORT
    if data[2] & 0x80:
        return Outcome.DROPPED_RESPONSE
    if data[2] & 0x78:
        return Outcome.NOTIMP
    if data[4:10] != b"\0\x01\0\0\0\0":
        return Outcome.FORMERR
    end = _name_end(data, HEADER_BYTES, pointers=False)
    if end is None or end + 4 > len(data):
        return Outcome.FORMERR
    edns: Edns | None = None
    at = end + 4
    for _ in range(int.from_bytes(data[10:12], "big")):
        owner_end = _name_end(data, at, pointers=True)
        if owner_end is None or owner_end + 10 > len(data):
            return Outcome.FORMERR
        body = owner_end + 10
        stop = body + int.from_bytes(data[owner_end + 8 : body], "big")
        if stop > len(data):
            return Outcome.FORMERR
        if int.from_bytes(data[owner_end : owner_end + 2], "big") == _TYPE_OPT:
            if edns is not None or owner_end != at + 1:
                return Outcome.FORMERR
            edns = _edns(data[owner_end + 2 : body], data[body:stop])
        at = stop
    if at != len(data):
        return Outcome.FORMERR
    return Query(
        question=data[HEADER_BYTES : end + 4],
        name=data[HEADER_BYTES:end].lower(),
        rtype=int.from_bytes(data[end : end + 2], "big"),
        rclass=int.from_bytes(data[end + 2 : end + 4], "big"),
        edns=edns,
    )


def _name_end(data: bytes, at: int, *, pointers: bool) -> int | None:
    """Where the name that begins at `at` ends, or None if it is none."""
    start = at
    while at < len(data):
        length = data[at]
        if length >= 0xC0 and pointers:
            return at + 2 if at + 2 <= len(data) else None
        if length > 63 or at + length + 1 - start > _NAME_MAX:
            return None
        at += length + 1
        if not length:
            return at
    return None


def _edns(fixed: bytes, options: bytes) -> Edns:
    """The OPT from its fixed part (from CLASS on) and its options."""
    nsid, malformed = False, False
    ecs: Ecs | None = None
    at = 0
    while at < len(options):
        stop = at + 4 + int.from_bytes(options[at + 2 : at + 4], "big")
        if at + 4 > len(options) or stop > len(options):
            malformed = True
            break
        code = int.from_bytes(options[at : at + 2], "big")
        if code == ECS_CODE and ecs is None:
            ecs = parse_ecs(options[at + 4 : stop])
            malformed = malformed or ecs is None
        elif code == NSID_CODE:
            nsid = True
        at = stop
    return Edns(
        payload_bytes=int.from_bytes(fixed[:2], "big"),
        version=fixed[3],
        dnssec_ok=bool(fixed[4] & 0x80),
        nsid=nsid,
        ecs=ecs,
        malformed=malformed,
    )
