"""The real's end of the tunnel: real.bpf.c on its interface, and what its maps hold.

Owns loading, attaching and filling that program; pins keep it working while the agent is away.
Called by `edge_lb.real_agent`. Raises the errors of `bpf.errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bpf import program
from bpf.maps import Counter, Map
from edge_lb.datapath import GUE_PORT
from edge_lb.devices import write_devices, write_vlans
from edge_lb.flow import address_from_octets, address_octets
from edge_lb.peers import write_peers
from edge_lb.plan import NextHop, VlanDevice
from gslb.fleet.model import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeHeard:
    """What an edge's owner chains told; `seen_s` is of the monotonic clock."""

    address: Address
    generation: int
    packets: int
    seen_s: float


class Unwrapper:
    """The program of one interface. `close` leaves it working, `unload` takes it off."""

    def __init__(self, interface: str, pin_dir: Path) -> None:
        self._interface = interface
        self._pin_dir = pin_dir
        self._program: program.Program | None = None

    @property
    def is_open(self) -> bool:
        """Whether the program is loaded by this process."""
        return self._program is not None

    def open(self) -> bool:
        """Load and attach; True when the pins of an earlier start were taken over."""
        self._program = program.Program.load("real", pin_dir=self._pin_dir)
        return self._program.attach(self._interface, self._pin_dir)

    def apply(self, tunnels: Iterable[Address], vips: Iterable[Address]) -> None:
        """Unwrap what edges send to `tunnels` for `vips`, and drop by name what is for others."""
        maps = self._maps()
        settings = maps["settings"]
        settings.put_at(0, settings.shape.value.pack(gue_port=GUE_PORT))
        _fill(maps["bound_vips"], vips)
        _fill(maps["tunnels"], tunnels)

    def lead(
        self, peers: Iterable[Address], hops: Mapping[Address, NextHop], vlans: Iterable[VlanDevice]
    ) -> None:
        """Packets of owner chains may be handed on to `peers` alone, by these ways."""
        maps = self._maps()
        write_devices(maps["devices"], hops.values())
        write_vlans(maps["vlans"], vlans)
        write_peers(maps["peers"], peers, hops)

    def look_into(self, namespaces: Iterable[int]) -> None:
        """Ask the sockets of these network namespaces too, by their numbers; a few at most."""
        held = self._maps()["socket_namespaces"]
        layout = held.shape.value
        ids = [layout.pack(id=number, is_used=1) for number in namespaces][: held.shape.max_entries]
        unused = layout.pack(id=0, is_used=0)
        for index in range(held.shape.max_entries):
            held.put_at(index, ids[index] if index < len(ids) else unused)

    def verdicts(self) -> dict[str, Counter]:
        """Every verdict by name, those at zero too; empty while no program is loaded."""
        if self._program is None:
            return {}
        counters = self._program.maps["verdicts"]
        names = self._program.verdict_names()
        return {name: counters.total(index) for index, name in enumerate(names)}

    def depths(self) -> list[Counter]:
        """Packets of owner chains whose flow was found here, by how many reals had them before."""
        if self._program is None:
            return []
        held = self._program.maps["depths"]
        return [held.total(index) for index in range(held.shape.max_entries)]

    def heard(self) -> list[EdgeHeard]:
        """The edges that sent packets with owner chains."""
        if self._program is None:
            return []
        held = self._program.maps["edges_heard"]
        found = []
        for key in tuple(held.keys()):
            each = held.each_cpu(key)
            if each:
                last = max(each, key=lambda record: record.integer("seen_ns"))
                found.append(
                    EdgeHeard(
                        address=address_from_octets(key),
                        generation=last.integer("generation"),
                        packets=sum(record.integer("packets") for record in each),
                        seen_s=last.integer("seen_ns") / 1e9,
                    )
                )
        return sorted(found, key=lambda edge: (edge.address.version, edge.address))

    def close(self) -> None:
        """Give back the descriptors; packets go on."""
        if self._program is not None:
            self._program.close()
            self._program = None

    def unload(self) -> bool:
        """Detach and remove every pin; tells whether there was any."""
        self.close()
        return program.unload(self._pin_dir)

    def _maps(self) -> dict[str, Map]:
        if self._program is None:
            raise RuntimeError("the program is not open")
        return self._program.maps


def _fill(held: Map, wanted: Iterable[Address]) -> None:
    """Make a set of addresses hold exactly these; additions first."""
    keys = {address_octets(address) for address in wanted}
    for key in keys:
        held.put(key, held.shape.value.scalar(1))
    for key in tuple(held.keys()):
        if key not in keys:
            held.delete(key)
