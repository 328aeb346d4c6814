"""Start, reload, stop and refusal of a daemon."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest

from gslb.fleet.config import ConfigError, Fault
from gslb.service.lifecycle import ExitCode, Refused, guarded, hold_lock, live


class Sleeper:
    """A part that lives until cancelled, and says when it has begun and ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = False

    async def run(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


async def test_sigterm_drains_and_then_cancels_every_part() -> None:
    parts = [Sleeper(), Sleeper()]
    seen: list[bool] = []

    async def drain() -> None:
        seen.append(any(part.ended for part in parts))

    task = asyncio.create_task(live(parts, drain=drain))
    async with asyncio.timeout(5):
        await parts[1].began.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await task

    assert seen == [False]
    assert all(part.ended for part in parts)


async def test_sighup_reloads_and_a_refused_configuration_keeps_the_daemon_alive() -> None:
    part = Sleeper()
    calls = asyncio.Queue[int]()

    def reload() -> None:
        calls.put_nowait(1)
        raise ConfigError([Fault("fleet.toml", "$.vip", "unknown key", "")])

    task = asyncio.create_task(live([part], reload=reload))
    async with asyncio.timeout(5):
        await part.began.wait()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
            await calls.get()
        assert not part.ended
        os.kill(os.getpid(), signal.SIGTERM)
        await task

    assert part.ended


async def test_a_part_that_fails_ends_the_daemon() -> None:
    class Faulty:
        async def run(self) -> None:
            raise ValueError("a programming error")

    other = Sleeper()

    with pytest.raises(ExceptionGroup) as caught:
        await live([other, Faulty()])

    assert caught.group_contains(ValueError, match="a programming error")
    assert other.ended


def test_a_second_start_is_refused_with_the_process_that_runs(tmp_path: Path) -> None:
    with hold_lock(tmp_path, "dns"), pytest.raises(Refused) as caught, hold_lock(tmp_path, "dns"):
        pass

    assert caught.value.code is ExitCode.RUNNING
    assert str(os.getpid()) in caught.value.message


def test_the_lock_is_free_after_its_holder_is_gone(tmp_path: Path) -> None:
    with hold_lock(tmp_path, "dns"):
        pass

    with hold_lock(tmp_path, "dns"):
        assert (tmp_path / "dns.lock").read_text() == str(os.getpid())


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError([Fault("f", "$.a", "b", "c")]), ExitCode.CONFIG, "f: $.a: b (c)"),
        (Refused(ExitCode.NOT_ROOT, "run it as root"), ExitCode.NOT_ROOT, "run it as root"),
        (
            ExceptionGroup("", [ExceptionGroup("", [Refused(ExitCode.INTERFACE, "no eth9")])]),
            ExitCode.INTERFACE,
            "no eth9",
        ),
        (OSError(errno.EADDRINUSE, "in use"), ExitCode.PORT_TAKEN, "in use"),
        (FileNotFoundError(2, "No such file", "x.toml"), ExitCode.FAILED, "x.toml: No such file"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, ""),
    ],
)
def test_an_expected_fault_is_one_line_and_its_own_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: ExitCode, text: str
) -> None:
    def main() -> int:
        raise error

    assert guarded(main) == code
    assert capsys.readouterr().err.strip() == (f"waypost: {text}" if text else "")


def test_a_programming_error_is_not_hidden() -> None:
    def main() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(main)
