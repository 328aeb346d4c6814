"""Flows that real sockets hold, in the caller's network namespace: what real.bpf.c asks for.

Owns the making of connections, listeners and datagram sockets of a VIP, and their end. Used by the
self test and the tests, in a workbench's namespace where the VIPs are local addresses. Nothing of
it ever runs beside clients' traffic.
"""

from __future__ import annotations

import re
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SO_LINGER,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from typing import Self

from bpf.packets import ACK, TCP, UDP, ip, tcp, udp
from bpf.workbench import TUNNEL_SOURCE, TUNNEL_SOURCE_V6

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21  # of linux/tcp.h
RECEIVED, SENT = 1, 2  # the queues of a socket under repair
SYN_COOKIES = Path("/proc/sys/net/ipv4/tcp_syncookies")
ALWAYS, UNDER_PRESSURE = "2", "1"
TIME_WAIT = 6  # as the kernel's tables of sockets number it
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a reset instead of a farewell
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFlow:
    """The ends of one flow, and for TCP the numbers that its client would send next."""

    client: str
    client_port: int
    vip: str
    vip_port: int
    sequence: int = 1
    acknowledged: int = 1

    def segment(self, flags: int = ACK, payload: bytes = b"") -> bytes:
        """A TCP packet from the client."""
        numbers = {"sequence": self.sequence, "acknowledged": self.acknowledged}
        segment = tcp(self.client_port, self.vip_port, flags, payload, **numbers)
        return ip(self.client, self.vip, TCP, segment)

    def datagram(self, payload: bytes = b"") -> bytes:
        """A UDP packet from the client."""
        return ip(self.client, self.vip, UDP, udp(self.client_port, self.vip_port, payload))

    def answer(self, protocol: int) -> bytes:
        """The first 28 or 48 bytes of a packet to the client, as an ICMP error quotes them."""
        ports = struct.pack("!HHI", self.vip_port, self.client_port, 1)
        return ip(self.vip, self.client, protocol, ports)


class OwnSockets:
    """The sockets of one test; `with` closes them all."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def listener(self, vip: str) -> socket:
        """A TCP server of the VIP, on a port that was free."""
        made = self._socket(vip, SOCK_STREAM)
        made.bind((vip, 0))
        made.listen()
        return made

    def established(self, listener: socket) -> tuple[OwnFlow, socket, socket]:
        """A connection to it: the flow, the client's end, the server's."""
        client = self._client(listener.getsockname()[0], SOCK_STREAM)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        self._held.enter_context(server)
        server.settimeout(PATIENCE_S)
        return _flow(client, server), client, server

    def time_wait(self, vip: str) -> OwnFlow:
        """A connection that the server ended; only the kernel remembers it."""
        with self.listener(vip) as listener:
            flow, client, server = self.established(listener)
        server.close()
        client.recv(1)
        client.close()
        end_s = time.monotonic() + PATIENCE_S
        while not _is_remembered(flow):
            if time.monotonic() > end_s:
                raise TimeoutError("the kernel keeps no time-wait")
        return flow

    def closed_unread(self, listener: socket) -> OwnFlow:
        """A connection whose server closed it before it read all: the kernel keeps nothing."""
        flow, client, server = self.established(listener)
        client.send(b"never read")
        server.recv(1)
        server.close()
        return flow

    def cookie(self, listener: socket) -> OwnFlow:
        """A handshake by SYN cookie whose last segment is still to come: nobody keeps anything."""
        SYN_COOKIES.write_text(ALWAYS, encoding="ascii")
        self._held.callback(SYN_COOKIES.write_text, UNDER_PRESSURE, encoding="ascii")
        flow, client, server = self.established(listener)
        client.setsockopt(IPPROTO_TCP, TCP_REPAIR, 1)
        numbers = {}
        for queue in (SENT, RECEIVED):
            client.setsockopt(IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
            number = client.getsockopt(IPPROTO_TCP, TCP_QUEUE_SEQ)
            numbers[queue] = number & 0xFFFFFFFF
        client.close()  # under repair it says nothing
        server.setsockopt(SOL_SOCKET, SO_LINGER, AT_ONCE)
        server.close()
        return OwnFlow(
            client=flow.client,
            client_port=flow.client_port,
            vip=flow.vip,
            vip_port=flow.vip_port,
            sequence=numbers[SENT],
            acknowledged=numbers[RECEIVED],
        )

    def datagrams(self, vip: str, *, connected: bool) -> OwnFlow:
        """A UDP server's socket, for one client alone or for all, and a client's flow to it."""
        client = self._client(vip, SOCK_DGRAM)
        server = self._socket(vip, SOCK_DGRAM)
        server.bind((vip, 0))
        client.connect(server.getsockname())
        if connected:
            server.connect(client.getsockname())
        return _flow(client, server)

    def _client(self, vip: str, kind: int) -> socket:
        made = self._socket(vip, kind)
        made.bind((TUNNEL_SOURCE_V6 if ":" in vip else TUNNEL_SOURCE, 0))
        return made

    def _socket(self, vip: str, kind: int) -> socket:
        made = socket(AF_INET6 if ":" in vip else AF_INET, kind)
        made.settimeout(PATIENCE_S)
        return self._held.enter_context(made)


def _is_remembered(flow: OwnFlow) -> bool:
    table = Path(f"/proc/thread-self/net/tcp{'6' if ':' in flow.vip else ''}")
    ends = re.compile(rf":{flow.vip_port:04X} \w+:{flow.client_port:04X} {TIME_WAIT:02X} ")
    return ends.search(table.read_text(encoding="ascii")) is not None


def _flow(client: socket, server: socket) -> OwnFlow:
    address, port = client.getsockname()[:2]
    vip, vip_port = server.getsockname()[:2]
    return OwnFlow(client=address, client_port=port, vip=vip, vip_port=vip_port)
