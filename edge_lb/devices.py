"""The interfaces that packets leave by, in the maps of a program.

Owns what two maps of bpf/way_out.h hold: the carriers of next hops, for redirection in batches, and
the VLAN devices that the kernel's FIB may name. Called by `edge_lb.datapath` when it applies a
plan. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bpf.layout import FieldValue
from bpf.maps import Map
from edge_lb.plan import NextHop, VlanDevice, VlanTag

NO_TAG = VlanTag(protocol=0, tci=0)
NO_HOP = NextHop(ifindex=0, mtu=0, destination=bytes(6), source=bytes(6), is_direct=False)


def hop_fields(hop: NextHop, prefix: str = "") -> dict[str, FieldValue]:
    """The fields of a record that say how a frame gets there."""
    return {
        f"{prefix}ifindex": hop.ifindex,
        f"{prefix}mtu": hop.mtu,
        f"{prefix}destination": hop.destination,
        f"{prefix}source": hop.source,
        **tag_fields(hop.tags, prefix),
    }


def tag_fields(tags: tuple[VlanTag, ...], prefix: str = "") -> dict[str, FieldValue]:
    """The fields of a record that say which tags a frame gets."""
    fields: dict[str, FieldValue] = {}
    for name, tag in zip(("outer", "inner"), (*tags, NO_TAG, NO_TAG), strict=False):
        fields[f"{prefix}{name}.protocol"] = tag.protocol
        fields[f"{prefix}{name}.tci"] = tag.tci
    return fields


def write_devices(devices: Map, hops: Iterable[NextHop]) -> None:
    """The interfaces that next hops leave by. A device that has gone leaves by itself."""
    scalar = devices.shape.key.scalar
    indexes = {hop.ifindex for hop in hops}
    _write(devices, {scalar(index): scalar(index) for index in indexes})


def write_vlans(vlans: Map, known: Iterable[VlanDevice]) -> None:
    """What sending by each VLAN device means."""
    key, value = vlans.shape.key, vlans.shape.value
    _write(
        vlans,
        {
            key.scalar(device.ifindex): value.pack(
                ifindex=device.carrier, **tag_fields(device.tags)
            )
            for device in known
        },
    )


def _write(target: Map, wanted: Mapping[bytes, bytes]) -> None:
    held = set(target.keys())
    for key, value in wanted.items():
        record = target.get(key) if key in held else None
        if record is None or dict(record) != dict(target.shape.value.unpack(value)):
            target.put(key, value)
    for key in held - wanted.keys():
        target.delete(key)
