"""Master-format text (RFC 1035 section 5) into records with line numbers, or faults with them.

Owns splitting text into entries and every message about an unreadable line. dnslib turns each
record's fields into wire format, uncompressed, so that the bytes fit any message. Called by
`gslb.zone` only. Pure: `$INCLUDE` is refused, for a zone is one text.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

import dnslib
from dnslib.buffer import BufferError as DnslibBufferError
from dnslib.dns import DNSError, DNSLabelError

TYPE_CNAME, TYPE_DNAME, TYPE_SOA = 5, 39, 6
_FIELDS = {"A": 1, "AAAA": 1, "NS": 1, "CNAME": 1, "PTR": 1, "MX": 2, "SRV": 4, "SOA": 7}
_NAME_FIELDS: dict[str, set[int]] = {
    "NS": {0},
    "CNAME": {0},
    "PTR": {0},
    "MX": {1},
    "SRV": {3},
    "SOA": {0, 1},
    "NAPTR": {5},
    "RP": {0, 1},
    "HTTPS": {1},
}
_META = frozenset({41, *range(128, 256)}) - {99}  # types that are never data (RFC 6895)
_TTL = re.compile(r"(?:\d+[smhdw]?)+", re.IGNORECASE)
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([()])|;.*|((?:[^\s"();\\]|\\.)+)|(["\\])')
_UNREADABLE = (
    DNSError,
    DNSLabelError,
    DnslibBufferError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    struct.error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record. `owner` is lower-case wire format, `rdata` uncompressed wire format."""

    line: int
    owner: bytes
    rtype: int
    ttl_s: int
    rdata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that could not be read, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    text: str
    quoted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    line: int
    continues: bool  # began with white space: the owner is that of the entry before
    words: tuple[_Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What carries over from line to line."""

    origin: str
    owner: bytes | None = None
    default_ttl_s: int | None = None
    last_ttl_s: int | None = None


def wire_name(text: str, origin: str = ".") -> bytes:
    """A domain name as lower-case wire format; relative names end in `origin`.

    Raises ValueError in words for anything that is not a name.
    """
    text = _absolute(text, origin)
    if text == ".":
        return b"\0"
    wire = b""
    for label in re.findall(r"((?:[^.\\]|\\.)*)\.", text):
        raw = _unescape(label)
        if not 1 <= len(raw) <= 63:
            raise ValueError(f"`{text}`: a label has 1 to 63 bytes")
        wire += bytes([len(raw)]) + raw
    if len(wire) > 254:
        raise ValueError(f"`{text}`: a name has at most 255 bytes")
    return wire.lower() + b"\0"


def _absolute(text: str, origin: str) -> str:
    """A name with its trailing dot."""
    if text == "@":
        return origin
    if text.endswith(".") and not text.endswith("\\."):
        return text
    return f"{text}." if origin == "." else f"{text}.{origin}"


def name_text(wire: bytes) -> str:
    """A wire-format name as text, with odd bytes as \\DDD."""
    labels = []
    at = 0
    while wire[at]:
        raw = wire[at + 1 : at + 1 + wire[at]]
        labels.append(
            "".join(chr(c) if 32 < c < 127 and c not in b".\\" else f"\\{c:03d}" for c in raw)
        )
        at += wire[at] + 1
    return ".".join(labels) + "."


def type_number(name: str) -> int:
    """The number of a record type's name, `TYPE123` included; ValueError for an unknown one."""
    if re.fullmatch(r"TYPE\d{1,5}", name):
        return int(name[4:])
    try:
        number: int = getattr(dnslib.QTYPE, name)
    except (DNSError, AttributeError):
        raise ValueError(f"unknown record type `{name}`") from None
    return number


def parse_zone_text(text: str, origin: str) -> tuple[list[Record], list[BadLine]]:
    """All records of the text in order, and every line that could not be read."""
    records: list[Record] = []
    bad: list[BadLine] = []
    state = _State(origin=origin)
    for entry in _entries(text, bad):
        try:
            state, record = _read(entry, state)
        except ValueError as error:
            bad.append(BadLine(line=entry.line, reason=str(error)))
            continue
        if record is not None:
            records.append(record)
    return records, bad


def _entries(text: str, bad: list[BadLine]) -> Iterator[_Entry]:
    words: list[_Word] = []
    depth, start, continues = 0, 0, False
    for number, line in enumerate(text.splitlines(), 1):
        if not depth:
            words, start, continues = [], number, line[:1] in {" ", "\t"}
        for match in _TOKEN.finditer(line):
            quoted, paren, plain, stray = match.groups()
            if stray:
                bad.append(BadLine(line=number, reason="a quote or an escape is not closed"))
                words = []
                break
            if quoted is not None:
                words.append(_Word(text=quoted, quoted=True))
            elif plain:
                words.append(_Word(text=plain, quoted=False))
            elif paren:
                depth = depth + 1 if paren == "(" else max(depth - 1, 0)
        if not depth and words:
            yield _Entry(line=start, continues=continues, words=tuple(words))
    if depth:
        bad.append(BadLine(line=start, reason="a parenthesis is not closed"))


def _read(entry: _Entry, state: _State) -> tuple[_State, Record | None]:
    words = list(entry.words)
    first = words[0].text
    if not entry.continues and first.startswith("$"):
        return _directive(words, state), None
    owner = state.owner if entry.continues else wire_name(words.pop(0).text, state.origin)
    if owner is None:
        raise ValueError("the first record has no owner name")
    state = replace(state, owner=owner)
    ttl_s: int | None = None
    while words and not words[0].quoted:  # TTL and class, in either order
        if words[0].text.upper() == "IN":
            words.pop(0)
        elif ttl_s is None and _TTL.fullmatch(words[0].text):
            ttl_s = ttl_seconds(words.pop(0).text)
        else:
            break
    if not words:
        raise ValueError("the record has no type")
    kind = words.pop(0).text.upper()
    if kind in {"CH", "HS", "CS"}:
        raise ValueError(f"class `{kind}` is not served, only IN")
    rtype = type_number(kind)
    if rtype in _META or rtype == TYPE_DNAME:
        raise ValueError(f"type `{kind}` is not served")
    rdata = _rdata(kind, words, state.origin)
    if ttl_s is not None:
        state = replace(state, last_ttl_s=ttl_s)
    elif state.default_ttl_s is not None:
        ttl_s = state.default_ttl_s
    elif state.last_ttl_s is not None:
        ttl_s = state.last_ttl_s
    elif rtype == TYPE_SOA:
        ttl_s = int.from_bytes(rdata[-4:], "big")
    else:
        raise ValueError("no TTL: write `$TTL 1h` first")
    return state, Record(line=entry.line, owner=owner, rtype=rtype, ttl_s=ttl_s, rdata=rdata)


def _directive(words: list[_Word], state: _State) -> _State:
    name, rest = words[0].text.upper(), [word.text for word in words[1:]]
    if name == "$TTL" and len(rest) == 1 and _TTL.fullmatch(rest[0]):
        return replace(state, default_ttl_s=ttl_seconds(rest[0]))
    if name == "$ORIGIN" and len(rest) == 1:
        return replace(state, origin=name_text(wire_name(rest[0], state.origin)))
    if name in {"$TTL", "$ORIGIN"}:
        raise ValueError(f"`{name}` takes one value")
    raise ValueError(f"`{name}` is not served; write the records out")


def ttl_seconds(text: str) -> int:
    """A TTL like 300 or 1h30m, in seconds; ValueError above 2^31-1 (RFC 2181 section 8)."""
    parts = re.findall(r"(\d+)([smhdw]?)", text.lower())
    total = sum(int(count) * _UNIT_S[unit] for count, unit in parts)
    if total > 2**31 - 1:
        raise ValueError(f"TTL {text} is above 2147483647")
    return total


def _rdata(kind: str, words: list[_Word], origin: str) -> bytes:
    texts = [word.text for word in words]
    if texts[:1] == ["\\#"]:  # RFC 3597 section 5
        raw = bytes.fromhex("".join(texts[2:]))
        if len(texts) < 2 or not texts[1].isdigit() or len(raw) != int(texts[1]):
            raise ValueError("the length after \\# does not fit the bytes")
        return raw
    fields = _FIELDS.get(kind)
    if fields is not None and len(texts) != fields:
        raise ValueError(f"{kind} takes {fields} field{'s'[: fields > 1]}, not {len(texts)}")
    if not texts:
        raise ValueError(f"{kind} without data")
    try:
        return pack_rdata(_typed(kind, texts, origin))
    except _UNREADABLE as error:
        raise ValueError(f"{kind} `{' '.join(texts)}`: {error}") from None


def _typed(kind: str, texts: list[str], origin: str) -> dnslib.RD:
    match kind:
        case "A":
            return dnslib.A(str(IPv4Address(texts[0])))
        case "AAAA":
            return dnslib.AAAA(str(IPv6Address(texts[0])))
        case "TXT":
            return dnslib.TXT([_unescape(text) for text in texts])
        case _ if kind in dnslib.RDMAP:
            places = _NAME_FIELDS.get(kind, set())
            # Made absolute here: dnslib does it for some types only.
            whole = [_absolute(t, origin) if n in places else t for n, t in enumerate(texts)]
            return dnslib.RDMAP[kind].fromZone(whole, dnslib.DNSLabel(origin))
        case _:
            raise ValueError(f"write {kind} as \\# LENGTH HEX (RFC 3597)")


def pack_rdata(rdata: dnslib.RD) -> bytes:
    """Wire format without compression, so that it is right at any offset."""
    buffer = dnslib.DNSBuffer()
    buffer.encode_name = buffer.encode_name_nocompress
    rdata.pack(buffer)
    return bytes(buffer.data)


def rdata_text(rtype: int, rdata: bytes) -> str:
    """Record data as people write it, or as RFC 3597 bytes where dnslib has no words for it."""
    try:
        shape = dnslib.RDMAP.get(dnslib.QTYPE[rtype], dnslib.RD)
        return str(shape.parse(dnslib.DNSBuffer(rdata), len(rdata)).toZone())
    except _UNREADABLE:
        return f"\\# {len(rdata)} {rdata.hex()}"


def _unescape(text: str) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        body = match.group(1)
        if len(body) == 1:
            return body
        if int(body) > 255:
            raise ValueError(f"`\\{body.decode()}` is not a byte")
        return bytes([int(body)])

    return re.sub(rb"\\(\d{3}|.)", plain, text.encode())
