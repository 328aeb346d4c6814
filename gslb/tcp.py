"""The TCP listener: framing, pipelining, and the bounds that keep slow peers from holding us.

Owns conversations (RFC 7766). Called by `gslb.worker`. It decides nothing: `gslb.answer` does.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from gslb.answer import Answerer
from gslb.fleet.model import Address
from gslb.server import client_address
from gslb.subset import Chance

BACKLOG = 1024
UNSENT_MAX_BYTES = 1 << 18  # above it a peer's questions wait until it has read its answers
DRAIN_S = 2.0  # how long the last answers may take to leave at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpLimits:
    """`idle_s`: between whole questions, and for reading answers. Per process."""

    idle_s: float
    connections_max: int


class TcpListener:
    """One TCP socket of one process with its conversations; a Part."""

    def __init__(
        self,
        sock: socket.socket,
        answerer: Answerer,
        rng: Chance,
        limits: TcpLimits,
        refused: Callable[[], None],
    ) -> None:
        """`refused` is called for each connection above the limit."""
        self._sock = sock
        self._refused = refused
        self.answerer = answerer
        self.rng = rng
        self.limits = limits
        self._open: set[TcpConversation] = set()
        self._server: asyncio.Server | None = None
        self._emptied: asyncio.Event | None = None  # set while draining

    async def run(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: TcpConversation(self), sock=self._sock, backlog=BACKLOG
        )
        try:
            await asyncio.Event().wait()
        finally:
            self._server.close()
            for conversation in tuple(self._open):
                conversation.abort()

    async def drain(self) -> None:
        """Accept no more, and let the answers that are written leave."""
        if self._server is not None:
            self._server.close()
        for conversation in tuple(self._open):
            conversation.finish()
        if self._open:
            self._emptied = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._emptied.wait()

    def admit(self, conversation: TcpConversation) -> bool:
        """Whether one more conversation may be held."""
        if len(self._open) >= self.limits.connections_max:
            self._refused()
            return False
        self._open.add(conversation)
        return True

    def forget(self, conversation: TcpConversation) -> None:
        """The conversation ended."""
        self._open.discard(conversation)
        if not self._open and self._emptied is not None:
            self._emptied.set()


class TcpConversation(asyncio.Protocol):
    """One connection: length-framed questions, each answered in order."""

    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._peer: Address | None = None
        self._pending = bytearray()
        self._deadline: asyncio.TimerHandle | None = None
        self._paused = False

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        """Begin, unless too many conversations are open."""
        transport = cast("asyncio.Transport", base)  # uvloop's own class, of the same shape
        peer = transport.get_extra_info("peername")
        if peer is None or not self._listener.admit(self):
            transport.abort()
            return
        self._transport = transport
        self._peer = client_address(peer[0])
        transport.set_write_buffer_limits(high=UNSENT_MAX_BYTES)
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        """Answer every whole question that is there; the clock runs on for a part of one."""
        self._pending += data
        self._answer()

    def pause_writing(self) -> None:
        """The peer does not read: take no more questions, and end it if that lasts."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()
            self._start_clock()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._answer()

    def eof_received(self) -> bool:
        """The peer asks no more: what is written still leaves, then the connection closes."""
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        """Over, by either side."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._listener.forget(self)

    def finish(self) -> None:
        """Close once the written answers have left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _answer(self) -> None:
        if self._transport is None or self._peer is None or self._transport.is_closing():
            return
        pending, answered, hang_up = self._pending, 0, False
        while len(pending) >= 2 and not self._paused:
            stop = 2 + int.from_bytes(pending[:2], "big")
            if len(pending) < stop:
                break
            query = bytes(pending[2:stop])
            del pending[:stop]
            wire = self._listener.answerer.answer(
                query, self._peer, tcp=True, rng=self._listener.rng
            )
            if wire is None:
                hang_up = True
                break
            self._transport.write(len(wire).to_bytes(2, "big") + wire)
            answered += 1
        if hang_up:
            self._transport.close()
        elif answered:
            self._start_clock()

    def _start_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._listener.limits.idle_s, self.abort)
