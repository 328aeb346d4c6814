"""Who owned what, as records that cross the store: what owner chains are computed from.

Owns two records. `EdgeHistory` is one edge's word on who held slots of each VIP, and since when;
the union over a site's edges is the agreed history, from which each computes the same chains.
`RealReport` is a real server's word on the flows it holds, by slot, so that a chain may forget an
earlier owner as soon as nothing is left there. Never reads a clock; times are Unix seconds.
"""

from __future__ import annotations

import zlib

import msgspec

SLOT_COUNT_MAX = 255  # of flows that a report tells of one slot: more are told as so many


class Turn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `at_s` on the ring was made of these reals, and of no other."""

    at_s: float
    weights: dict[str, int]


class VipHistory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members of one VIP's ring: `members` before all turns, oldest turn first."""

    name: str
    members: dict[str, int]
    turns: tuple[Turn, ...] = ()


class EdgeHistory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one edge's rings were made of. `generation` grows with every change, and never falls."""

    site: str
    edge: str
    generation: int
    vips: tuple[VipHistory, ...]


class VipFlows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The flows of one VIP that a real server holds now, and the start of the oldest that is known.

    `slots` is one octet for each slot of a ring, the number of its flows, in zlib.
    """

    vip: str
    flows: int
    oldest_s: float | None
    slots: bytes


class RealReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All flows that one real server holds, as counted at `observed_at_s`."""

    site: str
    real: str
    generation: int
    sequence: int
    observed_at_s: float
    vips: tuple[VipFlows, ...]


def pack_slots(counts: bytes) -> bytes:
    """One octet for each slot, made small."""
    return zlib.compress(counts, 1)


def unpack_slots(packed: bytes, slots: int) -> bytes:
    """What `pack_slots` was given. ValueError unless it is `slots` octets in zlib."""
    reader = zlib.decompressobj()
    try:
        counts = reader.decompress(packed, slots + 1)
    except zlib.error as error:
        raise ValueError(f"slots are not zlib: {error}") from None
    if len(counts) != slots:
        raise ValueError(f"{len(counts)} slots are told, of {slots}")
    return counts
