"""DNS messages as the HTTPS front meets them: a question written, an answer read within bounds.

Owns no protocol rule: `gslb.answer` answers, this only reads what it said (addresses, alias, the
time it may be kept). Used by `httpdns.resolve` and `httpdns.dialects.doh`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import Struct, pack

from gslb.client import ECS_CODE
from gslb.fleet.model import Address
from httpdns.protocol import RecordType

QTYPE = {RecordType.A: 1, RecordType.AAAA: 28}
HEADER_BYTES = 12
MESSAGE_BYTES_MAX = 65535

_NS, _CNAME, _SOA, _OPT = 2, 5, 6, 41
_ECS_FAMILY = {4: 1, 6: 2}  # RFC 7871 section 6
_PAYLOAD_BYTES = 4096
_COUNTS = Struct("!HHHHHH")
_RECORD = Struct("!HHIH")  # type, class, TTL, length (RFC 1035 section 4.1.3)
_JUMPS_MAX = 128  # a name has at most 127 labels, so an honest one never needs more


class Truncated(Exception):
    """A message ends before what it announces, or its names run in circles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a DNS answer says to one who wants addresses.

    `ttl_s` is the least TTL of the answer section, or the negative TTL (RFC 2308) where it is
    empty; None where nothing says how long. `alias` is the last CNAME target met, `negative`
    whether a SOA came along, `referral` whether other servers were named instead, `scope_bits`
    how much of the client's address the choice depends on (RFC 7871).
    """

    rcode: int
    addresses: tuple[str, ...]
    ttl_s: int | None
    alias: str
    negative: bool
    referral: bool
    scope_bits: int


def question(name: str, rtype: RecordType, client: Address) -> bytes:
    """A query for `name` (absolute, plain host name), with the client's whole address by ECS."""
    labels = name.rstrip(".").encode().split(b".")
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    subnet = pack("!HBB", _ECS_FAMILY[client.version], client.max_prefixlen, 0) + client.packed
    option = pack("!HH", ECS_CODE, len(subnet)) + subnet
    opt = b"\0" + _RECORD.pack(_OPT, _PAYLOAD_BYTES, 0, len(option)) + option
    return _COUNTS.pack(0, 0, 1, 0, 0, 1) + packed + pack("!HH", QTYPE[rtype], 1) + opt


def hear(message: bytes, rtype: RecordType) -> Heard:
    """Read an answer to a question of `rtype`. Raises Truncated for a message that is none."""
    reader = _Reader(message)
    wanted = QTYPE[rtype]
    addresses: list[str] = []
    ttls: list[int] = []
    alias = ""
    for _ in range(reader.answers):
        kind, ttl_s, start, end = reader.record()
        ttls.append(ttl_s)
        if kind == _CNAME:
            alias = reader.name_at(start)
        elif kind == wanted:
            addresses.append(_address(message[start:end]))
    negative_s: int | None = None
    named = False
    for _ in range(reader.authorities):
        kind, ttl_s, start, end = reader.record()
        if kind == _SOA and end - start >= 4:
            negative_s = min(ttl_s, int.from_bytes(message[end - 4 : end], "big"))
        named = named or kind == _NS
    if negative_s is not None and not addresses:
        ttls.append(negative_s)
    scope_bits = 0
    for _ in range(reader.extras):
        kind, _, start, end = reader.record()
        if kind == _OPT:
            scope_bits = _scope_bits(message[start:end])
    return Heard(
        rcode=reader.rcode,
        addresses=tuple(addresses),
        ttl_s=min(ttls, default=None),
        alias=alias,
        negative=negative_s is not None,
        referral=named and negative_s is None and not reader.answers,
        scope_bits=scope_bits,
    )


def freshness_s(message: bytes) -> int | None:
    """How long an HTTP cache may keep an answer (RFC 8484 section 5.1); None: not at all.

    The least TTL of the answer section, or the negative TTL where that section is empty.
    Raises Truncated for a message that is none.
    """
    reader = _Reader(message)
    least: int | None = None
    for _ in range(reader.answers):
        ttl_s = reader.record()[1]
        least = ttl_s if least is None else min(least, ttl_s)
    if least is not None:
        return least
    for _ in range(reader.authorities):
        kind, ttl_s, start, end = reader.record()
        if kind == _SOA and end - start >= 4:
            return min(ttl_s, int.from_bytes(message[end - 4 : end], "big"))
    return None


def _scope_bits(options: bytes) -> int:
    """The scope of the ECS option, which our answers put alone into the OPT record."""
    if len(options) < 8 or int.from_bytes(options[:2], "big") != ECS_CODE:
        return 0
    return options[7]


def _address(rdata: bytes) -> str:
    if len(rdata) == 4:
        return str(IPv4Address(rdata))
    if len(rdata) == 16:
        return str(IPv6Address(rdata))
    raise Truncated


class _Reader:
    """Walks the records of a message, never beyond its end."""

    __slots__ = ("_at", "_message", "answers", "authorities", "extras", "rcode")

    def __init__(self, message: bytes) -> None:
        if len(message) < HEADER_BYTES:
            raise Truncated
        counts = _COUNTS.unpack_from(message)
        _, flags, questions, self.answers, self.authorities, self.extras = counts
        self.rcode = flags & 15
        self._message = message
        self._at = HEADER_BYTES
        for _ in range(questions):
            self._skip_name()
            self._at += 4
        if self._at > len(message):
            raise Truncated

    def record(self) -> tuple[int, int, int, int]:
        """Step over one record: its type, TTL, and where its data starts and ends."""
        self._skip_name()
        start = self._at + _RECORD.size
        if start > len(self._message):
            raise Truncated
        kind, _, ttl_s, length = _RECORD.unpack_from(self._message, self._at)
        self._at = start + length
        if self._at > len(self._message):
            raise Truncated
        return kind, ttl_s, start, self._at

    def name_at(self, at: int) -> str:
        """The name at an offset, compression followed, without the trailing dot."""
        labels: list[str] = []
        for _ in range(_JUMPS_MAX):
            length = self._byte(at)
            if length >= 0xC0:
                at = (length & 0x3F) << 8 | self._byte(at + 1)
                continue
            if length == 0:
                return ".".join(labels)
            label = self._message[at + 1 : at + 1 + length]
            labels.append(label.decode("ascii", "backslashreplace"))
            at += 1 + length
        raise Truncated

    def _skip_name(self) -> None:
        for _ in range(_JUMPS_MAX):
            length = self._byte(self._at)
            if length >= 0xC0:
                self._at += 2
                return
            self._at += 1 + length
            if length == 0:
                return
        raise Truncated

    def _byte(self, at: int) -> int:
        if at >= len(self._message):
            raise Truncated
        return self._message[at]
