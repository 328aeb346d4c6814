"""Layouts of map keys and values, and the packing of them.

Owns what a field is. Made by btf.py out of an object's BTF, used by whoever reads or writes a map;
never written by hand. Pure. Fields named `pad` are always zero and never shown.
"""

import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

FieldValue = int | bytes | str
ByteOrder = Literal["big", "little"]
HOST_ORDER: ByteOrder = sys.byteorder


class BtfError(Exception):
    """BTF bytes that cannot be read, or a value that does not fit a layout."""


class FieldKind(Enum):
    """How the bytes of one field are read."""

    UNSIGNED = "unsigned"
    SIGNED = "signed"
    NETWORK = "network order"
    OCTETS = "octets"
    ENUM = "enum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field: offset and size in bytes; `names` are an enum's, by number."""

    name: str
    offset: int
    size: int
    kind: FieldKind
    names: tuple[tuple[int, str], ...] = ()

    @property
    def is_pad(self) -> bool:
        """Whether it is there for alignment only, in a struct or in a struct inside."""
        return self.name.rpartition(".")[2].startswith("pad")

    def pack(self, value: FieldValue) -> bytes:
        """The field's bytes; an enum takes its number or its name."""
        if self.kind is FieldKind.OCTETS:
            if not isinstance(value, bytes) or len(value) != self.size:
                raise BtfError(f"field {self.name} wants {self.size} bytes, got {value!r}")
            return value
        if isinstance(value, str):
            value = self._number(value)
        if not isinstance(value, int):
            raise BtfError(f"field {self.name} wants a number, got {value!r}")
        try:
            return value.to_bytes(self.size, self._order(), signed=self.kind is FieldKind.SIGNED)
        except OverflowError as error:
            raise BtfError(f"{value} does not fit field {self.name}") from error

    def bits(self, names: Collection[str]) -> int:
        """The value of an enum of flags with exactly these set."""
        return sum(self._number(name) for name in names)

    def set_in(self, value: int) -> frozenset[str]:
        """The names of the flags that are set in a value."""
        return frozenset(name for number, name in self.names if value & number)

    def unpack(self, data: bytes) -> int | bytes:
        """The value in a whole record's bytes."""
        raw = data[self.offset : self.offset + self.size]
        if self.kind is FieldKind.OCTETS:
            return raw
        return int.from_bytes(raw, self._order(), signed=self.kind is FieldKind.SIGNED)

    def _order(self) -> ByteOrder:
        return "big" if self.kind is FieldKind.NETWORK else HOST_ORDER

    def _number(self, name: str) -> int:
        for number, known in self.names:
            if known == name:
                return number
        raise BtfError(f"field {self.name} knows no name {name}")


class Record(Mapping[str, int | bytes]):
    """One unpacked key or value. The getters say which type the caller expects."""

    __slots__ = ("_layout", "_values")

    def __init__(self, layout: "Layout", values: dict[str, int | bytes]) -> None:
        self._layout = layout
        self._values = values

    def __getitem__(self, name: str) -> int | bytes:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def integer(self, name: str) -> int:
        """A number field."""
        value = self._values[name]
        if not isinstance(value, int):
            raise BtfError(f"field {name} is octets")
        return value

    def octets(self, name: str) -> bytes:
        """An octets field."""
        value = self._values[name]
        if not isinstance(value, bytes):
            raise BtfError(f"field {name} is a number")
        return value

    def flags(self, name: str) -> frozenset[str]:
        """The names of the flags that are set in a field."""
        return self._layout.field(name).set_in(self.integer(name))

    def enum(self, name: str) -> str:
        """The name of an enum field's value."""
        number = self.integer(name)
        return dict(self._layout.field(name).names).get(number, str(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A struct, or one scalar as a single field named ''."""

    name: str
    size: int
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field:
        """The field of that name; BtfError names what is missing."""
        for field in self.fields:
            if field.name == name:
                return field
        raise BtfError(f"{self.name} has no field {name}")

    def pack(self, **values: FieldValue) -> bytes:
        """Bytes of a whole record; every field must be given, `pad` never."""
        shown = {field.name for field in self.fields if not field.is_pad}
        if shown != set(values):
            wrong = ", ".join(sorted(shown ^ set(values)))
            raise BtfError(f"{self.name}: fields missing or unknown: {wrong}")
        packed = bytearray(self.size)
        for name, value in values.items():
            field = self.field(name)
            packed[field.offset : field.offset + field.size] = field.pack(value)
        return bytes(packed)

    def unpack(self, data: bytes) -> Record:
        """The fields of a record without its padding."""
        if len(data) != self.size:
            raise BtfError(f"{self.name} is {self.size} bytes, got {len(data)}")
        values = {f.name: f.unpack(data) for f in self.fields if not f.is_pad}
        return Record(self, values)

    def scalar(self, value: int) -> bytes:
        """Bytes of a scalar layout."""
        return self.fields[0].pack(value)

    def difference(self, other: "Layout") -> str:
        """The first field that differs from `other`, as a sentence; empty when equal."""
        theirs = {field.name: field for field in other.fields}
        for field in self.fields:
            if field.name not in theirs:
                return f"field {field.name or self.name} is missing"
            if theirs[field.name] != field:
                return f"field {field.name or self.name} differs"
        if len(self.fields) != len(other.fields):
            extra = set(theirs) - {field.name for field in self.fields}
            return f"field {', '.join(sorted(extra))} is unknown"
        return "" if self.size == other.size else f"{self.name} differs in size"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapShape:
    """A map's declaration; `inner` for an array of maps. Numbers as in the object."""

    name: str
    type: int
    max_entries: int
    flags: int
    key: Layout
    value: Layout
    inner: "MapShape | None"
    key_type_id: int
    value_type_id: int
