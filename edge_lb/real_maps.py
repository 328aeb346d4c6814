"""The reals in the kernel: written so that no packet meets half of one, and freed.

Owns the map `reals` and the counters beside it. Used by `edge_lb.datapath`, which orders it with
rings and services. Blocks for as long as its system calls take.
"""

from __future__ import annotations

from collections.abc import Iterable

from bpf.layout import FieldValue
from bpf.program import Program
from edge_lb.devices import NO_HOP
from edge_lb.held import HeldReal, real_value
from edge_lb.plan import PlannedReal


def write_reals(program: Program, reals: Iterable[PlannedReal]) -> None:
    """Makes the map say what is planned of these."""
    for real in reals:
        _write(program, real)


def retire_reals(
    program: Program, held: Iterable[HeldReal], planned: Iterable[PlannedReal]
) -> None:
    """Frees indexes, keeping their epochs: the next owner must have a later one."""
    reals = program.maps["reals"]
    layout = reals.shape.value
    freed = layout.unpack(bytes(layout.size))
    kept = {real.index for real in planned}
    for real in held:
        if real.index not in kept and real.address is not None:
            reals.put_at(real.index, layout.pack(**{**freed, "epoch": real.epoch}))


def _write(program: Program, real: PlannedReal) -> None:
    """Writes a real. What a packet may not see half of has its switch off meanwhile."""
    reals = program.maps["reals"]
    layout = reals.shape.value
    old, new = reals.at(real.index), real_value(layout, real)
    if dict(old) == dict(new):
        return
    is_new_owner = old["epoch"] != new["epoch"] or old["address"] != new["address"]
    off: dict[str, FieldValue] = {"hop.ifindex": NO_HOP.ifindex}
    if is_new_owner:
        off["state"] = "REAL_DOWN"
    reals.put_at(real.index, layout.pack(**{**old, **off}))
    reals.put_at(real.index, layout.pack(**{**new, **off}))
    if is_new_owner:
        counters = program.maps["real_counters"]
        counters.put_at(real.index, bytes(counters.shape.value.size))
    reals.put_at(real.index, layout.pack(**new))
