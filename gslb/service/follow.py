"""Following the store: a daemon's own Snapshot, kept true while the store comes and goes.

Owns the watch loop, the tick that lets leases end, and the copy on disk for a warm start. Never
raises for a lost store: it keeps what it holds, freezes leases and says so once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from gslb.fleet.model import Fleet
from gslb.fleet.snapshot import Holdings, Snapshot, resolve
from gslb.fleet.store import Contents, Store, StoreUnavailable
from gslb.service import clock, log

TICK_S = 0.25  # how late the end of a lease may be noticed
RETRY_S = 0.5  # between attempts to reach a lost store
SAVE_S = 5.0  # how often beats alone renew the copy on disk; a change does at once


class FleetFollower:
    """Watches a store and keeps `snapshot`; `on_snapshot` hears each one that changes answers.

    `on_histories` hears that an edge's history changed, or what an edge has heard of others': no
    answer changes by that.
    """

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        *,
        state_path: Path | None,
        on_snapshot: Callable[[Snapshot], None],
        on_histories: Callable[[], None] | None = None,
        now_s: Callable[[], float] = clock.monotonic_s,
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._state_path = state_path
        self._on_snapshot = on_snapshot
        self._on_histories = on_histories
        self._now_s = now_s
        self._holdings = self._warm_start()
        self._saved_s = 0.0
        self.snapshot = resolve(fleet, self._holdings, self._now_s())
        self.store_trouble = "not read yet"
        self.malformed = 0

    def replace_fleet(self, fleet: Fleet) -> None:
        """Judge from now on by a reloaded configuration."""
        self._fleet = fleet
        self.judge()

    def take(self, contents: Contents) -> None:
        """Merge what the store holds now, and judge anew."""
        now_s = self._now_s()
        if self.store_trouble:
            log.get().info("store.back")
            self.store_trouble = ""
        self.malformed = contents.malformed
        before = self.snapshot
        self._holdings = _merged(self._holdings, contents, now_s)
        self.judge()
        other_past = self._holdings.histories != before.holdings.histories
        other_ears = _heard(self._holdings) != _heard(before.holdings)
        if (other_past or other_ears) and self._on_histories is not None:
            self._on_histories()
        other_answers = not self.snapshot.same_answers(before)
        if other_answers or other_past or now_s - self._saved_s >= SAVE_S:
            self._save(contents)

    async def run(self) -> None:
        """Watch for ever; never raises for a lost store."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            while True:
                try:
                    async for contents in self._store.watch():
                        self.take(contents)
                except StoreUnavailable as error:
                    self._lose(str(error))
                await asyncio.sleep(RETRY_S)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.judge()

    def _lose(self, trouble: str) -> None:
        if self._holdings.lost_s is None or self.store_trouble == "not read yet":
            log.get().warning("store.lost", reason=trouble)
        self.store_trouble = trouble
        self._holdings = self._holdings.lost(self._now_s())
        self.judge()

    def judge(self) -> None:
        """Judge anew at this moment: a lease may have ended."""
        before = self.snapshot
        self.snapshot = resolve(self._fleet, self._holdings, self._now_s())
        if not self.snapshot.same_answers(before):
            self._on_snapshot(self.snapshot)

    def _warm_start(self) -> Holdings:
        """The last content seen before the restart, with every lease started anew and frozen."""
        now_s = self._now_s()
        empty = Holdings()
        if self._state_path is None:
            return empty
        try:
            contents = msgspec.json.decode(self._state_path.read_bytes(), type=Contents)
        except FileNotFoundError:
            return empty
        except (OSError, msgspec.DecodeError) as error:
            log.get().warning("state.unreadable", path=str(self._state_path), reason=str(error))
            return empty
        return _merged(empty, contents, now_s).lost(now_s)

    def _save(self, contents: Contents) -> None:
        """Keep what is held for a warm start; a full disk is logged and survived."""
        if self._state_path is None:
            return
        held = Contents(
            reports=tuple(item.report for item in self._holdings.reports.values()),
            overrides=tuple(self._holdings.overrides.values()),
            histories=tuple(self._holdings.histories.values()),
            malformed=contents.malformed,
        )
        self._saved_s = self._now_s()
        draft = self._state_path.with_suffix(".draft")
        try:
            draft.write_bytes(msgspec.json.encode(held))
            draft.replace(self._state_path)
        except OSError as error:
            log.get().warning("state.not_saved", path=str(self._state_path), reason=str(error))
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def _heard(holdings: Holdings) -> dict[str, dict[str, int]]:
    """Which histories each edge knows; nothing of one that knows none."""
    return {edge: held.report.heard for edge, held in holdings.reports.items() if held.report.heard}


def _merged(holdings: Holdings, contents: Contents, now_s: float) -> Holdings:
    return holdings.merge(contents.reports, contents.overrides, now_s, histories=contents.histories)
