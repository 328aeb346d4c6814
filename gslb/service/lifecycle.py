"""How a daemon starts, reloads and stops; the exit codes; the lock against a second start.

Owns signals and the one TaskGroup of a daemon. Every expected fault ends as one line with the mend
and an exit code of its own; only programming errors show a traceback.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from gslb.fleet.config import ConfigError
from gslb.service import log

DRAIN_MAX_S = 30.0  # a daemon that cannot drain in this time is cancelled


class ExitCode(IntEnum):
    """What a command or a daemon ends with; documented in docs/operating.md."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNHEALTHY = 3
    UNREACHABLE = 4
    CONFIG = 5
    UNSAFE = 6
    UNSUPPORTED = 7
    PORT_TAKEN = 8
    NOT_ROOT = 9
    RUNNING = 10
    NO_LIBBPF = 11
    NO_BPFFS = 12
    KERNEL = 13
    INTERFACE = 14
    REHEARSAL = 15
    TIMEOUT = 16
    INTERRUPTED = 130


class Refused(Exception):
    """A start or a verb was refused: one line that names the mend, and the exit code."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Part(Protocol):
    """A long-lived part of a daemon; `run` ends by cancellation only."""

    async def run(self) -> None:
        """Live until cancelled."""


@contextmanager
def hold_lock(state_dir: Path, role: str) -> Iterator[None]:
    """Hold the role's lock in `state_dir`; Refused(RUNNING) if another daemon holds it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    path = state_dir / f"{role}.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            text = (
                f"{role} already runs as process {pid} ({path}); stop it or use another state_dir"
            )
            raise Refused(ExitCode.RUNNING, text) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


async def live(
    parts: Sequence[Part],
    *,
    reload: Callable[[], None] | None = None,
    drain: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run the parts until SIGTERM or SIGINT, which drains and then cancels them; SIGHUP reloads.

    A configuration that is refused at reload is logged, and the running one is kept.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_hup() -> None:
        if reload is None:
            return
        try:
            reload()
        except ConfigError as error:
            for fault in error.faults:
                log.get().error("config.refused", fault=str(fault))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, on_hup)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run(), name=type(part).__name__) for part in parts]
            await stop.wait()
            if drain is not None:
                try:
                    async with asyncio.timeout(DRAIN_MAX_S):
                        await drain()
                except TimeoutError:
                    log.get().warning("drain.timeout", seconds=DRAIN_MAX_S)
            for task in tasks:
                task.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


def guarded(main: Callable[[], int]) -> int:
    """Run `main`; expected faults become one line on standard error and their exit code."""
    try:
        return main()
    except ConfigError as error:
        for fault in error.faults:
            _say(str(fault))
        return ExitCode.CONFIG
    except Refused as error:
        _say(error.message)
        return error.code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except ExceptionGroup as group:
        refused = group.subgroup(Refused)
        if refused is None:
            raise
        first = _first(refused)
        _say(first.message)
        return first.code
    except OSError as error:
        _say(_os_text(error))
        return ExitCode.PORT_TAKEN if error.errno == errno.EADDRINUSE else ExitCode.FAILED


def _first(group: BaseExceptionGroup[Refused]) -> Refused:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _os_text(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _say(text: str) -> None:
    sys.stderr.write(f"waypost: {text}\n")
