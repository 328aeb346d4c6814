"""Counters taken over by a version that counts otherwise: by name, so that none is misread.

Owns when a pinned counter map cannot be shared by two versions, and the copying of its sums into
the new one. Called by program.py. A map that is no counter is never copied: it fits, or is refused.
"""

from dataclasses import replace

from bpf import libbpf
from bpf.btf import Btf, read_btf
from bpf.errors import LayoutMismatchError
from bpf.layout import BtfError, FieldKind, MapShape
from bpf.maps import BPF_MAP_TYPE_PERCPU_ARRAY, Map, check_layout

BPF_MAP_TYPE_RINGBUF = 27
RENEWABLE = (BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_RINGBUF)  # what a program only writes
VERDICTS = "verdicts"


def must_be_renewed(fd: int, shape: MapShape, btf: Btf) -> bool:
    """Whether a pinned counter counts otherwise. LayoutMismatchError for any other map that does
    not fit."""
    try:
        check_layout(fd, shape)
    except LayoutMismatchError:
        if shape.type in RENEWABLE and libbpf.map_info(fd).type == shape.type:
            return True
        raise
    return shape.name == VERDICTS and _names(fd, shape) != _wanted_names(shape, btf)


def carry_sums(fd: int, new: Map, btf: Btf) -> None:
    """Adds up an old counter map into the new one: verdicts by name, fields by name."""
    info = libbpf.map_info(fd)
    if new.shape.type != BPF_MAP_TYPE_PERCPU_ARRAY or not info.btf_id:
        return
    layout = read_btf(libbpf.btf_by_id(info.btf_id)).layout(info.value_type_id)
    if any(field.kind is FieldKind.OCTETS for field in layout.fields):
        return  # a place to work in, not a counter
    old = Map(fd, replace(new.shape, value=layout, max_entries=info.max_entries))
    places = {index: index for index in range(min(info.max_entries, new.shape.max_entries))}
    if new.shape.name == VERDICTS:
        wanted = {name: index for index, name in enumerate(_wanted_names(new.shape, btf))}
        names = enumerate(_names(fd, old.shape))
        places = {index: wanted[name] for index, name in names if name in wanted}
    for index, place in places.items():
        sums = old.sums(index)
        if any(sums.values()):
            new.put_sums(place, {name: sums.get(name, 0) for name in new.sums(place)})


def _wanted_names(shape: MapShape, btf: Btf) -> tuple[str, ...]:
    named = dict(btf.enum("verdict"))
    return tuple(named[index] for index in range(shape.max_entries))


def _names(fd: int, shape: MapShape) -> tuple[str, ...]:
    """The verdicts of a pinned map, as its own version named them; empty when it does not tell."""
    info = libbpf.map_info(fd)
    try:
        named = dict(read_btf(libbpf.btf_by_id(info.btf_id)).enum("verdict")) if info.btf_id else {}
    except BtfError:
        return ()
    return tuple(named.get(index, "") for index in range(shape.max_entries))
