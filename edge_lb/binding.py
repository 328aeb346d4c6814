"""The VIPs of a real as addresses of its own.

Owns adding and removing /32 and /128 addresses by netlink. It removes only what it added: the list
is a file in the state directory. Called by `edge_lb.real_agent`, after the kernel settings that
keep a real silent about them.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import msgspec
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from gslb.fleet.model import Address, Fleet, RealName
from gslb.service.lifecycle import ExitCode, Refused

FILE = "bound.json"
_NODAD = 0x02  # IFA_F_NODAD: an IPv6 VIP is on many hosts by design


class Bound(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this agent added: the interface and its addresses."""

    interface: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingChange:
    """What one call did."""

    added: tuple[Address, ...]
    removed: tuple[Address, ...]


def vips_of_real(fleet: Fleet, name: RealName) -> tuple[Address, ...]:
    """The addresses of every VIP that names this real, each once, in order."""
    return tuple(
        sorted(
            {vip.address for vip in fleet.vips.values() if name in vip.reals},
            key=lambda address: (address.version, address),
        )
    )


class Binding:
    """Addresses on one interface, in this network namespace; without one: on none."""

    def __init__(self, interface: str, state_dir: Path) -> None:
        self._interface = interface
        self._path = state_dir / FILE

    def bind(self, wanted: Iterable[Address]) -> BindingChange:
        """Add what is wanted and missing, remove what we added and is wanted no more.

        An address that was there before us is used and never removed. Refused(NOT_ROOT) without
        the right to change addresses.
        """
        wanted = tuple(wanted) if self._interface else ()
        kept = self._kept()
        if kept.interface != self._interface:
            self._remove(kept.interface, kept.addresses)
            kept = Bound(interface=self._interface)
        if not self._interface:
            self._keep(kept)
            return BindingChange(added=(), removed=())
        stale = [text for text in kept.addresses if ip_address(text) not in wanted]
        removed = self._remove(self._interface, stale)
        with IPRoute() as route:
            index = socket.if_nametoindex(self._interface)
            present = {
                ip_address(found.get_attr("IFA_ADDRESS")) for found in route.get_addr(index=index)
            }
            added = tuple(address for address in wanted if address not in present)
            ours = {ip_address(text) for text in kept.addresses} & set(wanted)
            # Told before done: what a crash leaves half-way is still known as ours.
            self._keep(Bound(interface=self._interface, addresses=_texts({*ours, *added})))
            for address in added:
                _change(route, "add", index, address)
        return BindingChange(added=added, removed=removed)

    def undo(self) -> tuple[Address, ...]:
        """Remove every address that we added."""
        kept = self._kept()
        removed = self._remove(kept.interface, kept.addresses)
        self._path.unlink(missing_ok=True)
        return removed

    def _remove(self, interface: str, texts: Iterable[str]) -> tuple[Address, ...]:
        """Remove these; what is gone already, with its interface or without, does not count."""
        try:
            index = socket.if_nametoindex(interface) if interface else 0
        except OSError:
            return ()
        removed: list[Address] = []
        with IPRoute() as route:
            for text in texts:
                address = ip_address(text)
                if _change(route, "del", index, address):
                    removed.append(address)
        return tuple(removed)

    def _kept(self) -> Bound:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Bound)
        except (FileNotFoundError, msgspec.DecodeError):
            return Bound()

    def _keep(self, bound: Bound) -> None:
        draft = self._path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(bound))
        draft.replace(self._path)


def _texts(addresses: Iterable[Address]) -> tuple[str, ...]:
    return tuple(sorted(str(address) for address in addresses))


def _change(route: IPRoute, verb: str, index: int, address: Address) -> bool:
    """Add or delete one host address; False if it was so already."""
    flags = {"flags": _NODAD} if address.version == 6 else {}
    try:
        route.addr(
            verb, index=index, address=str(address), prefixlen=address.max_prefixlen, **flags
        )
    except NetlinkError as error:
        if error.code in (errno.EEXIST, errno.EADDRNOTAVAIL):
            return False
        if error.code == errno.EPERM:
            text = f"binding {address} was not permitted; run as root"
            raise Refused(ExitCode.NOT_ROOT, text) from None
        raise OSError(error.code, f"binding {address}: {os.strerror(error.code)}") from error
    return True
