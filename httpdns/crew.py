"""The worker processes of the HTTPS service: started, watched, replaced, drained by the parent.

Owns the listening sockets (kept for the parent's whole life, so that a connection that arrives
while a worker is replaced waits instead of being refused) and the rule that an old worker goes
only after its successor serves. Never touches a request.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from gslb.service.events import EventLog
from gslb.service.lifecycle import ExitCode, Refused
from httpdns.certificates import Pair
from httpdns.settings import Settings
from httpdns.worker import DRAIN_S, Orders, give_settings

READY_S = 15.0  # a worker that does not serve by then is given up
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.2, 5.0
STEADY_S = 10.0  # a worker that lived so long died of something new
_BACKLOG = 1024
_LIVES = 2  # counter rows of one worker number: the one that drains, and its successor


def open_sockets(address: str, port: int, count: int) -> list[socket.socket]:
    """`count` listening sockets on one address. Refused names the mend, with its exit code.

    Several share the port by SO_REUSEPORT, which alone would also let a stranger of the same user
    share it unseen: therefore the port is first tried without.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((address, port))
            trial.listen(1)
            port = trial.getsockname()[1]
        return [_open_socket(family, address, port, shared=count > 1) for _ in range(count)]
    except OSError as error:
        raise _refusal(address, port, error) from None


def counter_rows(workers: int) -> int:
    """How many rows the table of counters needs."""
    return workers * _LIVES


@dataclass(slots=True, kw_only=True)
class _Life:
    """One worker process; `lifeline` is our end of the pipe whose closing ends it."""

    process: asyncio.subprocess.Process
    lifeline: int
    started_s: float


class Crew:
    """All workers; a Part."""

    def __init__(
        self, settings: Settings, sockets: list[socket.socket], pair: Pair, events: EventLog
    ) -> None:
        self._settings = settings
        self._sockets = sockets
        self._pair = pair
        self._events = events
        self._lives: dict[int, _Life] = {}
        self._turns = [0] * len(sockets)
        self._changed = [asyncio.Event() for _ in sockets]
        self._leaving = asyncio.Event()
        self.restarts = 0

    @property
    def serving(self) -> int:
        """How many workers live."""
        return sum(1 for life in self._lives.values() if life.process.returncode is None)

    @property
    def pair(self) -> Pair:
        """The certificate that new connections get."""
        return self._pair

    def take_pair(self, pair: Pair) -> None:
        """Serve new connections with this certificate: every worker is replaced in turn."""
        self._pair = pair
        for event in self._changed:
            event.set()

    def reload(self, settings: Settings) -> None:
        """Let every worker read the configuration again, in place; later ones start with it."""
        self._settings = settings
        for life in self._lives.values():
            if life.process.returncode is None:
                life.process.send_signal(signal.SIGHUP)

    async def run(self) -> None:
        """Keep every worker alive until cancelled; then none is left behind."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(len(self._sockets)):
                    group.create_task(self._keep(number, group))
        finally:
            for life in self._lives.values():
                _end(life, signal.SIGKILL)
                _let_go(life)

    async def drain(self) -> None:
        """End every worker: no new connections, requests under way are finished."""
        self._leaving.set()
        lives = list(self._lives.values())
        for life in lives:
            _end(life, signal.SIGTERM)
        await asyncio.gather(*(_gone(life) for life in lives))

    async def _keep(self, number: int, group: asyncio.TaskGroup) -> None:
        """One worker number: start it, replace it when asked to, restart it when it dies."""
        clock_s = asyncio.get_running_loop().time
        backoff_s = BACKOFF_MIN_S
        while True:
            life = await self._start(number)
            code = "not ready in time"
            if life is not None:
                life = await self._last(number, life, group)
                _let_go(life)
                code = str(life.process.returncode)
                if clock_s() - life.started_s > STEADY_S:
                    backoff_s = BACKOFF_MIN_S
            if self._leaving.is_set():
                await asyncio.Event().wait()
            self.restarts += 1
            self._events.add("worker.died", number=str(number), code=code)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _last(self, number: int, life: _Life, group: asyncio.TaskGroup) -> _Life:
        """Watch a worker and its successors, one for each new certificate, until one dies."""
        changed = self._changed[number]
        while True:
            ended = asyncio.ensure_future(life.process.wait())
            called = asyncio.ensure_future(changed.wait())
            try:
                await asyncio.wait((ended, called), return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    return life
            finally:
                ended.cancel()
                called.cancel()
            successor = await self._start(number)
            if successor is None:
                self._lives[number] = life
                self._events.add("certificate.not_taken", number=str(number))
                continue
            _end(life, signal.SIGTERM)
            group.create_task(_gone(life))
            self._events.add("worker.replaced", number=str(number))
            life = successor

    async def _start(self, number: int) -> _Life | None:
        """A worker that serves, or None if it did not come to that."""
        self._changed[number].clear()
        turn = self._turns[number]
        self._turns[number] += 1
        life_read, life_write = os.pipe()
        ready_read, ready_write = os.pipe()
        settings = _memory_file(give_settings(self._settings))
        chain, key = _memory_file(self._pair.chain), _memory_file(self._pair.key)
        orders = Orders(
            settings_fd=settings,
            row=number * _LIVES + turn % _LIVES,
            rows=counter_rows(len(self._sockets)),
            listen_fd=self._sockets[number].fileno(),
            certificate_fd=chain,
            key_fd=key,
            ready_fd=ready_write,
            lifeline_fd=life_read,
        )
        theirs = (life_read, ready_write, settings, chain, key)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "httpdns.worker",
                msgspec.json.encode(orders).decode(),
                pass_fds=(orders.listen_fd, *theirs),
                process_group=0,  # a terminal's Ctrl-C reaches the parent, which drains us
            )
        finally:
            for fd in theirs:
                os.close(fd)
        started_s = asyncio.get_running_loop().time()
        life = _Life(process=process, lifeline=life_write, started_s=started_s)
        self._lives[number] = life
        if await _ready(ready_read):
            self._events.add("worker.serving", number=str(number), process=str(process.pid))
            return life
        _end(life, signal.SIGKILL)
        await process.wait()
        _let_go(life)
        return None


async def _ready(fd: int) -> bool:
    """Whether the worker said in time that it serves."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    with os.fdopen(fd, "rb", 0) as pipe:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            async with asyncio.timeout(READY_S):
                return await reader.read(1) == b"1"
        except TimeoutError:
            return False
        finally:
            transport.close()


async def _gone(life: _Life) -> None:
    """Wait until a worker that was told to end did; not longer than its drain may take."""
    try:
        async with asyncio.timeout(DRAIN_S + 2):
            await life.process.wait()
    except TimeoutError:
        _end(life, signal.SIGKILL)
        await life.process.wait()
    finally:
        _let_go(life)


def _end(life: _Life, number: signal.Signals) -> None:
    if life.process.returncode is None:
        with suppress(ProcessLookupError):
            life.process.send_signal(number)


def _let_go(life: _Life) -> None:
    """Close our end of the lifeline: a worker that still lives takes this for the parent's end."""
    if life.lifeline >= 0:
        os.close(life.lifeline)
        life.lifeline = -1


def _memory_file(content: bytes) -> int:
    """A file that is nowhere on disk; the caller closes it."""
    fd = os.memfd_create("waypost")
    os.write(fd, content)
    return fd


def _open_socket(
    family: socket.AddressFamily, address: str, port: int, *, shared: bool
) -> socket.socket:
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((address, port))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _refusal(address: str, port: int, error: OSError) -> Refused:
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            text = f"{where} is taken; stop what listens there or change $.https.listen"
            return Refused(ExitCode.PORT_TAKEN, text)
        case errno.EACCES:
            text = f"{where} needs root or CAP_NET_BIND_SERVICE; or listen above port 1023"
            return Refused(ExitCode.NOT_ROOT, text)
        case errno.EADDRNOTAVAIL:
            text = f"no interface has the address of {where}; change $.https.listen"
            return Refused(ExitCode.INTERFACE, text)
        case _:
            return Refused(ExitCode.FAILED, f"{where}: {error.strerror or error}")
