"""One worker process of the HTTPS service: `python -m httpdns.worker ORDERS`, started by `crew`.

Owns the life of the process: follow the store, keep the World true, serve, drain. It inherits its
socket and certificate and never opens either; it ends when its parent does.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import resource
import shutil
import signal
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from random import Random

import msgspec
import uvloop

from gslb.answer import Answerer
from gslb.fleet.model import Address
from gslb.fleet.snapshot import Snapshot
from gslb.fleet.store import Store, StoreUnavailable
from gslb.geo import Locator
from gslb.query import OUTCOMES
from gslb.render import Rendered, compile_answers
from gslb.service import log
from gslb.service.follow import FleetFollower
from gslb.service.lifecycle import Part, guarded, live
from gslb.service.metrics import CounterRow, CounterTable
from gslb.service.stores import open_store
from gslb.subset import Chance
from httpdns.app import App, World
from httpdns.caller import Callers
from httpdns.front import CALLER_GONE, CONNECTIONS_MAX, Doorway, Front
from httpdns.protocol import Outcome
from httpdns.resolve import Resolver
from httpdns.settings import Settings, load_settings

FIRST_READ_S = 1.0  # so long a new worker waits for the store before it serves what it has
_OTHER_FILES = 512  # store, logs, libraries
DRAIN_S = 10.0  # so long a request under way may take
COUNTERS = (*Outcome, *(f"dns_{outcome.value}" for outcome in OUTCOMES))
"""The columns of the counter table: what became of requests, then of DNS messages in them."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent tells a worker at its start. `*_fd` are inherited file descriptors."""

    settings_fd: int
    row: int  # of the counter table
    rows: int
    listen_fd: int
    certificate_fd: int
    key_fd: int
    ready_fd: int  # one byte is written once requests are served
    lifeline_fd: int  # reads end-of-file once the parent is gone


def version() -> str:
    """The version of this distribution, as people see it."""
    try:
        return package_version("waypost")
    except PackageNotFoundError:
        return "0+source"


def give_settings(settings: Settings) -> bytes:
    """The checked configuration as the parent hands it to a worker, whatever is on disk by then."""
    return pickle.dumps(settings)


def take_settings(fd: int) -> Settings:
    """What `give_settings` gave, from an inherited file."""
    with open(f"/proc/self/fd/{fd}", "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        settings = pickle.load(file)
    assert isinstance(settings, Settings), "only the parent writes this file"
    return settings


def counter_table(state_dir: Path, rows: int) -> CounterTable:
    """The counters that all workers and the parent share, as a file in `state_dir`."""
    return CounterTable(COUNTERS, rows, state_dir / "https.counters")


class Truth:
    """Keeps the World of an App true to the snapshot and the configuration."""

    def __init__(self, settings: Settings, counters: CounterRow) -> None:
        self._settings = settings
        self._locator = Locator(settings.fleet)
        self._counters = counters
        self._table: Rendered | None = None
        self.app: App | None = None

    def world(self, snapshot: Snapshot) -> World:
        """What to answer from under this snapshot."""
        if self._table is not None and self._table.fleet is not snapshot.fleet:
            self._locator = Locator(snapshot.fleet)
        table = compile_answers(snapshot, self._locator, self._table)
        self._table = table
        inner = Answerer(table)

        def ask_dns(query: bytes, client: Address, rng: Chance) -> bytes | None:
            return inner.answer(query, client, tcp=True, rng=rng)

        return World(
            resolver=Resolver(snapshot, self._locator, ask_dns),
            answerer=Answerer(table, count=self._count_dns),
            callers=Callers(self._settings.trusted),
            names_max=self._settings.names_max,
            generation=snapshot.generation,
        )

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Answer from a newer snapshot."""
        if self.app is not None:
            self.app.install(self.world(snapshot))

    def replace_settings(self, settings: Settings) -> None:
        """Answer by a reloaded configuration from the next World on."""
        self._settings = settings

    def _count_dns(self, place: int) -> None:
        self._counters.add(len(Outcome) + place)


class Lifeline:
    """Ends this process, gently, once its parent is gone; a Part."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def run(self) -> None:
        """Wait for the end of the pipe."""
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        os.set_blocking(self._fd, False)
        loop.add_reader(self._fd, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(self._fd)
        log.get().warning("parent.gone")
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()


class Serving:
    """Opens the front and tells the parent; a Part."""

    def __init__(self, front: Front, ready_fd: int) -> None:
        self._front = front
        self._ready_fd = ready_fd

    async def run(self) -> None:
        """Serve until cancelled."""
        self._front.open()
        os.write(self._ready_fd, b"1")
        os.close(self._ready_fd)
        await asyncio.Event().wait()


async def serve(orders: Orders, settings: Settings) -> None:
    """The worker's life."""
    state_path = _warm_copy(settings.state_dir, orders.row)
    counters = counter_table(settings.state_dir, orders.rows).row(orders.row)
    truth = Truth(settings, counters)
    store = open_store(settings.store)
    follower = FleetFollower(
        settings.fleet,
        store,
        state_path=state_path,
        on_snapshot=truth.on_snapshot,
    )
    await _first_read(store, follower)
    app = App(
        truth.world(follower.snapshot),
        counters=counters,
        rng=Random(),
        store_lost=lambda: bool(follower.store_trouble),
        gone=CALLER_GONE,
        version=version(),
    )
    truth.app = app
    doorway = Doorway(
        listen_fd=orders.listen_fd, certificate_fd=orders.certificate_fd, key_fd=orders.key_fd
    )
    front = Front(doorway, app)

    def reload() -> None:
        fresh = load_settings(settings.path)
        truth.replace_settings(fresh)
        follower.replace_fleet(fresh.fleet)
        app.install(truth.world(follower.snapshot))

    async def drain() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await front.drain()

    parts: list[Part] = [
        follower,
        Serving(front, orders.ready_fd),
        Lifeline(orders.lifeline_fd),
    ]
    await live(parts, reload=reload, drain=drain)
    await store.close()


async def _first_read(store: Store, follower: FleetFollower) -> None:
    """See the store before the first request, so that a start does not answer what is down.

    A store that is away delays the start by a second and no more.
    """
    with suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(FIRST_READ_S):
            follower.take(await store.read())


def _warm_copy(state_dir: Path, row: int) -> Path:
    """This worker's copy of what the store held, begun from the parent's.

    A worker that starts while the store is away must know what its predecessor knew.
    """
    path = state_dir / f"https-{row}.state"
    with suppress(OSError):
        shutil.copyfile(state_dir / "https.state", path)
    return path


def _allow_connections() -> None:
    """Raise the limit of open files to what the front may hold, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + _OTHER_FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def main() -> int:
    """Serve by the orders on the command line."""
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    settings = take_settings(orders.settings_fd)
    log.setup("https", settings.host.log_level)
    _allow_connections()
    uvloop.run(serve(orders, settings))
    # granian's threads may still hold a stalled connection, which is not worth waiting for.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(guarded(main))
