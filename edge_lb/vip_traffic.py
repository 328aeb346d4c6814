"""What a real receives for each of its VIPs and what it sends from it: traffic.bpf.c, both ways.

Owns loading, attaching and filling that program, and its sums. Called by `edge_lb.real_agent`.
Filters and pins keep it counting while the agent is away; it never changes a packet's way. Raises
the errors of `bpf.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute

from bpf import program
from bpf.maps import Counter, Map
from edge_lb import hooks
from edge_lb.flow import address_from_octets, address_octets
from gslb.fleet.model import Address
from gslb.service.metrics import Registry, Supplier


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """One VIP address, all its ports together, since it was bound."""

    received: Counter
    sent: Counter


_NOT_KNOWN = Counter(packets=-1, bytes=-1)
UNKNOWN = Traffic(received=_NOT_KNOWN, sent=_NOT_KNOWN)


def traffic_pins(pin_dir: Path) -> Path:
    """Where the pins are: beside those of real.bpf.c, which come and go with the tunnels."""
    return pin_dir.with_name(f"{pin_dir.name}-traffic")


class VipTraffic:
    """The counting of one interface. `close` leaves it counting, `unload` takes it off."""

    def __init__(self, interface: str, pin_dir: Path) -> None:
        self._interface = interface
        self._pin_dir = traffic_pins(pin_dir)
        self._what = f"counting on {interface}"
        self._ways: dict[int, program.Program] = {}
        self._is_counting = False

    def apply(self, vips: Iterable[Address]) -> None:
        """Count for exactly these, on this interface alone, whatever became of the filters."""
        try:
            self._apply(vips)
        except BaseException:
            self._is_counting = False
            raise
        self._is_counting = True

    def totals(self) -> dict[Address, Traffic]:
        """Each bound VIP's, those at zero too; empty while nothing is counted."""
        if not self._is_counting:
            return {}
        held = self._map
        return {address_from_octets(key): _traffic(held.sums_of(key)) for key in tuple(held.keys())}

    def close(self) -> None:
        """Give back the descriptors; packets are counted on."""
        self._is_counting = False
        for loaded in self._ways.values():
            loaded.close()
        self._ways = {}

    def unload(self) -> bool:
        """Take the filters off and remove every pin; tells whether there was any."""
        self.close()
        found = self._detach()
        return program.unload(self._pin_dir) or found

    @property
    def _name(self) -> str:
        """Of our filters, by which they are known again."""
        return str(self._pin_dir)

    @property
    def _map(self) -> Map:
        return self._ways[hooks.INGRESS].maps["vip_traffic"]

    def _apply(self, vips: Iterable[Address]) -> None:
        if not self._ways:
            self._open()
        _fill(self._map, vips)
        index = program.interface_index(self._interface)
        with hooks.translated(self._what), IPRoute() as ip:
            for hook, loaded in self._ways.items():
                hooks.attach(ip, index, hook, loaded.fd, self._name)

    def _open(self) -> None:
        """Load both copies, and leave no filter where an earlier configuration had it."""
        with ExitStack() as stack:
            into = stack.enter_context(program.Program.load("traffic", pin_dir=self._pin_dir))
            out = stack.enter_context(
                program.Program.load("traffic", constants={"is_way_out": 1}, shared=into.maps)
            )
            self._detach(but=program.interface_index(self._interface))
            stack.pop_all()
        self._ways = {hooks.INGRESS: into, hooks.EGRESS: out}

    def _detach(self, *, but: int = 0) -> bool:
        """Take our filters off every interface but one."""
        found = False
        with hooks.translated(self._what), IPRoute() as ip:
            for link in ip.get_links():
                if link["index"] != but:
                    found |= hooks.detach(ip, link["index"], self._name)
        return found


def register_traffic(registry: Registry, traffic: VipTraffic) -> None:
    """The metrics of both ways; the label `vip` is the address."""

    def supplier(pick: Callable[[Traffic], int]) -> Supplier:
        return lambda: [
            ({"vip": str(vip)}, pick(counted)) for vip, counted in traffic.totals().items()
        ]

    registry.register(
        "real_vip_received_packets",
        "packets given to the stack for a VIP address",
        "counter",
        supplier(lambda counted: counted.received.packets),
    )
    registry.register(
        "real_vip_received_bytes",
        "bytes given to the stack for a VIP address",
        "counter",
        supplier(lambda counted: counted.received.bytes),
    )
    registry.register(
        "real_vip_sent_packets",
        "packets sent from a VIP address",
        "counter",
        supplier(lambda counted: counted.sent.packets),
    )
    registry.register(
        "real_vip_sent_bytes",
        "bytes sent from a VIP address",
        "counter",
        supplier(lambda counted: counted.sent.bytes),
    )


def _traffic(sums: dict[str, int]) -> Traffic:
    return Traffic(
        received=Counter(packets=sums["received.packets"], bytes=sums["received.bytes"]),
        sent=Counter(packets=sums["sent.packets"], bytes=sums["sent.bytes"]),
    )


def _fill(held: Map, vips: Iterable[Address]) -> None:
    """An entry for each of these and no other; what is counted already stays."""
    wanted = {address_octets(vip) for vip in vips}
    present = set(held.keys())
    for key in wanted - present:
        held.put_zeros(key)
    for key in present - wanted:
        held.delete(key)
