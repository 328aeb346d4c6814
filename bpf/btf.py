"""Layouts out of BTF: what the C side declares is read here and written nowhere twice.

Owns the reading of BTF bytes (kernel documentation, bpf/btf.rst): maps, structs, enums, read-only
variables. Called by program.py and by tests. Pure: bytes in, frozen layouts out. Byte order is told
by the type's name: `__be16` and `__be32` are network order, all else is the host's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from bpf.layout import HOST_ORDER, BtfError, Field, FieldKind, Layout, MapShape

BTF_MAGIC = 0xEB9F
NETWORK_ORDER_TYPES = ("__be16", "__be32", "__be64")
TYPE_BYTES = 12  # struct btf_type
VOID = 0  # the type id of nothing
SIGNED_BIT = 1 << 24  # BTF_INT_SIGNED in an integer's extra word


class _Kind(IntEnum):
    """BTF kinds that are looked at; the others are only skipped over."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    DECL_TAG = 17
    ENUM64 = 19


# Typedef and the qualifiers: a name or a word in front of another type.
MODIFIERS = (8, 9, 10, 11, 18)
# What follows the twelve bytes of a type: fixed bytes, and bytes for each member.
FIXED_BYTES = {_Kind.INT: 4, _Kind.ARRAY: 12, _Kind.VAR: 4, _Kind.DECL_TAG: 4}
MEMBER_BYTES = {
    _Kind.STRUCT: 12,
    _Kind.UNION: 12,
    _Kind.ENUM: 8,
    _Kind.FUNC_PROTO: 8,
    _Kind.DATASEC: 12,
    _Kind.ENUM64: 12,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Type:
    """One type: `size_or_type` is a size or another type's id; `words` are what follows it."""

    name: str
    kind: int
    size_or_type: int
    words: tuple[int, ...]


class Btf:
    """All types of one object or one loaded map."""

    def __init__(self, data: bytes) -> None:
        words = _words(data[:24])
        if len(data) < 24 or words[0] & 0xFFFF != BTF_MAGIC:
            raise BtfError("these bytes are not BTF of this host's byte order")
        header, type_at, type_bytes, text_at, text_bytes = words[1:6]
        self._text = data[header + text_at : header + text_at + text_bytes]
        self._types = (
            _Type(name="void", kind=0, size_or_type=0, words=()),
            *self._read_types(data[header + type_at : header + type_at + type_bytes]),
        )

    def struct(self, name: str) -> Layout:
        """The layout of `struct name`."""
        for number, kind in enumerate(self._types):
            if kind.name == name and kind.kind == _Kind.STRUCT:
                return self.layout(number)
        raise BtfError(f"BTF has no struct {name}")

    def enum(self, name: str) -> tuple[tuple[int, str], ...]:
        """Numbers and names of `enum name`, in order of declaration."""
        for kind in self._types:
            if kind.name == name and kind.kind == _Kind.ENUM:
                return self._enum_names(kind)
        raise BtfError(f"BTF has no enum {name}")

    def maps(self) -> dict[str, MapShape]:
        """Every map that the object declares, by name."""
        found: dict[str, MapShape] = {}
        for variable, _ in self._section(".maps"):
            found[variable.name] = self._map(variable.name, self._types[variable.size_or_type])
        return found

    def variables(self, section: str) -> Layout:
        """The variables of a data section (".rodata") as one layout; empty without the section."""
        fields: list[Field] = []
        for variable, offset in self._section(section):
            fields.extend(self._fields(variable.name, variable.size_or_type, offset))
        size = max((field.offset + field.size for field in fields), default=0)
        return Layout(name=section, size=size, fields=tuple(fields))

    def layout(self, type_id: int) -> Layout:
        """The layout of a type by id: a struct's fields, a scalar named '', or nothing of void."""
        if type_id == VOID:
            return Layout(name="void", size=0, fields=())
        bare = self._types[self._bare(type_id)]
        fields = tuple(self._fields("", type_id, 0))
        return Layout(name=bare.name, size=self._size(type_id), fields=fields)

    def _read_types(self, data: bytes) -> Iterator[_Type]:
        at = 0
        while at < len(data):
            name, info, size_or_type = _words(data[at : at + TYPE_BYTES])
            kind = info >> 24 & 0x1F
            extra = MEMBER_BYTES.get(_kind(kind), 0) * (info & 0xFFFF)
            extra += FIXED_BYTES.get(_kind(kind), 0)
            at += TYPE_BYTES
            yield _Type(
                name=self._name(name),
                kind=kind,
                size_or_type=size_or_type,
                words=_words(data[at : at + extra]),
            )
            at += extra

    def _name(self, offset: int) -> str:
        return self._text[offset : self._text.index(0, offset)].decode()

    def _section(self, name: str) -> Iterator[tuple[_Type, int]]:
        """Variables of a section with their offsets."""
        for kind in self._types:
            if kind.kind == _Kind.DATASEC and kind.name == name:
                for at in range(0, len(kind.words), 3):
                    yield self._types[kind.words[at]], kind.words[at + 1]

    def _members(self, kind: _Type) -> Iterator[tuple[str, int, int]]:
        """Name, type id and offset in bytes of a struct's members."""
        for at in range(0, len(kind.words), 3):
            name, type_id, bits = kind.words[at : at + 3]
            yield self._name(name), type_id, (bits & 0xFFFFFF) // 8

    def _enum_names(self, kind: _Type) -> tuple[tuple[int, str], ...]:
        pairs = range(0, len(kind.words), 2)
        return tuple((kind.words[at + 1], self._name(kind.words[at])) for at in pairs)

    def _bare(self, type_id: int) -> int:
        while self._types[type_id].kind in MODIFIERS:
            type_id = self._types[type_id].size_or_type
        return type_id

    def _is_network_order(self, type_id: int) -> bool:
        while self._types[type_id].kind in MODIFIERS:
            if self._types[type_id].name in NETWORK_ORDER_TYPES:
                return True
            type_id = self._types[type_id].size_or_type
        return False

    def _size(self, type_id: int) -> int:
        kind = self._types[self._bare(type_id)]
        if kind.kind == _Kind.ARRAY:
            return self._size(kind.words[0]) * kind.words[2]
        return kind.size_or_type

    def _fields(self, name: str, type_id: int, offset: int) -> Iterator[Field]:
        """Fields of a type at an offset. A struct of one member is that member."""
        kind = self._types[self._bare(type_id)]
        size = self._size(type_id)
        match kind.kind:
            case _Kind.STRUCT:
                members = tuple(self._members(kind))
                for member, member_type, member_offset in members:
                    inner = name if name and len(members) == 1 else _joined(name, member)
                    yield from self._fields(inner, member_type, offset + member_offset)
            case _Kind.ENUM:
                names = self._enum_names(kind)
                yield Field(name=name, offset=offset, size=size, kind=FieldKind.ENUM, names=names)
            case _Kind.ARRAY:
                yield Field(name=name, offset=offset, size=size, kind=FieldKind.OCTETS)
            case _Kind.INT:
                order = FieldKind.UNSIGNED
                if self._is_network_order(type_id):
                    order = FieldKind.NETWORK
                elif kind.words[0] & SIGNED_BIT:
                    order = FieldKind.SIGNED
                yield Field(name=name, offset=offset, size=size, kind=order)
            case _:
                raise BtfError(f"field {name or kind.name} has a type that maps cannot carry")

    def _map(self, name: str, kind: _Type) -> MapShape:
        """A map's declaration: numbers are array lengths, types are pointers (libbpf's dialect).

        A ring buffer has neither keys nor values: both are void.
        """
        members = {member: type_id for member, type_id, _ in self._members(kind)}
        key, value = self._target(members["key"]) if "key" in members else VOID, VOID
        inner: MapShape | None = None
        if "values" in members:
            template = self._target(self._types[members["values"]].words[0])
            inner = self._map(f"{name}.inner", self._types[template])
            value_layout = self.layout(key)  # an inner map's id, the size of an index
        else:
            value = self._target(members["value"]) if "value" in members else VOID
            value_layout = self.layout(value)
        return MapShape(
            name=name,
            type=self._number(members["type"]),
            max_entries=self._number(members["max_entries"]),
            flags=self._number(members["map_flags"]) if "map_flags" in members else 0,
            key=self.layout(key),
            value=value_layout,
            inner=inner,
            key_type_id=key,
            value_type_id=value,
        )

    def _target(self, pointer: int) -> int:
        return self._types[pointer].size_or_type

    def _number(self, pointer: int) -> int:
        return self._types[self._target(pointer)].words[2]


def _kind(number: int) -> _Kind:
    """A kind that carries something after its head, or PTR, which carries nothing."""
    return _Kind(number) if number in _Kind.__members__.values() else _Kind.PTR


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _words(data: bytes) -> tuple[int, ...]:
    return tuple(
        int.from_bytes(data[at : at + 4], HOST_ORDER) for at in range(0, len(data) // 4 * 4, 4)
    )


@lru_cache(maxsize=4)
def read_btf(data: bytes) -> Btf:
    """The types of these bytes; those of an object are asked for once a map, and read once."""
    return Btf(data)
