"""Shared flows: what this edge remembers told to the other edges of its site, and theirs heard.

Owns the two loops and what they count: every sweep finds what is new in flow memory and appends it
to the site's stream; what others append goes into the table of flows that packets can take over.
Made by `edge_lb.edge_daemon` where the store is Redis. It never stops packets and never waits for
the store: while that is lost nothing is swept, so what came meanwhile is news afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from edge_lb.datapath import TICK_S, UDP_FLOW_AGE_S, Datapath
from edge_lb.plan import Plan
from edge_lb.shared_codec import Batch, MalformedBatchError, decode, encode
from edge_lb.shared_tables import (
    News,
    Outcome,
    SharedSeat,
    SharedSeats,
    Sweeper,
    TakenOver,
    ticks_now,
)
from gslb.fleet.flow_stream import BEGINNING, Bounds, FlowStream, Message, order
from gslb.fleet.model import Fleet, Protocol, SiteName, VipName
from gslb.fleet.store import StoreUnavailable
from gslb.service.events import EventLog

RETRY_S = 0.5  # between attempts to reach a lost store
KEPT = 2.5  # refreshes of the stream that are kept: a flow in use is told twice within them
BATCHES_AT_ONCE = 8  # of one sweep; the rest comes with the next one
EDGES_MAX = 1024  # whose numbers are kept in mind

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSettings:
    """How an edge shares. Seconds; `flows` fit into the table of those told by others."""

    site: SiteName
    edge: str
    run: int  # another number at each start
    sweep_s: float
    refresh_s: float
    flows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The reals of the VIPs that share their flows: VIP/REAL and index, either way."""

    bounds: Bounds

    names: Mapping[int, str]
    indexes: Mapping[str, int]
    seats: SharedSeats


def shared_reals(fleet: Fleet, plan: Plan, settings: ShareSettings) -> Shared:
    """What a plan says of them. A flow counts for as long as it can live, and until told anew."""
    kept_s = settings.refresh_s * KEPT
    sweeps = ceil(kept_s / settings.sweep_s) * len(fleet.sites[settings.site].edges)
    ages = {
        name: UDP_FLOW_AGE_S if vip.protocol is Protocol.UDP else vip.connection_age_s
        for name, vip in fleet.vips.items()
        if vip.share_flows
    }
    reals = [real for real in plan.reals if VipName(real.name.partition("/")[0]) in ages]
    seats = {
        real.index: SharedSeat(
            epoch=real.epoch,
            age_ticks=int(
                (ages[VipName(real.name.partition("/")[0])] + settings.refresh_s) / TICK_S
            ),
        )
        for real in reals
    }
    return Shared(
        bounds=Bounds(messages=sweeps, age_s=kept_s),
        names={real.index: real.name for real in reals},
        indexes={real.name: real.index for real in reals},
        seats=SharedSeats(seats),
    )


class FlowShare:
    """One edge's part in sharing flows; a Part. `trouble` says why it cannot, or is empty."""

    def __init__(
        self,
        settings: ShareSettings,
        datapath: Datapath,
        stream: FlowStream,
        planned: Callable[[], tuple[Fleet, Plan | None]],
        events: EventLog,
    ) -> None:
        self._settings = settings
        self._datapath = datapath
        self._stream = stream
        self._planned = planned
        self._events = events
        self._sweeper = Sweeper()
        self._taken_over: TakenOver | None = None
        self._of_plan: tuple[Fleet, Plan] | None = None
        self._shared: Shared | None = None
        self._untold: list[Batch] = []
        self._number = 0
        self._heard: dict[str, tuple[int, int]] = {}  # by edge: its run, and the number to come
        self._troubles: dict[str, str] = {}
        self._thread = ThreadPoolExecutor(max_workers=1)  # the tables are for one at a time
        self.told = 0
        self.malformed = 0
        self.batches_missed = 0
        self.outcome = Outcome()

    @property
    def trouble(self) -> str:
        """Why flows are not shared now; empty if they are."""
        return next(iter(self._troubles.values()), "")

    @property
    def held(self) -> int:
        """Flows of other edges that this one can take over."""
        return self._taken_over.held if self._taken_over is not None else 0

    def recall(self, flow_hash: int) -> int:
        """The index of the real that another edge told of a flow; 0 if none did."""
        return self._taken_over.recall(flow_hash) if self._taken_over is not None else 0

    async def run(self) -> None:
        """Tell and hear; never raises for a lost store."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tell())
                group.create_task(self._hear())
        finally:
            self._thread.shutdown()  # what it does with the tables ends before they are given back
            self._sweeper.close()
            if self._taken_over is not None:
                self._taken_over.close()
            await self._stream.close()

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        swept_s = loop.time()
        while True:
            await asyncio.sleep(max(swept_s + self._settings.sweep_s - loop.time(), 0))
            since_s, swept_s = loop.time() - swept_s, loop.time()
            shared = self._find_shared()
            if shared is None:
                continue
            if not self._untold:
                found = await self._in_thread(lambda: self._sweep(shared, since_s))  # noqa: B023
                self._untold = [self._batch(shared, news) for news in found]
            if not self._untold:
                continue
            try:
                await self._stream.append([encode(one) for one in self._untold], shared.bounds)
            except StoreUnavailable as error:
                self._lose("tell", str(error))
                await asyncio.sleep(RETRY_S)
            else:
                self.told += sum(batch.count for batch in self._untold)
                self._untold = []
                self._is_back("tell")

    async def _hear(self) -> None:
        last = BEGINNING
        while True:
            if self._find_shared() is None:
                await asyncio.sleep(self._settings.sweep_s)
                continue
            try:
                if "hear" in self._troubles and order(await self._stream.newest()) < order(last):
                    last = BEGINNING  # another stream than the one that was read
                found = await self._stream.read_after(last)
            except StoreUnavailable as error:
                self._lose("hear", str(error))
                await asyncio.sleep(RETRY_S)
                continue
            self._is_back("hear")
            for message_id, message in found:
                await self._take(message)
                last = message_id

    async def _take(self, message: Message) -> None:
        """Enter what one message says, unless it is our own."""
        try:
            batch = decode(message)
        except MalformedBatchError:
            self.malformed += 1
            return
        shared = self._find_shared()
        if shared is None or (batch.edge, batch.run) == (self._settings.edge, self._settings.run):
            return
        self._count_missed(batch)
        targets = [shared.indexes.get(name, 0) for name in batch.names]
        self.outcome += await self._in_thread(
            lambda: self._table().take(batch.flows, targets, shared.seats, self._sweeper.tables)
        )

    def _sweep(self, shared: Shared, since_s: float) -> list[News]:
        """What is news now; and what is too old in the table of others' flows goes."""
        held = self._datapath.held
        if held is not None:  # else a plan is being applied: the tables of before will do
            tables = {vip.memory.table for vip in held.vips if vip.shares_flows}
            memory, flows = self._datapath.flow_memory, self._datapath.program.maps["flows"]
            self._sweeper.watch(flows, (at for table in tables for at in memory.indexes(table)))
        share = min(since_s / self._settings.refresh_s, 1.0)
        self._table().expire(shared.seats, share)
        return self._sweeper.sweep(shared.seats, ticks_now(), share=share, most=BATCHES_AT_ONCE)

    def _table(self) -> TakenOver:
        if self._taken_over is None:
            self._taken_over = TakenOver(self._datapath.program, self._settings.flows)
        return self._taken_over

    def _batch(self, shared: Shared, news: News) -> Batch:
        self._number += 1
        return Batch(
            edge=self._settings.edge,
            run=self._settings.run,
            number=self._number,
            names=tuple(shared.names[real] for real in news.reals),
            flows=news.flows,
        )

    def _find_shared(self) -> Shared | None:
        """The shared reals of the plan in force; None where no VIP shares its flows."""
        fleet, plan = self._planned()
        if plan is None:
            return None
        if self._of_plan is None or self._of_plan[0] is not fleet or self._of_plan[1] is not plan:
            self._of_plan = fleet, plan
            self._shared = shared_reals(fleet, plan, self._settings)
        return self._shared if self._shared is not None and self._shared.names else None

    def _count_missed(self, batch: Batch) -> None:
        run, expected = self._heard.get(batch.edge, (batch.run, batch.number))
        if run != batch.run:
            expected = batch.number
        self.batches_missed += max(batch.number - expected, 0)
        if len(self._heard) >= EDGES_MAX:
            self._heard.clear()
        self._heard[batch.edge] = batch.run, max(batch.number + 1, expected)

    def _lose(self, doing: str, trouble: str) -> None:
        if not self._troubles:
            self._events.add("share.lost", reason=trouble)
        self._troubles[doing] = trouble

    def _is_back(self, doing: str) -> None:
        if self._troubles.pop(doing, "") and not self._troubles:
            self._events.add("share.back", missed=str(self.batches_missed))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
