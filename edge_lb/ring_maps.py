"""The rings in the kernel: the narrow one of every VIP, and the wide ones of VIPs with chains.

Owns the maps `rings` and `chains`: what differs is put into a new map each and swapped in by one
pointer write. Used by `edge_lb.datapath`, which orders it with the table of services, where a bit
of each VIP says which of its rings counts. Blocks for milliseconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from contextlib import ExitStack

from bpf.maps import Map
from bpf.program import Program
from edge_lb.plan import CHAIN_OWNERS

SLOT_BYTES = 2
RINGS_AT_ONCE = 32  # half a megabyte each at most, held twice while they are swapped
NARROW, WIDE = "rings", "chains"


class RingMaps:
    """The rings of one loaded program."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._known: dict[str, dict[int, array[int]]] = {  # as last written or read
            NARROW: {},
            WIDE: {index: array("H") for index in self._filled(WIDE)},
        }

    def ring(self, vip_index: int) -> array[int]:
        """The narrow ring of a VIP as the kernel has it; empty when there is none."""
        return self._read(NARROW, vip_index)

    def chains(self, vip_index: int) -> array[int]:
        """The wide ring of a VIP, CHAIN_OWNERS indexes a slot; empty when there is none."""
        return self._read(WIDE, vip_index)

    def real(self, vip_index: int, slot: int) -> int:
        """The real that a VIP's narrow ring has in a slot; 0 for none."""
        return self._value(NARROW, vip_index, slot, 1)[0]

    def owners(self, vip_index: int, slot: int) -> tuple[int, ...]:
        """Who a VIP's wide ring has in a slot: the owner, then earlier ones; 0 for none."""
        return self._value(WIDE, vip_index, slot, CHAIN_OWNERS)

    def write_narrow(self, rings: Mapping[int, array[int]]) -> None:
        """Makes these the narrow rings of their VIPs, by index."""
        self._write(NARROW, rings)

    def write_wide(self, chains: Mapping[int, array[int]]) -> None:
        """Makes these the wide rings of their VIPs, by index."""
        self._write(WIDE, chains)

    def remove_wide(self, but: Mapping[int, array[int]]) -> None:
        """Gives back the wide rings of all other VIPs; no service may name one any more."""
        for index in self._known[WIDE].keys() - but.keys():
            self._remove(WIDE, index)

    def remove(self, vip_index: int) -> None:
        """Gives back the narrow ring of a VIP that has gone."""
        self._remove(NARROW, vip_index)

    def _remove(self, outer: str, index: int) -> None:
        self._program.maps[outer].delete_at(index)
        self._known[outer].pop(index, None)

    def _filled(self, outer: str) -> tuple[int, ...]:
        held = self._program.maps[outer]
        return tuple(held.filled(range(held.shape.max_entries)))

    def _read(self, outer: str, index: int) -> array[int]:
        values = array("H")
        inner = self._program.maps[outer].inner(index)
        if inner is not None:
            with inner:
                values.frombytes(inner.dump())
        return values

    def _value(self, outer: str, index: int, slot: int, count: int) -> tuple[int, ...]:
        """So many indexes of a slot, as they lie side by side."""
        inner = self._program.maps[outer].inner(index)
        if inner is None:
            return (0,) * count
        with inner:
            first = slot * count
            together = inner.shape.value.size // SLOT_BYTES
            (field,) = inner.shape.value.fields
            octets = inner.at(first // together).octets(field.name)
        at = first % together
        return tuple(array("H", octets)[at : at + count])

    def _write(self, outer: str, wanted: Mapping[int, array[int]]) -> None:
        """Puts every ring that differs into a new map each, and swaps the pointers."""
        known = self._known[outer]
        for index in wanted:
            if not known.get(index):  # an earlier start's; later ones are known
                read = self.ring if outer == NARROW else self.chains
                known[index] = read(index)
        changed = [index for index, ring in wanted.items() if known[index] != ring]
        for some in (
            changed[at : at + RINGS_AT_ONCE] for at in range(0, len(changed), RINGS_AT_ONCE)
        ):
            with ExitStack() as stack:
                inners: dict[int, Map] = {}
                for index in some:
                    known[index] = array("H")  # until it is sure
                    inners[index] = stack.enter_context(self._program.new_inner(outer))
                    inners[index].fill(wanted[index].tobytes())
                self._program.maps[outer].set_inners(inners)
            known.update({index: wanted[index] for index in some})
