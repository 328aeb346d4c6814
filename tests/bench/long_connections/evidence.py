"""What is known of a connection at the moment when it says nothing, or has just broken.

Owns the questions: whose sockets there are, where the router, each edge and its owner chain would
send a packet of it now, which reals an edge holds for dead, and what passes for some seconds. Asked
by trial.py for the few connections that are about to break without a right; changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from long_connections.files import PORT, address
from long_connections.modes import Mode
from long_connections.world import World

LOOKS_MAX = 24  # of a run: each costs a second of work
WATCHED_S = 4  # what passes is watched for so long
WATCHED_LINES = 12
SERVING = "UP"


class Witness:
    """Looks at connections of one run, one after another, beside all that goes on."""

    def __init__(self, world: World, edges: Callable[[], Collection[str]]) -> None:
        self._world = world
        self._edges = edges
        self._looks: dict[tuple[str, int], Future[list[str]]] = {}
        self._worker = ThreadPoolExecutor(max_workers=2)

    def look(self, mode: Mode, port: int, *, passing: bool) -> None:
        """At the connection from this port, unless there were too many; `passing` packets too."""
        key = mode.name, port
        if key not in self._looks and len(self._looks) < LOOKS_MAX:
            self._looks[key] = self._worker.submit(self._find, mode, port, passing=passing)

    def found(self, mode: Mode, port: int) -> list[str]:
        """What was seen of it, in lines; waits for it."""
        look = self._looks.get((mode.name, port))
        return look.result() if look is not None else []

    def _find(self, mode: Mode, port: int, *, passing: bool) -> list[str]:
        lines = [f"client: {self._sockets('client', f'sport = :{port}')}", self._route(mode, port)]
        for edge in sorted(self._edges()):
            lines += self._edge(edge, mode, port)
        holders = []
        for real in self._world.wanted.reals:
            if sockets := self._sockets(real, f"dst {address('client')}:{port}"):
                holders.append(real)
                lines.append(f"{real}: {sockets}")
        if passing:
            with ThreadPoolExecutor() as watchers:
                for told in watchers.map(
                    lambda host: self._passing(host, port), ["client", *holders]
                ):
                    lines += told
        return lines

    def _sockets(self, host: str, which: str) -> str:
        told = self._world.told(host, "ss", "-tanoiOH", which)
        return " | ".join(" ".join(line.split()) for line in told.splitlines())

    def _route(self, mode: Mode, port: int) -> str:
        flow = ("ipproto", "tcp", "sport", str(port), "dport", str(PORT))
        words = ("ip", "route", "get", mode.address, "from", address("client"), "iif", "client")
        return f"router: {' '.join(self._world.told('router', *words, *flow).split())}"

    def _edge(self, edge: str, mode: Mode, port: int) -> list[str]:
        flow = f"from={address('client')}:{port}&to={mode.address}:{PORT}"
        try:
            trace = self._world.ask(edge, f"/trace?{flow}")
            reals = self._world.ask(edge, "/reals")["reals"]
        except OSError as error:
            return [f"{edge}: {error}"]
        keys = ("verdict", "remembered_real", "slot", "ring_real", "earlier", "real", "candidates")
        lines = [f"{edge}: {', '.join(f'{key} {trace[key]}' for key in keys)}"]
        lines += [
            f"{edge}: {row['name']} is {row['state']}: {row['reason']}"
            for row in reals
            if row["vip"] == mode.name and row["state"] != SERVING
        ]
        return lines

    def _passing(self, host: str, port: int) -> list[str]:
        words = ("timeout", str(WATCHED_S), "tcpdump", "-nnlSi", "eth0", "tcp", "port", str(port))
        told = ""
        with suppress(OSError):
            told = self._world.told(host, *words)
        return [f"{host}: {line}" for line in told.splitlines()[:WATCHED_LINES]]
