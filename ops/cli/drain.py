"""The drain of a real, watched until nothing is left on it.

Owns what is shown meanwhile: one line that is written over on a terminal, else a line for each
change. Called by `ops.cli.real` after the drain was told. Whatever ends the watch, the drain
stands; an edge whose agent restarts meanwhile is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gslb.fleet.views import DrainRow, Drains
from gslb.service.lifecycle import ExitCode, Refused
from ops.cli import tables
from ops.cli.client import AdminClient
from ops.cli.seat import Seat
from ops.cli.tables import Style

LOOK_S = 1.0
FIRST_S = 10.0  # a first count takes about five seconds; this long a terminal waits for it
_WRITE_OVER = "\r\x1b[K"


@dataclass(slots=True)
class Watch:
    """One drain as it goes on. `look` shows it anew, `end` ends a line that was written over."""

    here: Seat
    client: AdminClient
    name: str
    shown: DrainRow | None = None

    def look(self) -> DrainRow:
        """How the drain is now; as it was if the edge is silent. Refused if it was withdrawn."""
        try:
            view = self.client.show("/drains", Drains).view
        except Refused as error:
            if self.shown is None or error.code is not ExitCode.UNREACHABLE:
                raise
            return self.shown
        row = next((row for row in view.drains if row.name == self.name), None)
        if row is None:
            raise Refused(ExitCode.FAILED, f"the drain of {self.name} was withdrawn meanwhile")
        if self.here.json:
            if row != self.shown:
                self.here.say_json(msgspec.structs.replace(view, drains=(row,)))
        else:
            line = draw_drain(row, self.here.now_s(), self.here.style)
            if self.here.is_terminal:
                self.here.say(_WRITE_OVER + line)
            elif row != self.shown:
                self.here.say(line + "\n")
        self.shown = row
        return row

    def end(self) -> None:
        """Leave the line that was written over."""
        if self.shown is not None and self.here.is_terminal and not self.here.json:
            self.here.say("\n")


def watch_until_quiet(here: Seat, client: AdminClient, name: str, *, at_most_s: float) -> None:
    """Until no flow is left. Refused(TIMEOUT) if there are some after so long."""
    row = _watch(here, client, name, at_most_s, lambda row: row.is_quiet)
    if not row.is_quiet:
        text = f"{name} is not quiet after {tables.age(at_most_s)}: {row.words}; the drain stands"
        raise Refused(ExitCode.TIMEOUT, text)
    if not here.json:
        here.say(f"{name} is drained: no flow left\n")


def watch_first_count(here: Seat, client: AdminClient, name: str) -> None:
    """Until it is known what is left, or it is clear that nobody counts."""
    _watch(here, client, name, FIRST_S, lambda row: row.flows >= 0)


def _watch(
    here: Seat,
    client: AdminClient,
    name: str,
    at_most_s: float,
    is_done: Callable[[DrainRow], bool],
) -> DrainRow:
    watch = Watch(here, client, name)
    end_s = time.monotonic() + at_most_s
    try:
        while True:
            row = watch.look()
            if is_done(row) or time.monotonic() >= end_s:
                return row
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        text = f"the drain of {name} stands; `waypost real undrain {name}` ends it"
        raise Refused(ExitCode.INTERRUPTED, text) from None
    finally:
        watch.end()


def draw_drain(row: DrainRow, now_s: float, style: Style) -> str:
    """One line without its end: what is left, the oldest of it, and since when it drains."""
    facts = [f"{row.name}: {row.words}"]
    if row.oldest_s > 0:
        facts.append(f"the oldest {tables.age(now_s - row.oldest_s)}")
    facts.append(f"drained for {tables.age(now_s - row.at_s)}")
    line = ", ".join(facts)
    return line if style.width is None else line[: style.width - 1]
