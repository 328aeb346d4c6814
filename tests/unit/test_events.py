"""The daemon's memory of changes."""

from __future__ import annotations

import asyncio

from gslb.service.events import EventLog


async def test_events_are_numbered_and_the_oldest_fall_out() -> None:
    events = EventLog(capacity=2)
    for state in ("UP", "DOWN", "UP"):
        events.add("health.changed", real="web1", state=state)

    held = events.since(0)

    assert [(record.number, record.detail["state"]) for record in held] == [(2, "DOWN"), (3, "UP")]
    assert events.since(2) == held[1:]


async def test_a_follower_gets_the_past_and_then_each_new_event() -> None:
    events = EventLog()
    events.add("a")
    seen: list[str] = []
    began = asyncio.Event()

    async def follow() -> None:
        async for record in events.follow(0):
            seen.append(record.name)
            began.set()
            if record.name == "c":
                return

    task = asyncio.create_task(follow())
    async with asyncio.timeout(5):
        await began.wait()
        events.add("b")
        events.add("c")
        await task

    assert seen == ["a", "b", "c"]
