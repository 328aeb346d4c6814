"""The UDP listener, and how every listening socket of the DNS server is bound.

Owns sockets' options (SO_REUSEPORT for several processes, packet information for wildcards) and the
loop that drains datagrams. Called by `gslb.worker` and, for the first look at a port, by
`gslb.supervisor`. It decides nothing: `gslb.answer` does.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from gslb.answer import Answerer
from gslb.fleet.host import split_listen
from gslb.fleet.model import Address
from gslb.service.lifecycle import ExitCode, Refused
from gslb.subset import Chance

BATCH = 64  # datagrams taken at one wake; then the loop may serve TCP and the store
DATAGRAM_MAX = 4096  # no query is longer; what is cut off is FORMERR
UDP_BUFFER_BYTES = 1 << 22  # absorbs 0.1 s of 100,000 queries/s
_IP_PKTINFO = 8  # linux/in.h; the socket module names only the IPv6 one
_ANCILLARY_BYTES = socket.CMSG_SPACE(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address and port to listen on. `dual`: this [::] serves IPv4 as well."""

    address: str
    port: int
    dual: bool = False

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def wildcard(self) -> bool:
        """Whether it takes queries to any address of the host."""
        return ip_address(self.address).is_unspecified

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else self._plain

    @property
    def _plain(self) -> str:
        return f"{self.address}:{self.port}"


def endpoints(listen: Sequence[str]) -> tuple[Endpoint, ...]:
    """The endpoints of a `listen` list. [::] serves IPv4 too unless IPv4 on its port is listed."""
    pairs = [split_listen(text) for text in listen]
    plain_ports = {port for address, port in pairs if ":" not in address}
    return tuple(
        Endpoint(
            address=address,
            port=port,
            dual=ip_address(address) == IPv6Address("::") and port not in plain_ports,
        )
        for address, port in pairs
    )


def bind(endpoint: Endpoint, kind: socket.SocketKind, *, shared: bool) -> socket.socket:
    """A bound, non-blocking socket. Raises Refused with the mend where it cannot be had.

    `shared` lets the sibling processes bind the same port; without it, any other holder is found.
    """
    sock = socket.socket(endpoint.family, kind)
    try:
        sock.setblocking(False)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)
        if endpoint.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if endpoint.dual else 1)
        if kind is socket.SOCK_DGRAM and endpoint.wildcard:
            if endpoint.family is socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind((endpoint.address, endpoint.port))
    except OSError as error:
        sock.close()
        raise _refusal(endpoint, kind, error) from None
    return sock


def _refusal(endpoint: Endpoint, kind: socket.SocketKind, error: OSError) -> Refused:
    transport = "TCP" if kind is socket.SOCK_STREAM else "UDP"
    where = f"{transport} {endpoint}"
    match error.errno:
        case errno.EADDRINUSE:
            mend = "stop what holds it (`ss -lntup`) or change $.dns.listen"
            return Refused(ExitCode.PORT_TAKEN, f"{where} is taken: {mend}")
        case errno.EACCES | errno.EPERM:
            mend = "run as root, grant CAP_NET_BIND_SERVICE, or listen above 1023"
            return Refused(ExitCode.NOT_ROOT, f"{where} needs privilege: {mend}")
        case errno.EADDRNOTAVAIL:
            mend = "add it to an interface or change $.dns.listen"
            return Refused(ExitCode.INTERFACE, f"{where} is not an address of this host: {mend}")
        case _:
            return Refused(ExitCode.FAILED, f"{where}: {error.strerror or error}")


@lru_cache(maxsize=65536)  # resolvers come back; 65,536 of them cost about 15 MB
def client_address(text: str) -> Address:
    """The peer's address; IPv4 clients of a dual socket are IPv4 (RFC 4291 section 2.5.5.2)."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class UdpListener:
    """One UDP socket of one process; a Part."""

    def __init__(
        self,
        sock: socket.socket,
        endpoint: Endpoint,
        answerer: Answerer,
        rng: Chance,
        unsent: Callable[[], None],
    ) -> None:
        """`unsent` is called for each response that the kernel would not take."""
        self._sock = sock
        self._answerer = answerer
        self._rng = rng
        self._unsent = unsent
        self._drain_once = self._drain_wildcard if endpoint.wildcard else self._drain_bound

    async def run(self) -> None:
        """Answer until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._sock.fileno(), self._drain_once)
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self._sock.fileno())
            self._drain_once()  # what came before the end is still answered
            self._sock.close()

    def _drain_bound(self) -> None:
        """A socket bound to one address answers from it by itself."""
        sock, answer, rng = self._sock, self._answerer.answer, self._rng
        for _ in range(BATCH):
            try:
                query, peer = sock.recvfrom(DATAGRAM_MAX)
            except OSError:  # nothing left; an ICMP error of an earlier response is not ours
                return
            wire = answer(query, client_address(peer[0]), tcp=False, rng=rng)
            if wire is not None:
                try:
                    sock.sendto(wire, peer)
                except OSError:
                    self._unsent()

    def _drain_wildcard(self) -> None:
        """A response must leave from the address that was asked (RFC 2181 section 4.1)."""
        sock, answer, rng = self._sock, self._answerer.answer, self._rng
        for _ in range(BATCH):
            try:
                query, ancillary, _, peer = sock.recvmsg(DATAGRAM_MAX, _ANCILLARY_BYTES)
            except OSError:
                return
            wire = answer(query, client_address(peer[0]), tcp=False, rng=rng)
            if wire is not None:
                try:
                    sock.sendmsg((wire,), _same_address(ancillary), 0, peer)
                except OSError:
                    self._unsent()


def _same_address(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The packet information that sends from the address which received."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return [(level, kind, data[:16] + struct.pack("@i", 0))]
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            # in_pktinfo: interface, local address (becomes the source), header's destination
            return [(level, kind, struct.pack("@i", 0) + data[4:8] + bytes(4))]
    return []
