"""The way that health probes take: an interface of the agent's own, and probe.bpf.c at its exit.

Owns the interface, the routing rule that leads marked packets to it, and the program. Used by
`edge_lb.edge_daemon`. The interface lives as long as this process holds it, for nobody else probes;
the rule and a route that refuses stay, so that a marked packet never leaves by another way: it
would reach some real through another edge, and prove nothing. `forget` takes both away.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError

from bpf import program
from bpf.errors import BpfError, KernelTooOldError
from bpf.maps import Counter, Map
from edge_lb import hooks
from gslb.service import log

INTERFACE = "waypost-probe"
MTU = 1280  # what IPv6 must carry at least (RFC 8200): wrapped, it fits every path
TABLE = 22352  # routing table, and the rule's priority below: 0x5750, "WP"
PRIORITY = 5750
PREFERRED, ANY_SOURCE, REFUSE = 1, 2, 3  # metrics
KEEP_S = 2.0  # how often rule and routes are made again, which others may have removed
_ANYWHERE = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}
_TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x1002  # IFF_TAP, IFF_NO_PI
_UP_WITHOUT_ARP = 0x81  # IFF_UP, IFF_NOARP
_U32 = 0xFFFFFFFF
_IPV6 = Path("/proc/sys/net/ipv6")
_WHAT = f"the way of health probes ({INTERFACE})"


class Prober:
    """The probes' way out of one edge; a Part. `open` before all else, `close` ends it.

    `trouble` says in words why the rule and routes could not be kept, empty while they are.
    """

    def __init__(self, interface: str) -> None:
        self.trouble = ""
        self._edge_interface = interface
        self._owner = self._seat_bits = 0
        self._tap = -1
        self._program: program.Program | None = None

    def open(self, lb_maps: Mapping[str, Map]) -> None:
        """Make the interface, its rule and routes, and attach. Raises the errors of bpf.errors.

        `lb_maps` are those of the loaded lb.bpf.c, which say where each seat's real is.
        """
        edge_index = program.interface_index(self._edge_interface)
        self._program = program.Program.load(
            "probe",
            constants={"edge_ifindex": edge_index},
            shared={name: lb_maps[name] for name in ("reals", "settings")},
        )
        marks = {name: number for number, name in self._program.btf.enum("probe_mark")}
        self._owner, self._seat_bits = marks["PROBE_MARK_OWNER"], marks["PROBE_MARK_SEAT_BITS"]
        try:
            self._tap = _open_tap()
            with hooks.translated(_WHAT), IPRoute() as ip:
                self._attach(ip)
            self.keep()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the interface and the program. Marked packets are refused from here on."""
        if self._program is not None:
            self._program.close()
            self._program = None
        if self._tap >= 0:
            os.close(self._tap)
            self._tap = -1

    def mark(self, seat: int) -> int:
        """The mark (SO_MARK) of a socket whose packets go to the real of that seat."""
        return self._owner | seat

    def verdicts(self) -> dict[str, Counter]:
        """Every verdict of probe.bpf.c by name, those at zero too; since this start."""
        counters = self._loaded.maps["verdicts"]
        names = self._loaded.verdict_names()
        return {name: counters.total(index) for index, name in enumerate(names)}

    @property
    def _loaded(self) -> program.Program:
        if self._program is None:
            raise RuntimeError("the prober is not open")
        return self._program

    async def run(self) -> None:
        """Keep the rule and the routes, until cancelled; others may flush what is not theirs."""
        while True:
            await asyncio.sleep(KEEP_S)
            try:
                await asyncio.to_thread(self.keep)
            except BpfError as error:
                if not self.trouble:
                    log.get().warning("probes.not_kept", reason=str(error))
                self.trouble = str(error)
            else:
                self.trouble = ""

    def keep(self) -> None:
        """Make the rule and the routes what they must be, whatever became of them.

        The kernel drops the preferred route with the address that it names; then the kernel chooses
        a source, until the address is back. Raises the errors of bpf.errors.
        """
        edge_index = program.interface_index(self._edge_interface)
        with hooks.translated(_WHAT), IPRoute() as ip:
            (index,) = ip.link_lookup(ifname=INTERFACE)
            for family in _families():
                where = {"family": family, "dst": _ANYWHERE[family], "table": TABLE}
                ip.route("replace", type="unreachable", priority=REFUSE, **where)
                self._add_rule(ip, family)
                ip.route("replace", oif=index, priority=ANY_SOURCE, **where)
                source = _own_address(ip, edge_index, family)
                if source is not None:
                    ip.route("replace", oif=index, prefsrc=source, priority=PREFERRED, **where)

    def _attach(self, ip: IPRoute) -> None:
        (index,) = ip.link_lookup(ifname=INTERFACE)
        # One segment a packet, so that the wrapping need not be cut up again.
        ip.link("set", index=index, mtu=MTU, gso_max_segs=1)
        with suppress(OSError):  # no address of its own, or the kernel's own packets come this way
            (_IPV6 / "conf" / INTERFACE / "addr_gen_mode").write_text("1")
        ip.link("set", index=index, flags=_UP_WITHOUT_ARP, change=_UP_WITHOUT_ARP)
        hooks.attach(ip, index, hooks.EGRESS, self._loaded.fd, "probe")

    def _add_rule(self, ip: IPRoute, family: socket.AddressFamily) -> None:
        try:
            ip.rule(
                "add",
                family=family,
                priority=PRIORITY,
                table=TABLE,
                fwmark=self._owner,
                fwmask=_U32 & ~self._seat_bits,
            )
        except NetlinkError as error:
            if error.code != errno.EEXIST:  # an earlier start's
                raise


def forget() -> bool:
    """Remove the rule and the routes of earlier starts; tells whether there were any."""
    with hooks.translated(_WHAT), IPRoute() as ip:
        found = False
        for family in _families():
            for rule in ip.get_rules(family=family):
                if (
                    rule.get_attr("FRA_PRIORITY") == PRIORITY
                    and rule.get_attr("FRA_TABLE") == TABLE
                ):
                    ip.rule("delete", family=family, priority=PRIORITY, table=TABLE)
                    found = True
            ip.flush_routes(family=family, table=TABLE)
        return found


def _open_tap() -> int:
    """A new Ethernet interface that ends when this descriptor is closed."""
    try:
        tap = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise KernelTooOldError(
            f"no interface for health probes: {_TUN}: {error.strerror}", mend="modprobe tun"
        ) from error
    try:
        request = struct.pack("16sH22x", INTERFACE.encode(), _TAP_WITHOUT_HEADER)
        fcntl.ioctl(tap, _TUNSETIFF, request)
    except OSError as error:
        os.close(tap)
        raise hooks.failure(_WHAT, error.errno or 0) from error
    return tap


def _families() -> Iterator[socket.AddressFamily]:
    """Those that this kernel speaks."""
    yield socket.AF_INET
    if _IPV6.is_dir():
        yield socket.AF_INET6


def _own_address(ip: IPRoute, index: int, family: socket.AddressFamily) -> str | None:
    """The address that probes come from, and answers go to: the edge interface's first."""
    for found in ip.get_addr(index=index, family=family):
        address = ip_address(found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS"))
        if not address.is_link_local:
            return str(address)
    return None
