"""Layouts and packing, by hand-made BTF: one struct with every kind of field, one enum."""

import pytest

from bpf.btf import Btf
from bpf.layout import HOST_ORDER, BtfError, Field, FieldKind, Layout

INT, ARRAY, STRUCT, ENUM, TYPEDEF = 1, 3, 4, 6, 8


class Writer:
    """Writes BTF as clang does: types numbered from 1, names in one text."""

    def __init__(self) -> None:
        self._types = b""
        self._text = b"\0"
        self._count = 0

    def add(self, kind: int, name: str, size_or_type: int, *words: int, members: int = 0) -> int:
        info = kind << 24 | members
        self._types += self._words(self.text(name), info, size_or_type, *words)
        self._count += 1
        return self._count

    def text(self, name: str) -> int:
        at = len(self._text)
        self._text += name.encode() + b"\0"
        return at

    def finish(self) -> bytes:
        header = self._words(0x0001EB9F, 24, 0, len(self._types), len(self._types), len(self._text))
        return header + self._types + self._text

    def _words(self, *words: int) -> bytes:
        return b"".join(word.to_bytes(4, HOST_ORDER) for word in words)


@pytest.fixture
def btf() -> Btf:
    writer = Writer()
    octet = writer.add(INT, "unsigned char", 1, 8)
    short = writer.add(INT, "unsigned short", 2, 16)
    signed = writer.add(INT, "int", 4, 1 << 24 | 32)
    port = writer.add(TYPEDEF, "__be16", short)
    state = writer.add(ENUM, "state", 4, writer.text("DOWN"), 0, writer.text("UP"), 1, members=2)
    octets = writer.add(ARRAY, "", 0, octet, signed, 4)
    address = writer.add(STRUCT, "address", 4, writer.text("octets"), octets, 0, members=1)
    fields = (("address", address, 0), ("port", port, 4), ("pad", short, 6))
    fields += (("change", signed, 8), ("state", state, 12))
    words = [word for name, kind, at in fields for word in (writer.text(name), kind, at * 8)]
    writer.add(STRUCT, "entry", 16, *words, members=len(fields))
    return Btf(writer.finish())


def packed(btf: Btf) -> bytes:
    return btf.struct("entry").pack(address=bytes([192, 0, 2, 1]), port=80, change=-2, state="UP")


def test_fields_lie_where_the_struct_has_them(btf: Btf):
    octets = packed(btf)

    assert octets[:8] == bytes([192, 0, 2, 1, 0, 80, 0, 0])
    assert octets[8:12] == (-2).to_bytes(4, HOST_ORDER, signed=True)
    assert octets[12:] == (1).to_bytes(4, HOST_ORDER)


def test_unpacking_gives_back_what_was_packed(btf: Btf):
    record = btf.struct("entry").unpack(packed(btf))

    assert record.octets("address") == bytes([192, 0, 2, 1])
    assert record.integer("port") == 80
    assert record.integer("change") == -2
    assert record.enum("state") == "UP"
    assert set(record) == {"address", "port", "change", "state"}


def test_enum_names_come_in_order(btf: Btf):
    assert btf.enum("state") == ((0, "DOWN"), (1, "UP"))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"port": 70000}, "port"),
        ({"address": b"short"}, "address"),
        ({"state": "SLEEPY"}, "SLEEPY"),
        ({"colour": 1}, "colour"),
        ({"pad": 1}, "pad"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(
    btf: Btf, changed: dict[str, int | bytes | str], named: str
):
    values: dict[str, int | bytes | str] = {
        "address": bytes(4),
        "port": 1,
        "change": 0,
        "state": 0,
    }

    with pytest.raises(BtfError, match=named):
        btf.struct("entry").pack(**{**values, **changed})


def test_a_missing_field_is_refused_by_name(btf: Btf):
    with pytest.raises(BtfError, match="change"):
        btf.struct("entry").pack(address=bytes(4), port=1, state=0)


def test_a_record_of_another_size_is_refused(btf: Btf):
    with pytest.raises(BtfError, match="entry is 16 bytes"):
        btf.struct("entry").unpack(bytes(15))


def test_what_is_not_there_is_named(btf: Btf):
    with pytest.raises(BtfError, match="struct nothing"):
        btf.struct("nothing")
    with pytest.raises(BtfError, match="enum nothing"):
        btf.enum("nothing")


@pytest.mark.parametrize("rubbish", [b"", b"\x9f", bytes(64)])
def test_rubbish_is_not_btf(rubbish: bytes):
    with pytest.raises(BtfError, match="not BTF"):
        Btf(rubbish)


def layout(*fields: Field) -> Layout:
    return Layout(name="entry", size=8, fields=fields)


def field(name: str, offset: int = 0) -> Field:
    return Field(name=name, offset=offset, size=4, kind=FieldKind.UNSIGNED)


@pytest.mark.parametrize(
    ("ours", "theirs", "sentence"),
    [
        (layout(field("a")), layout(field("a")), ""),
        (layout(field("a")), layout(field("a", 4)), "field a differs"),
        (layout(field("a"), field("b", 4)), layout(field("a")), "field b is missing"),
        (layout(field("a")), layout(field("a"), field("b", 4)), "field b is unknown"),
    ],
)
def test_the_first_difference_is_named(ours: Layout, theirs: Layout, sentence: str):
    assert ours.difference(theirs) == sentence
