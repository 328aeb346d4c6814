"""The checker's loops against a real server: shared, spaced, replaced while they run."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

from site_fleet import CHECK, WEB1, WEB2

from edge_lb.checker import Checker
from edge_lb.checks import CheckResult
from edge_lb.judge import Target
from gslb.fleet.model import CheckKind, RealName

PATIENCE_S = 10.0
HERE = IPv4Address("127.0.0.1")


class Heard:
    """Results as they come; `wait(n)` until there are n."""

    def __init__(self) -> None:
        self.results: list[tuple[RealName, CheckResult]] = []
        self._more = asyncio.Event()

    def __call__(self, target: Target, result: CheckResult) -> None:
        self.results.append((target.real, result))
        self._more.set()

    async def wait(self, held) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not held(self.results):
                self._more.clear()
                await self._more.wait()


def unmarked(_seat: int) -> int:
    raise AssertionError("a direct check carries no mark")


@asynccontextmanager
async def server():
    """Accepts and closes; yields its port."""

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, str(HERE), 0) as made:
        yield made.sockets[0].getsockname()[1]


@asynccontextmanager
async def running(checker: Checker):
    task = asyncio.create_task(checker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def target(name: RealName, port: int, interval_s: float = 0.05) -> Target:
    check = replace(
        CHECK, kind=CheckKind.TCP, port=port, interval_s=interval_s, timeout_s=interval_s
    )
    return Target(real=name, address=HERE, check=check)


async def test_every_target_is_checked_again_and_again():
    heard = Heard()
    async with server() as port:
        checker = Checker([target(WEB1, port), target(WEB2, port)], heard, Random(1), unmarked)
        async with running(checker):
            await heard.wait(
                lambda seen: all([name for name, _ in seen].count(n) >= 3 for n in (WEB1, WEB2))
            )

    assert all(result.ok for _, result in heard.results)
    assert checker.passed == len(heard.results)
    assert checker.failed == 0


async def test_failures_are_counted_and_handed_on():
    heard = Heard()
    async with server() as port:
        pass
    checker = Checker([target(WEB1, port)], heard, Random(1), unmarked)
    async with running(checker):
        await heard.wait(lambda seen: len(seen) >= 2)

    assert checker.failed == len(heard.results)
    assert {result.reason for _, result in heard.results} == {"connection refused"}


async def test_replaced_targets_end_and_new_ones_begin():
    heard = Heard()
    async with server() as port:
        checker = Checker([target(WEB1, port)], heard, Random(1), unmarked)
        async with running(checker):
            await heard.wait(lambda seen: len(seen) >= 1)
            checker.retarget([target(WEB2, port)])
            await heard.wait(lambda seen: [name for name, _ in seen].count(WEB2) >= 1)
            before = [name for name, _ in heard.results].count(WEB1)
            await heard.wait(lambda seen: [name for name, _ in seen].count(WEB2) >= 4)

    assert [name for name, _ in heard.results].count(WEB1) <= before + 1


async def test_cancelled_checker_leaves_no_task_behind():
    heard = Heard()
    async with server() as port:
        checker = Checker([target(WEB1, port)], heard, Random(1), unmarked)
        async with running(checker):
            await heard.wait(lambda seen: len(seen) >= 1)

    mine = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not mine]
    assert not [task for task in left if "Checker" in repr(task)]
