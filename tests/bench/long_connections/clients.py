"""The client's side of each way: one process of hold.c, and what it has said so far.

Owns the reading of its lines. The connections are in C, so that thousands of them cost the two
cores little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from subprocess import PIPE

from long_connections.files import PORT
from long_connections.modes import Mode
from long_connections.verdict import UNKNOWN, Broken
from long_connections.world import World

SILENT_S = 12.0  # without an echo for so long, a connection is broken
STOP_S = 2 * SILENT_S + 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """How many connections there are, how soon, and how long each lives."""

    count: int
    ramp_s: float
    shortest_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Sum:
    """Connections now, and since the start. `late` got no answer to their SYN."""

    open: int = 0
    ended: int = 0
    broken: int = 0
    refused: int = 0
    late: int = 0


class Client:
    """The connections to one VIP; they begin with the constructor."""

    def __init__(self, world: World, mode: Mode, lives: Lives, seed: int) -> None:
        self.mode = mode
        self.name = f"client-{mode.name}"
        self._said = world.folder / f"{mode.name}.said"
        words = [mode.address, PORT, lives.count, lives.ramp_s, lives.shortest_s, lives.longest_s]
        words += [SILENT_S, seed]
        with self._said.open("wb") as said:
            self._process = world.start(
                self.name,
                "client",
                world.tool,
                "open",
                *map(str, words),
                stdin=PIPE,
                stdout=said,
            )

    def stop(self) -> None:
        """Ask it to close all in good order."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> None:
        """Until all are closed, or broken."""
        if self._process.wait(STOP_S):
            raise RuntimeError(f"the client of {self.mode.name} failed")

    def sum(self) -> Sum:
        """The latest second's."""
        lines = [words for words in self._lines() if words[0] == "S"]
        return Sum(*map(int, lines[-1][1:])) if lines else Sum()

    def longest_pause_s(self) -> float:
        """That any echo was waited for; known when it has stopped."""
        return max((float(words[1]) for words in self._lines() if words[0] == "E"), default=0.0)

    def broken(self) -> tuple[Broken, ...]:
        """All broken ones so far."""
        return tuple(
            Broken(
                real=UNKNOWN if real == "-" else f"real{real}",
                opened_s=float(opened),
                ended_s=float(ended),
                how=how,
                port=int(port),
            )
            for kind, *rest in self._lines()
            if kind == "B"
            for real, opened, ended, how, port in [rest]
        )

    def worries(self) -> tuple[int, ...]:
        """The ports of all that have waited for an echo for long, at some time."""
        return tuple(int(words[3]) for words in self._lines() if words[0] == "W")

    def _lines(self) -> Iterator[list[str]]:
        text = self._said.read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():
            yield line.split()
