"""The HTTPS front of one worker process: granian on a socket and a certificate it is handed.

Owns the limits of a connection and the way granian is embedded; the only file that imports it.
granian's own process manager is not used: the parent keeps the listening sockets for its whole
life, so a worker can be replaced without a refused connection. Never decides an answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granian import _futures, _granian
from granian.constants import HTTPModes, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings

from httpdns.app import Exchange, Scope

BACKLOG = 1024
CONNECTIONS_MAX = 16_384  # of one worker; about 40 kB each with TLS
HEADER_TIMEOUT_MS = 10_000  # also how long an idle HTTP/1.1 connection is kept
SETTLE_S = 1.0  # a TLS 1.3 handshake at a round trip of 0.5 s, and the request behind it
STREAMS_MAX = 100  # RFC 9113 section 6.5.2 advises no fewer

Handler = Callable[[Scope, Exchange], Awaitable[None]]

# granian ships no true types for its embedding; everything of it is used in this file alone.
_native: Any = _granian
_new_scheduler: Any = _futures._new_cbscheduler  # noqa: SLF001
_watched: Any = _futures._future_watcher_wrapper  # noqa: SLF001

CALLER_GONE: tuple[type[Exception], ...] = (_native.RSGIProtocolClosed, _native.RSGIProtocolError)
"""What an exchange raises once its caller has left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doorway:
    """File descriptors that a worker inherits: the socket, and the pair in memory files."""

    listen_fd: int
    certificate_fd: int
    key_fd: int


class Front:
    """Serves one handler until told to drain."""

    def __init__(self, doorway: Doorway, handler: Handler) -> None:
        self._doorway = doorway
        self._handler = handler
        self._signal = _native.WorkerSignal()
        self._ended = asyncio.Event()

    def open(self) -> None:
        """Start to accept. Returns at once; granian's own threads carry the connections."""
        loop = asyncio.get_running_loop()
        self._signal.add_cb(lambda: loop.call_soon_threadsafe(self._ended.set))
        door = self._doorway
        socket_pair = (None, _native.SocketHolder(door.listen_fd, False, BACKLOG))
        worker = _native.RSGIWorker(
            1,
            socket_pair,
            None,
            threads=1,
            backpressure=CONNECTIONS_MAX,
            http_mode=str(HTTPModes.auto),
            http1_opts=HTTP1Settings(
                header_read_timeout=HEADER_TIMEOUT_MS, max_buffer_size=64 * 1024
            ),
            http2_opts=HTTP2Settings(
                keep_alive_interval=30_000,
                keep_alive_timeout=10,
                max_concurrent_streams=STREAMS_MAX,
                max_headers_size=32 * 1024,
                initial_stream_window_size=64 * 1024,
                initial_connection_window_size=256 * 1024,
            ),
            ssl_enabled=True,
            ssl_cert=f"/proc/self/fd/{door.certificate_fd}",
            ssl_key=f"/proc/self/fd/{door.key_fd}",
            ssl_protocol_min=str(SSLProtocols.tls12),
            ssl_crl=[],
            metrics=(None, None),
        )
        scheduler = _new_scheduler(loop, _watched(self._handler), impl_asyncio=True)
        worker.serve_mtr(scheduler, loop, self._signal)

    async def drain(self) -> None:
        """Accept no more, let handshakes and first requests finish, then close what is idle.

        granian drops a handshake under way when it is told to end, hence the pause: the accepted
        get `SETTLE_S` to finish it and to send their request. Ends once every request is answered.
        """
        _stop_accepting(self._doorway.listen_fd)
        await asyncio.sleep(SETTLE_S)
        self._signal.set()
        await self._ended.wait()


def _stop_accepting(listen_fd: int) -> None:
    """Put an idle socket in the place of the listening one, in this process alone.

    granian has no way to stop accepting and go on serving. The true socket lives on in the parent
    and in our successor, which gets every connection from now on.
    """
    listening = os.fstat(listen_fd)
    idle = socket.socket(socket.AF_UNIX)
    idle.bind("")  # Linux gives it an abstract name that nobody knows
    idle.listen(1)
    idle.setblocking(False)
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.path.samestat(os.fstat(int(entry.name)), listening):
                os.dup2(idle.fileno(), int(entry.name), inheritable=False)
    idle.detach()
