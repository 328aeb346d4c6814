"""The parent process: it forks the workers and the admin seat, and starts again what dies.

Owns signals of the whole DNS server and the children's lives. It serves nothing itself and runs no
event loop, so that a fork is safe at any time. Called by `gslb.__main__`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gslb.server import Endpoint, bind
from gslb.service import clock, log
from gslb.service.lifecycle import DRAIN_MAX_S, ExitCode, guarded

_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
FIRST_DELAY_S = 0.1
LAST_DELAY_S = 10.0
STEADY_S = 30.0  # a child that lived so long starts again without delay
REFUSED_S = 3.0  # a first start that is refused within this time ends the server with its code
_REFUSALS = frozenset(ExitCode) - {ExitCode.DONE}
_CRASHED = 70  # a programming error, apart from every ExitCode (sysexits.h: EX_SOFTWARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What a child process does. `main` runs in the child and returns its exit code."""

    name: str
    main: Callable[[], int]


@dataclass(slots=True, kw_only=True)
class _Life:
    child: Child
    pid: int = 0  # 0: waiting to be started
    started_s: float = 0.0
    due_s: float = 0.0
    deaths: int = 0


def settle(endpoint: Endpoint) -> Endpoint:
    """The endpoint with its port known, after a look that nobody else holds it.

    Raises Refused(PORT_TAKEN) before any worker starts, even where the holder would share the port.
    """
    with bind(endpoint, socket.SOCK_DGRAM, shared=False) as datagrams:
        known = replace(endpoint, port=datagrams.getsockname()[1])
        bind(known, socket.SOCK_STREAM, shared=False).close()
    return known


class Supervisor:
    """Keeps children alive until SIGTERM."""

    def __init__(self, children: Sequence[Child], tell: int, reload: Callable[[], None]) -> None:
        """`tell` is a pipe's end for news of children; `reload` is called at SIGHUP, before them.

        News are JSON objects of strings, a line each, dropped when nobody reads them.
        """
        self._lives = [_Life(child=child) for child in children]
        self._tell = tell
        self._reload = reload
        self._stopping_s: float | None = None
        self._exit = ExitCode.DONE

    def run(self) -> int:
        """Supervise; returns the exit code of the whole server."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        for life in self._lives:
            self._start(life)
        while self._stopping_s is None or any(life.pid for life in self._lives):
            got = signal.sigtimedwait(_WATCHED, self._patience_s())
            if got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                self._stop()
            elif got is not None and got.si_signo == signal.SIGHUP:
                self._reload()
                self._signal_all(signal.SIGHUP)
            self._reap()
            self._start_due()
        return self._exit

    def _patience_s(self) -> float:
        now_s = clock.monotonic_s()
        if self._stopping_s is not None:
            if now_s > self._stopping_s + DRAIN_MAX_S:
                self._signal_all(signal.SIGKILL)
            return 1.0
        due = [life.due_s - now_s for life in self._lives if not life.pid]
        return max(0.0, min(due, default=60.0))

    def _start_due(self) -> None:
        now_s = clock.monotonic_s()
        for life in self._lives:
            if not life.pid and life.due_s <= now_s and self._stopping_s is None:
                self._start(life)
                self._say("child.restarted", child=life.child.name, pid=str(life.pid))

    def _start(self, life: _Life) -> None:
        life.started_s = clock.monotonic_s()
        pid = os.fork()
        if pid:
            life.pid = pid
            return
        code = _CRASHED
        try:
            signal.set_wakeup_fd(-1)
            code = guarded(life.child.main)
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)

    def _reap(self) -> None:
        for life in self._lives:
            if not life.pid:
                continue
            pid, status = os.waitpid(life.pid, os.WNOHANG)
            if not pid:
                continue
            code = os.waitstatus_to_exitcode(status)
            life.pid = 0
            if self._stopping_s is None:
                self._bury(life, code)

    def _bury(self, life: _Life, code: int) -> None:
        """A child ended by itself: start it again, or give up if it was refused at the start."""
        now_s = clock.monotonic_s()
        if life.deaths == 0 and code in _REFUSALS and now_s - life.started_s < REFUSED_S:
            self._exit = ExitCode(code)
            self._stop()
            return
        if now_s - life.started_s >= STEADY_S:
            life.deaths = 0
        delay_s = min(FIRST_DELAY_S * 2**life.deaths, LAST_DELAY_S)
        life.deaths += 1
        life.due_s = now_s + delay_s
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        self._say("child.died", child=life.child.name, how=how, restart_in_s=f"{delay_s:g}")

    def _stop(self) -> None:
        if self._stopping_s is None:
            self._stopping_s = clock.monotonic_s()
            self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: signal.Signals) -> None:
        for life in self._lives:
            if life.pid:
                os.kill(life.pid, number)

    def _say(self, name: str, **detail: str) -> None:
        log.get().warning(name, **detail)
        try:
            os.write(self._tell, json.dumps({"event": name, **detail}).encode() + b"\n")
        except (BlockingIOError, BrokenPipeError):
            log.get().debug("news.dropped", news=name)
