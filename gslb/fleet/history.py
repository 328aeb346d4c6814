"""Who owned what, as records that cross the store: what owner chains are computed from.

Owns two records. `EdgeHistory` is one edge's word on who held slots of each VIP, and since when;
the union over a site's edges is the agreed history, from which each computes the same chains.
`RealReport` is a real server's word on the flows it holds, by slot, so that a chain may forget an
earlier owner as soon as nothing is left there. Never reads a clock; times are Unix seconds.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from math import inf, isfinite

import msgspec

SLOT_COUNT_MAX = 255  # of flows that a report tells of one slot: more are told as so many
WEIGHT_MAX = 65_535  # of a real, as fleet.toml may say it


class Turn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changed at `at_s`: who came or weighs otherwise since, and with 0 who left.

    ValueError: nobody, a weight that no real may have, or no moment.
    """

    at_s: float
    changed: dict[str, int]

    def __post_init__(self) -> None:
        if not self.changed or not isfinite(self.at_s):
            raise ValueError(f"a turn at {self.at_s} of {len(self.changed)} reals")
        _check_weights(self.changed, lowest=0)


class VipHistory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members of one VIP's ring: all of them before all turns, then the turns, oldest first.

    `coming` is what its next planned turn will change, told before it is made. ValueError: a time
    that falls, a turn that leaves a real as it was, a member without a weight.
    """

    name: str
    members: dict[str, int]
    turns: tuple[Turn, ...] = ()
    coming: dict[str, int] = {}

    def __post_init__(self) -> None:
        _check_weights(self.members, lowest=1)
        members, at_s = dict(self.members), -inf
        for turn in self.turns:
            if turn.at_s < at_s:
                raise ValueError(f"a turn at {turn.at_s} after one at {at_s}")
            at_s = turn.at_s
            _check_changes(members, turn.changed, f"the turn at {at_s}")
            members |= turn.changed
        _check_weights(self.coming, lowest=0)
        _check_changes(members, self.coming, "the coming turn")


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


def changed_between(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What a turn tells that makes `after` of `before`; empty if they are alike."""
    found = {real: 0 for real in sorted(before) if real not in after}
    return found | {
        real: weight for real, weight in sorted(after.items()) if before.get(real) != weight
    }


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


def _check_changes(members: Mapping[str, int], changed: Mapping[str, int], what: str) -> None:
    for real, weight in changed.items():
        if members.get(real, 0) == weight:
            raise ValueError(f"{what} leaves {real} as it was")


def _check_weights(members: Mapping[str, int], *, lowest: int) -> None:
    for real, weight in members.items():
        if not lowest <= weight <= WEIGHT_MAX:
            raise ValueError(f"{real} weighs {weight}")
